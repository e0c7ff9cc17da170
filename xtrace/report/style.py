"""The page's style sheet: light and dark by the reader's system, narrow screens, print."""

CSS = """
:root{color-scheme:light dark;--bg:#fcfcfd;--fg:#1b1f27;--dim:#59616e;--line:#d9dde4;--card:#fff;--accent:#1463b8;
--second:#b14a00;--ok:#176b35;--warn:#8a5a00;--bad:#b3202c}
@media(prefers-color-scheme:dark){:root{--bg:#12151b;--fg:#e7eaf0;--dim:#a0a9b8;--line:#323947;--card:#1a1f28;
--accent:#6fb1ff;--second:#ffab6b;--ok:#6fd08c;--warn:#f0c04f;--bad:#ff8a8f}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:74rem;padding:1.25rem;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.25rem 0 .6rem;padding-top:.9rem;border-top:1px solid var(--line);overflow-wrap:anywhere}
h3{font-size:1rem;margin:1.4rem 0 .4rem}
p{margin:.4rem 0}.dim,.note,caption,figcaption{color:var(--dim)}.note{font-size:.88rem}
a{color:var(--accent)}a:focus-visible,.scroll:focus-visible,summary:focus-visible{outline:2px solid var(--accent);
outline-offset:2px}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:.5rem;background:var(--card);padding:.3rem .6rem}
nav ul,.tiles,.legend,.findings{list-style:none;margin:.6rem 0;padding:0;display:flex;flex-wrap:wrap;gap:.4rem 1rem}
.tiles{gap:.6rem}.tiles li{flex:1 1 9rem;background:var(--card);border:1px solid var(--line);border-radius:.5rem;
padding:.55rem .75rem}.tiles b{display:block;font-size:1.3rem;font-weight:600;font-variant-numeric:tabular-nums}
.tiles span{color:var(--dim);font-size:.85rem}
.findings{display:block}.findings li{padding:.3rem .6rem;margin:.3rem 0;border-left:4px solid var(--ok);
background:var(--card);overflow-wrap:anywhere}.findings li.warn{border-color:var(--warn)}
.findings li.bad{border-color:var(--bad)}.findings b{margin-right:.4rem}
.ok b,b.ok{color:var(--ok)}.warn b,b.warn{color:var(--warn)}.bad b,b.critical{color:var(--bad)}
.scroll{overflow-x:auto;margin:.5rem 0}
table{border-collapse:collapse;font-size:.9rem}
caption{text-align:left;padding:.25rem 0;font-size:.9rem}
th,td{padding:.22rem .7rem .22rem 0;text-align:left;font-weight:400;border-bottom:1px solid var(--line);
vertical-align:top}
thead th{color:var(--dim);white-space:nowrap}tbody th,tbody td{font-variant-numeric:tabular-nums}
td.n,th.n{text-align:right;white-space:nowrap}.flow{overflow-wrap:anywhere;min-width:11rem;display:inline-block}
tr.sum th,tr.sum td{font-weight:600}.unknown{color:var(--dim);font-style:italic}
.share{white-space:nowrap}.bar{display:inline-block;width:5rem;height:.6rem;background:var(--line);border-radius:.2rem;margin-right:.5rem;
overflow:hidden}.bar i{display:block;height:100%;background:var(--accent)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1rem}
.chart{margin:.5rem 0;max-width:46rem}.chart>svg{display:block;width:100%;height:auto}
.chart text{fill:var(--dim);font-size:11px}.grid{stroke:var(--line)}
.chart path,.legend path{fill:none;stroke-width:1.8;stroke-linejoin:round}
.s0,.s0 path{stroke:var(--accent)}.s1,.s1 path{stroke:var(--second);stroke-dasharray:5 3}
circle.s0{fill:var(--accent)}circle.s1{fill:var(--second)}
.legend{display:inline-flex;margin:0 0 0 .8rem}.legend svg{width:1.5rem;height:.5rem;margin-right:.3rem}
.matrix td{background:color-mix(in srgb,var(--accent) calc(var(--depth,0%)*.45),transparent);padding:.22rem .5rem;
border:1px solid var(--line)}.matrix th{padding-right:.6rem}.number{display:inline-block;min-width:1.5rem;
color:var(--dim)}
summary{cursor:pointer;color:var(--dim);font-size:.88rem}
footer{margin-top:2.5rem;padding-top:.8rem;border-top:1px solid var(--line);color:var(--dim);font-size:.88rem}
@media(max-width:30rem){body{padding:.8rem}h1{font-size:1.3rem}.legend{display:flex;margin:.2rem 0}
.chart text{font-size:15px}.bar{width:2.5rem}}
@media screen and (max-width:40rem){.stacks,.stacks caption,.stacks tbody{display:block}
.stacks thead{position:absolute;left:-99rem}
.stacks tr{display:flex;flex-wrap:wrap;gap:0 .9rem;padding:.3rem 0;border-bottom:1px solid var(--line)}
.stacks tr>*{border:0;padding:0;text-align:left}.stacks tr>th{flex:1 1 100%;overflow-wrap:anywhere}
.stacks td{white-space:normal}.stacks td:empty{display:none}
.stacks td::before{content:attr(data-label) " ";color:var(--dim);font-size:.78rem}}
@media print{:root{--bg:#fff;--fg:#000;--dim:#444;--line:#bbb;--card:#fff;--accent:#1463b8;--second:#b14a00}
body{max-width:none;padding:0;font-size:10pt}nav,.skip,details{display:none}.scroll{overflow:visible}
section,figure,tr{break-inside:avoid}h2{break-after:avoid}section.long{break-inside:auto}
.bar,.bar i,.matrix td{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""

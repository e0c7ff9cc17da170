"""The command line and the environment: what each option does, which goes first, what is refused and how."""

from __future__ import annotations

import ast
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from xtrace.config import Config, RdmaConfig, parse
from xtrace.errors import UsageError
from xtrace.kernel.syscall import lib
from xtrace.model.filters import Filters, parse_networks
from xtrace.model.rdma_limits import LIMITS
from xtrace.model.thresholds import THRESHOLDS
from xtrace.options import usage
from xtrace.options.command_line import Answered
from xtrace.options.table import OPTIONS
from xtrace.target import IMPORT_PATH, Target

PACKAGE = Path(__file__).parents[2] / "xtrace"


def parsed(arguments: str = "", **environment: str) -> Config:
    return parse(arguments.split(), environment, "1.2.3")


def refusal(arguments: list[str], environment: dict[str, str] | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        parse(arguments, environment or {}, "1.2.3")
    return str(caught.value)


def test_without_arguments_mode_xdp_of_the_default_interface_every_five_seconds() -> None:
    assert parsed() == Config(
        modes=("xdp",),
        interfaces=(),
        interval_ms=5000,
        output="auto",
        count=0,
        top=None,
        max_flows=lib.DEFAULT_MAX_FLOWS,
        hook="auto",
        xdp_mode="auto",
        direction=None,
        filters=Filters(),
        rdma=RdmaConfig(),
        host=socket.gethostname(),
        host_ip=None,
        collect_agg=None,
        labels=(),
        target=None,
        push_warning=None,
        max_series=1000,
        series_by="flow",
        metrics="all",
        spool=None,
        ipfix=None,
        ipfix_biflow=False,
        listen=None,
        listen_config=None,
        list_interfaces=False,
        debug=False,
    )


CHANGED_LIMITS = {
    **LIMITS,
    "rx_oos": LIMITS["rx_oos"]._replace(warn=5.0, critical=None),
    "paused": LIMITS["paused"]._replace(warn=None, critical=None),
}
NETWORKS = parse_networks("10.0.0.0/8,fd00::/8", "--net")
EFFECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "-m": ("xdp", {}),
    "--mode": ("xdp", {}),
    "-i": ("eth1", {"interfaces": ("eth1",)}),
    "--interface": ("eth1,ib*,any", {"interfaces": ("eth1", "ib*", "any")}),
    "-t": ("1s", {"interval_ms": 1000}),
    "--interval": ("250", {"interval_ms": 250}),
    "-o": ("json", {"output": "json"}),
    "--format": ("text", {"output": "text"}),
    "-c": ("3", {"count": 3}),
    "--count": ("1", {"count": 1}),
    "--top": ("7", {"top": 7}),
    "--live": ("", {"output": "live", "interval_ms": 1000}),
    "--color": ("never", {"color": "never"}),
    "--wide": ("", {"wide": True}),
    "-q": ("", {"quiet": True}),
    "--doctor": ("", {"doctor": True}),
    "--quiet": ("", {"quiet": True}),
    "--max-flows": ("10240", {"max_flows": 10240}),
    "--direction": ("both", {"direction": "both"}),
    "--hook": ("tc", {"hook": "tc"}),
    "--xdp-mode": ("generic", {"xdp_mode": "generic"}),
    "-f": ("tcp,roce_v2", {"filters": Filters(types=frozenset({"TCP", "RoCE_v2"}))}),
    "--filter": ("ib", {"filters": Filters(types=frozenset({"RoCE_v1_IBoE", "RoCE_v2"}))}),
    "--net": ("10.0.0.0/8,fd00::/8", {"filters": Filters(networks=NETWORKS)}),
    "--exclude-net": ("10.0.0.0/8,fd00::/8", {"filters": Filters(excluded_networks=NETWORKS)}),
    "--port": ("53,443", {"filters": Filters(ports=frozenset({53, 443}))}),
    "--exclude-dns": ("", {"filters": Filters(exclude_dns=True)}),
    "--tunnel": ("inner", {"filters": Filters(inner=True)}),
    "--push": (
        "http://m:8428",
        {"target": Target(f"http://m:8428{IMPORT_PATH}", f"http://m:8428{IMPORT_PATH}")},
    ),
    "--push-format": (
        "remote-write",
        {"target": Target("http://m/api/v1/write", "http://m/api/v1/write", "remote-write")},
    ),
    "--metrics": ("counters", {"metrics": "counters"}),
    "--spool": ("/var/spool/x:2M", {"spool": ("/var/spool/x", 2 << 20)}),
    "--ipfix": ("tcp:[fd00::1]:4739", {"ipfix": ("tcp", "fd00::1", 4739)}),
    "--ipfix-biflow": ("", {"ipfix_biflow": True}),
    "--listen": ("unix:/run/x.sock", {"listen": "/run/x.sock"}),
    "--listen-config": ("web.yml", {"listen_config": "web.yml"}),
    "--max-series": ("7", {"max_series": 7}),
    "--series-by": ("service", {"series_by": "service"}),
    "--label": ("rack=r1", {"labels": (("rack", "r1"),)}),
    "-d": ("mlx5_0", {"rdma": RdmaConfig(devices=("mlx5_0",))}),
    "--device": ("mlx5_0,rxe*", {"rdma": RdmaConfig(devices=("mlx5_0", "rxe*"))}),
    "--exclude-device": ("mlx5_bond_0", {"rdma": RdmaConfig(excluded=("mlx5_bond_0",))}),
    "--promiscuous": ("", {"promiscuous": True}),
    "--qps": ("", {"rdma": RdmaConfig(every_queue_pair=True)}),
    "--threshold": ("rx_oos=5:off,paused=off", {"rdma": RdmaConfig(limits=CHANGED_LIMITS)}),
    "--owners": ("", {"owners": True}),
    "--by": ("owner", {"by": "owner"}),
    "--tcp": ("", {"tcp": {name: limit for name, limit in THRESHOLDS.items() if name.startswith("tcp_")}}),
    "--tcp-packets": (
        "",
        {"tcp_packets": {name: limit for name, limit in THRESHOLDS.items() if name.startswith("tcp_")}},
    ),
    "--user": ("7:8", {"user": (7, 8, ())}),
    "--sysfs": ("/s", {"sysfs": "/s"}),
    "--procfs": ("/p", {"procfs": "/p"}),
    "-l": ("", {"list_interfaces": True}),
    "--list": ("", {"list_interfaces": True}),
    "--max-calls": ("700", {"max_calls": 700}),
    "--debug": ("", {"debug": True}),
}
"""Option, a value for it, what it changes in the Config."""

ENDS = {"-V", "--version", "-h", "--help", "--help-all"}


WITH_MODE = {"--ras", "--ras-interval"}
"""Options that are refused without mode nccl."""

ALL_MODES = "-m xdp,rdma,nccl"


@pytest.mark.parametrize("option", EFFECTS)
def test_option_changes_what_it_says_and_nothing_else(option: str) -> None:
    value, changed = EFFECTS[option]
    before = "" if option in ("-m", "--mode") else ALL_MODES
    if option in ("--max-series", "--series-by", "--metrics", "--push-format", "--spool"):
        before += " --push http://m"
    if option == "--ipfix-biflow":
        before += " --ipfix h:7"
    if option == "--listen-config":
        before += " --listen h:7"
    if option == "--by":
        before += " --owners"
    assert parsed(f"{before} {option} {value}")._asdict() == {**parsed(before)._asdict(), **changed}


@pytest.mark.parametrize(
    "mode, option, users, advice",
    [
        *(
            ("rdma", option, "xdp", "rdma,xdp")
            for option in (
                "--filter=tcp", "--net=10.0.0.0/8", "--exclude-net=10.0.0.0/8", "--port=53", "--exclude-dns",
                "--max-flows=10240", "--direction=both", "--hook=tc", "--xdp-mode=generic", "--promiscuous",
                "--tunnel=inner",
            )
        ),
        ("rdma", "--top=5", "xdp or nccl", "rdma,xdp"),
        ("rdma", "--tcp", "xdp", "rdma,xdp"),
        ("rdma", "--owners", "xdp", "rdma,xdp"),
        ("rdma", "--tcp-packets", "xdp", "rdma,xdp"),
        ("rdma", "--max-series=5", "xdp", "rdma,xdp"),
        ("rdma", "--series-by=hosts", "xdp", "rdma,xdp"),
        ("xdp", "--threshold=rx_oos=5", "rdma or nccl", "xdp,rdma"),
        ("xdp", "--qps", "rdma", "xdp,rdma"),
        ("nccl", "--qps", "rdma", "nccl,rdma"),
        ("xdp,rdma", "--ras=h:1", "nccl", "xdp,rdma,nccl"),
        ("rdma", "--ras-interval=1m", "nccl", "rdma,nccl"),
    ],
)  # fmt: skip
def test_option_that_changes_nothing_in_the_mode_is_refused(mode: str, option: str, users: str, advice: str) -> None:
    name = option.partition("=")[0]
    assert refusal(["-m", mode, option]) == f"{name} works only in mode {users} (use -m {advice})"


@pytest.mark.parametrize(
    "options, complaint",
    [
        ("--max-series 5", "--max-series works only with --push or --listen (add --push URL)"),
        ("--push-format import", "--push-format works only with --push (add --push URL)"),
        ("--metrics counters", "--metrics works only with --push or --listen (add --push URL)"),
        ("--spool /x", "--spool works only with --push (add --push URL)"),
        ("--ipfix-biflow", "--ipfix-biflow works only with --ipfix (add --ipfix HOST:PORT)"),
        ("--ipfix h", "--ipfix: 'h' is not HOST:PORT or tcp:HOST:PORT (for example localhost:4739)"),
        ("--ipfix tcp:h", "--ipfix: 'tcp:h' is not HOST:PORT or tcp:HOST:PORT (for example localhost:4739)"),
        ("--listen-config f", "--listen-config works only with --listen (add --listen ADDR:PORT)"),
        ("--series-by hosts", "--series-by works only with --push or --listen (add --push URL)"),
        (
            "--hook xdp --direction both",
            "--hook xdp sees only ingress, not --direction both (use --hook tc or auto)",
        ),
        ("--hook tc --xdp-mode native", "--hook tc does not use XDP (leave out --xdp-mode native)"),
        ("--live -o json", "--live and --format contradict each other (leave one out)"),
        ("--live -l", "--live and --list contradict each other (leave one out)"),
        ("--live --doctor", "--live and --doctor contradict each other (leave one out)"),
        ("--by owner", "--by owner works only with --owners (add --owners)"),
        ("--listen h:7 --series-by owner", "--series-by owner works only with --owners (add --owners)"),
        (
            "--owners --tunnel inner",
            "--owners is about the packets that sockets send (leave out --tunnel inner)",
        ),
        ("--threshold tcp_rtt=5", "--threshold tcp_* works only with --tcp or --tcp-packets (add --tcp)"),
        ("--tcp --threshold tcp_late=5", "--threshold tcp_late works only with --tcp-packets (add it)"),
        ("--tcp-packets --threshold tcp_own_window=off", "--threshold tcp_own_window works only with --tcp (add it)"),
        ("--tcp-packets --hook xdp", "--tcp-packets works only at tc (leave out --hook xdp and --xdp-mode)"),
        ("--tcp-packets --xdp-mode generic", "--tcp-packets works only at tc (leave out --hook xdp and --xdp-mode)"),
        ("--tcp-packets --tunnel inner", "--tcp-packets follows the outer packets (leave out --tunnel inner)"),
        ("--direction egress --xdp-mode native", "--direction egress does not use XDP (leave out --xdp-mode native)"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: str, complaint: str) -> None:
    assert refusal(options.split()) == complaint


def test_a_given_interval_holds_for_the_full_screen_view_too() -> None:
    assert parsed("--live -t 5s").interval_ms == 5000
    assert parsed("--live", INTERVAL_MS="5000").interval_ms == 5000


def test_variables_of_other_modes_are_not_refused_as_they_are_set_for_a_fleet() -> None:
    assert parsed("-m rdma", NETWORK_INTERFACE="eth0").modes == ("rdma",)
    assert parsed("-m xdp", XTRACE_THRESHOLDS="rx_oos=5").modes == ("xdp",)


def test_every_option_is_one_of_these() -> None:
    offered = {flag for option in OPTIONS for flag in option.flags}
    assert offered == set(EFFECTS) | ENDS | WITH_MODE


def test_everything_that_can_be_asked_for_is_used() -> None:
    used = {
        node.attr
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "config"
    }
    assert set(Config._fields) - used <= {"debug"}


def test_whole_help_mentions_every_option() -> None:
    with pytest.raises(Answered) as answered:
        parsed("--help-all")
    text = str(answered.value)
    assert [option for option in (*EFFECTS, *ENDS, *WITH_MODE) if option not in text] == []


def test_every_option_has_a_help_text() -> None:
    assert [option.name for option in OPTIONS if not option.help] == []


@pytest.mark.parametrize(
    "text",
    ["MONITOR_MODE", "NETWORK_INTERFACE", "INTERVAL_MS", "5s", "65536", "native or generic", "any", "sudo", "77"],
)
def test_whole_help_shows_variables_defaults_and_exit_codes(text: str) -> None:
    assert text in usage.complete()


@pytest.mark.parametrize("text", [usage.short(), usage.complete()])
def test_help_fits_a_terminal(text: str) -> None:
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.endswith("\n") and not text.endswith("\n\n")


def test_short_help_fits_one_screen_and_names_the_main_options_and_where_the_others_are() -> None:
    with pytest.raises(Answered) as answered:
        parsed("-h")
    lines = str(answered.value).splitlines()
    assert len(lines) <= 24
    shown = {flag for line in lines for flag in re.findall(r"(?<![\w-])--?[a-z][\w-]*", line[:30])}
    assert shown == {flag for option in OPTIONS if option.is_main for flag in option.flags}
    assert "--help-all" in shown


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version_is_answered(option: str) -> None:
    with pytest.raises(Answered, match=r"^xtrace-catch 1\.2\.3\n$"):
        parsed(option)


@pytest.mark.parametrize(
    "arguments, environment, field, expected",
    [
        ("", {"NETWORK_INTERFACE": "eth1"}, "interfaces", ("eth1",)),
        ("", {"NETWORK_INTERFACE": "eth1,ib*"}, "interfaces", ("eth1", "ib*")),
        ("-i eth2", {"NETWORK_INTERFACE": "eth1"}, "interfaces", ("eth2",)),
        ("-i eth2", {"NETWORK_INTERFACE": "eth1,"}, "interfaces", ("eth2",)),
        ("", {"NETWORK_INTERFACE": ""}, "interfaces", ()),
        ("", {"INTERVAL_MS": "1000"}, "interval_ms", 1000),
        ("", {"INTERVAL_MS": "2s"}, "interval_ms", 2000),
        ("-t 3s", {"INTERVAL_MS": "1000"}, "interval_ms", 3000),
        ("-t 3s", {"INTERVAL_MS": "nonsense"}, "interval_ms", 3000),
        ("", {"INTERVAL_MS": ""}, "interval_ms", 5000),
        ("", {"MONITOR_MODE": "xdp"}, "modes", ("xdp",)),
        ("-m xdp", {"MONITOR_MODE": "nonsense"}, "modes", ("xdp",)),
        ("", {"MONITOR_MODE": ""}, "modes", ("xdp",)),
        ("", {"XTRACE_HOST": "rack7"}, "host", "rack7"),
        ("", {"XTRACE_HOST": ""}, "host", socket.gethostname()),
    ],
)
def test_command_line_goes_before_environment_before_default(
    arguments: str, environment: dict[str, str], field: str, expected: object
) -> None:
    assert getattr(parsed(arguments, **environment), field) == expected


@pytest.mark.parametrize(
    "text, milliseconds",
    [
        ("100", 100),
        ("100ms", 100),
        ("0.1s", 100),
        ("1s", 1000),
        ("2.5s", 2500),
        ("1m", 60_000),
        ("0.5m", 30_000),
        ("1h", 3_600_000),
        ("60m", 3_600_000),
        ("3600000", 3_600_000),
        (" 5s ", 5000),
        ("333.4ms", 333),
    ],
)
def test_interval(text: str, milliseconds: int) -> None:
    assert parse(["-t", text], {}, "1").interval_ms == milliseconds


@pytest.mark.parametrize("text", ["99ms", "0.09s", "2h", "61m", "9" * 5000 + "h"])
def test_interval_out_of_range_is_refused_with_the_range(text: str) -> None:
    assert refusal(["-t", text]) == f"--interval {text} is out of range (100ms to 1h)"


@pytest.mark.parametrize("text", ["0", "5", "99", "3600001", "9" * 400])
def test_plain_number_out_of_range_is_refused_with_its_unit(text: str) -> None:
    assert refusal(["-t", text]) == f"--interval {text} is out of range (100ms to 1h; a plain number is ms)"


@pytest.mark.parametrize("text", ["", "s", "fast", "5 s", "5sec", "1d", "5S", "-5s", "+5s", ".5s", "5.s", "1e3", "nan"])
def test_interval_that_is_no_duration_is_refused_with_an_example(text: str) -> None:
    complaint = f"--interval: '{text}' is not a duration (use 500ms, 5s, 1m, or milliseconds)"
    assert refusal([f"--interval={text}"]) == complaint


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["-m", "tc"], "--mode: unknown mode 'tc' (available: xdp, rdma, nccl)"),
        (["-m", ""], "--mode is empty (give a value or leave it out)"),
        (["-m", "XDP"], "--mode: unknown mode 'XDP' (available: xdp, rdma, nccl)"),
        (["-i", ""], "--interface is empty (give a value or leave it out)"),
        (["-i", "eth0,"], "--interface: empty value in 'eth0,' (remove the extra comma)"),
        (["-i", "eth0, ,eth1"], "--interface: empty value in 'eth0, ,eth1' (remove the extra comma)"),
        (["-f", "arp"],
            "--filter: unknown traffic type 'arp' (available: tcp, udp, icmp, sctp, roce_v1, roce_v2, roce, ib, all)"),
        (["-f", ""], "--filter is empty (give a value or leave it out)"),
        (["--net", "10.0.0.1/8"],
            "--net: '10.0.0.1/8' has host bits set (use 10.0.0.0/8, or 10.0.0.1 for that address only)"),
        (["--net", ""], "--net is empty (give a value or leave it out)"),
        (["--exclude-net", "eth0"],
            "--exclude-net: 'eth0' is not an IP address or network (for example 10.0.0.1, 10.0.0.0/8 or fd00::/8)"),
        (["--exclude-net", ""], "--exclude-net is empty (give a value or leave it out)"),
        (["--port", "65536"], "--port: '65536' is not a port or range (1 to 65535, 8000-8100)"),
        (["--port", "90-80"], "--port: the range '90-80' is empty (use 80-90)"),
        (["--port", ""], "--port is empty (give a value or leave it out)"),
        (["--exclude-dns=yes"], "--exclude-dns takes no value"),
        (["--hook", "ebpf"], "--hook: unknown hook 'ebpf' (available: auto, xdp, tc)"),
        (["--direction", "in"], "--direction: unknown direction 'in' (available: ingress, egress, both)"),
        (["--hook", "xdp", "--direction", "egress"],
            "--hook xdp sees only ingress, not --direction egress (use --hook tc or auto)"),
        (["--hook", "xdp", "--direction", "both"],
            "--hook xdp sees only ingress, not --direction both (use --hook tc or auto)"),
        (["--hook", "tc", "--xdp-mode", "native"], "--hook tc does not use XDP (leave out --xdp-mode native)"),
        (["--hook", "tc", "--xdp-mode", "generic"], "--hook tc does not use XDP (leave out --xdp-mode generic)"),
        (["-c", "0"], "--count 0 is out of range (1 to 2147483648)"),
        (["-c", "-1"], "--count -1 is out of range (1 to 2147483648)"),
        (["-c", "1.5"], "--count: '1.5' is not a whole number (1 to 2147483648)"),
        (["-c", ""], "--count: '' is not a whole number (1 to 2147483648)"),
        (["-c", "2147483649"], "--count 2147483649 is out of range (1 to 2147483648)"),
        (["--top", "-1"], "--top -1 is out of range (0 to 2147483648)"),
        (["--top", "all"], "--top: 'all' is not a whole number (0 to 2147483648)"),
        (["--max-flows", "0"], "--max-flows 0 is out of range (1 to 4194304)"),
        (["--max-flows", "4194305"], "--max-flows 4194305 is out of range (1 to 4194304)"),
        (["--max-flows", "64k"], "--max-flows: '64k' is not a whole number (1 to 4194304)"),
        (["-o", "xml"], "--format: unknown format 'xml' (available: auto, table, text, json, none)"),
        (["--xdp-mode", "offload"], "--xdp-mode: unknown XDP mode 'offload' (available: auto, native, generic)"),
        (["-i"], "--interface needs a value (IF[,...])"),
        (["-c"], "--count needs a value (N)"),
        (["--zzz"], "unknown option --zzz (see --help-all)"),
        (["--interfce", "eth0"], "unknown option --interfce (did you mean --interface?)"),
        (["--inter", "eth0"], "unknown option --inter (did you mean --interval?)"),
        (["--bogus"], "unknown option --bogus (see --help-all)"),
        (["--exclude-dn=1"], "unknown option --exclude-dn (did you mean --exclude-dns?)"),
        (["-x"], "unknown option -x (see --help-all)"),
        (["eth0"], "unexpected argument 'eth0' (did you mean -i eth0? see --help)"),
        (["--", "eth0"], "unexpected argument 'eth0' (did you mean -i eth0? see --help)"),
        (["rdma"], "unexpected argument 'rdma' (did you mean -m rdma? see --help)"),
        (
            ["-i", "eth0", "host", "10.0.0.1"],
            "unexpected argument 'host' (filters are options: --net, --port, --filter; see --help)",
        ),
        (["-n"], "unknown option -n (addresses and ports are always numbers; -c N ends after N intervals)"),
        (["-v"], "unknown option -v (--debug says more; -V prints the version)"),
        (["--json"], "unknown option --json (use -o json)"),
        (["-l", "--doctor"], "--list and --doctor contradict each other (leave one out)"),
        (["-q", "--debug"], "--quiet and --debug contradict each other (leave one out)"),
        (["--list=yes"], "--list takes no value"),
    ],
)  # fmt: skip
def test_wrong_value_is_refused_in_one_line_that_quotes_it(arguments: list[str], text: str) -> None:
    assert refusal(arguments) == text


@pytest.mark.parametrize(
    "environment, text",
    [
        ({"MONITOR_MODE": "sniff"}, "MONITOR_MODE: unknown mode 'sniff' (available: xdp, rdma, nccl)"),
        ({"NETWORK_INTERFACE": "eth0,"}, "NETWORK_INTERFACE: empty value in 'eth0,' (remove the extra comma)"),
        ({"NETWORK_INTERFACE": " "}, "NETWORK_INTERFACE is empty (give a value or leave it out)"),
        ({"INTERVAL_MS": "soon"}, "INTERVAL_MS: 'soon' is not a duration (use 500ms, 5s, 1m, or milliseconds)"),
        ({"INTERVAL_MS": "10"}, "INTERVAL_MS 10 is out of range (100ms to 1h; a plain number is ms)"),
    ],
)
def test_wrong_environment_variable_is_refused(environment: dict[str, str], text: str) -> None:
    assert refusal([], environment) == text


@pytest.mark.parametrize("option", ["--count", "--top", "--max-flows"])
def test_number_of_absurd_length_is_refused_as_any_other(option: str) -> None:
    assert " is out of range (" in refusal([option, "9" * 5000])


def test_empty_max_flows_is_refused() -> None:
    assert refusal(["--max-flows", ""]) == "--max-flows: '' is not a whole number (1 to 4194304)"


@pytest.mark.parametrize("count", [1, 2147483648])
def test_count_takes_its_whole_range(count: int) -> None:
    assert parsed(f"-c {count}").count == count


@pytest.mark.parametrize("flows", [1, 10240, 4194304])
def test_max_flows_takes_its_whole_range(flows: int) -> None:
    assert parsed(f"--max-flows {flows}").max_flows == flows


@pytest.mark.parametrize(
    "text, names",
    [
        ("eth0", ("eth0",)),
        ("eth0,eth1", ("eth0", "eth1")),
        (" eth0 , eth1 ", ("eth0", "eth1")),
        ("eth0,ib*,eth0", ("eth0", "ib*")),
        ("any", ("any",)),
    ],
)
def test_interfaces_are_named_by_comma_and_each_once(text: str, names: tuple[str, ...]) -> None:
    assert parse(["-i", text], {}, "1").interfaces == names


def test_as_many_interfaces_are_taken_as_there_are_slots_for() -> None:
    names = [f"eth{number}" for number in range(129)]
    assert parsed(f"-i {','.join(names[:-1])}").interfaces == tuple(names[:-1])
    assert refusal(["-i", ",".join(names)]) == (
        "--interface: 129 names are too many (at most 128; use any or a glob such as eth*)"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        "--hook xdp",
        "--hook xdp --direction ingress",
        "--hook xdp --xdp-mode native",
        "--hook xdp --xdp-mode generic",
        "--hook tc --xdp-mode auto",
        *(f"--hook {hook} --direction {way}" for hook in ("auto", "tc") for way in ("ingress", "egress", "both")),
    ],
)
def test_hook_takes_every_mode_and_direction_it_has(arguments: str) -> None:
    given = dict(zip(arguments.split()[::2], arguments.split()[1::2], strict=True))
    made = parsed(arguments)
    assert made.hook == given["--hook"]
    assert made.direction == given.get("--direction")
    assert made.xdp_mode == given.get("--xdp-mode", "auto")


def test_all_filters_are_taken_together() -> None:
    made = parsed("-f udp --net 10.0.0.0/8 --exclude-net 10.9.0.0/16 --port 4789 --exclude-dns").filters
    assert made == Filters(
        types=frozenset({"UDP"}),
        networks=parse_networks("10.0.0.0/8", "--net"),
        excluded_networks=parse_networks("10.9.0.0/16", "--exclude-net"),
        ports=frozenset({4789}),
        exclude_dns=True,
    )


def test_top_0_is_told_from_no_top() -> None:
    assert parsed("--top 0").top == 0
    assert parsed().top is None


def test_labels_of_the_option_win_over_those_of_the_variable() -> None:
    config = parse(["--label", "a=1", "--label", "b=x=y,z"], {"XTRACE_LABELS": "a=0, c=3,"}, "1")
    assert dict(config.labels) == {"a": "1", "b": "x=y,z", "c": "3"}


@pytest.mark.parametrize(
    "label",
    ["a", "=1", "a=", "1a=1", "a-b=1", "__a=1", "src_ip=1", "host=1", "interface=eth0", "a=" + 300 * "x", "", "ä=1"],
)
def test_label_that_cannot_be_one_is_refused(label: str) -> None:
    assert refusal(["--label", label]).startswith("--label")
    if label:
        assert refusal([], {"XTRACE_LABELS": f"ok=1,{label}"}).startswith("XTRACE_LABELS")


@pytest.mark.parametrize(
    "name",
    [
        *("src_ip", "dst_ip", "src_port", "dst_port", "protocol", "traffic_type", "src_qpn", "dst_qpn", "opcode"),
        *("vlan", "icmp_type", "icmp_code", "fragment", "ethertype", "interface", "direction", "host", "host_ip"),
        *("collect_agg", "device", "port", "set", "counter", "driver", "link_layer", "firmware", "pci", "command"),
        *("state", "pid", "function", "datatype", "error", "communicator", "version", "reason"),
    ],
)
def test_label_that_a_series_of_the_tool_has_is_refused(name: str) -> None:
    """Two values of one label would make the server refuse the sample, or change its meaning."""
    assert refusal(["--label", f"{name}=1"]) == f"--label: the name '{name}' is reserved (choose another)"


def test_label_given_twice_and_too_many_labels_are_refused() -> None:
    assert refusal(["--label", "a=1", "--label", "a=2"]) == "--label: 'a' is given twice (give each name once)"
    assert "at most 10" in refusal([f"--label=l{number}=1" for number in range(11)])


def test_address_of_the_host_is_one() -> None:
    assert parsed(HOST_IP="192.0.2.1").host_ip == "192.0.2.1"
    assert parsed(HOST_IP="").host_ip is None
    complaint = "HOST_IP: 'n1' is not an IP address (unset it to use the default route's source address)"
    assert refusal([], {"HOST_IP": "n1"}) == complaint


@pytest.mark.parametrize("number", ["0", "-1", "x", "1000001"])
def test_number_of_series_is_within_its_range(number: str) -> None:
    assert "--max-series" in refusal([f"--max-series={number}"])


@pytest.mark.parametrize(
    "options, addresses, seconds",
    [
        ("--ras localhost:28028", [("localhost", 28028)], 60.0),
        ("--ras [fd00::1]:1 --ras-interval 10s", [("fd00::1", 1)], 10.0),
        ("--ras a:1,b:2 --ras a:1 --ras-interval 1h", [("a", 1), ("b", 2)], 3600.0),
    ],
)
def test_ras_services_are_queried_at_their_interval(
    options: str, addresses: list[tuple[str, int]], seconds: float
) -> None:
    config = parsed(f"-m nccl {options}")
    assert (config.ras, config.ras_interval_s) == (tuple(addresses), seconds)


@pytest.mark.parametrize(
    "options, complaint",
    [
        ("-m nccl --ras localhost", "--ras: 'localhost' is not ADDR:PORT (for example localhost:28028 or [::1]:28028)"),
        ("-m nccl --ras :28028", "--ras: ':28028' is not ADDR:PORT"),
        ("-m nccl --ras h:0", "--ras: 'h:0' is not ADDR:PORT"),
        ("-m nccl --ras h:65536", "--ras: 'h:65536' is not ADDR:PORT"),
        ("-m nccl --ras fd00::1:28028", "--ras: 'fd00::1:28028' is not ADDR:PORT"),
        ("-m nccl --ras h:1 --ras-interval 9s", "--ras-interval 9s is out of range (10s to 1h)"),
        ("-m nccl --ras-interval 60s", "--ras-interval works only with --ras (add --ras ADDR:PORT)"),
        ("--ras h:1", "--ras works only in mode nccl (use -m xdp,nccl)"),
    ],
)
def test_ras_service_that_cannot_be_queried_is_refused(options: str, complaint: str) -> None:
    with pytest.raises(UsageError) as raised:
        parsed(options)
    assert complaint in str(raised.value)


def test_thresholds_of_tcp_and_of_ports_go_to_their_own() -> None:
    config = parsed("-m xdp,rdma --tcp --threshold tcp_rtt=5:9,rx_oos=7")
    assert config.tcp is not None
    assert (config.tcp["tcp_rtt"].warn, config.tcp["tcp_rtt"].critical) == (5.0, 9.0)
    assert config.rdma.limits["rx_oos"].warn == 7.0
    assert sorted([*config.tcp, *config.rdma.limits, *config.nccl_limits]) == sorted(THRESHOLDS)

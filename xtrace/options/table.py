"""The table of options, from which parser, help, manual page, docs/options.md and shell completion are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from xtrace.errors import UsageError
from xtrace.kernel.syscall import lib
from xtrace.model.filters import TYPES, parse_networks, parse_ports, parse_types
from xtrace.model.limits import Limit, changed
from xtrace.model.thresholds import THRESHOLDS
from xtrace.options.accounts import Account, parse_account
from xtrace.options.labels import LONGEST_LABEL, MOST_LABELS, parse_label
from xtrace.options.option import Option, Source, Takes, Variable
from xtrace.target import DEFAULT_URL
from xtrace.values import (
    addresses,
    as_given,
    boolean,
    choice,
    collector,
    duration,
    items,
    listening,
    names,
    spool,
    unknown,
    whole_number,
)

if TYPE_CHECKING:
    from xtrace.model.filters import Network

XDP, RDMA, NCCL = "xdp", "rdma", "nccl"
MODES = (XDP, RDMA, NCCL)
"""The first is the default."""

DEFAULT_INTERFACE = "eth0"
MOST_INTERFACES = 128
DEFAULT_INTERVAL_MS, SHORTEST_MS, LONGEST_MS = 5000, 100, 3_600_000
LIVE_INTERVAL_MS = 1000
TERMINAL_TOP = 50
MOST_NUMBER = 2**31
FEWEST_FLOWS, MOST_FLOWS = 1, 1 << 22
DEFAULT_MAX_SERIES, MOST_SERIES = 1000, 1_000_000
RAS_PORT = 28028
"""NCCL_RAS_ADDR's default."""
DEFAULT_RAS_MS, LEAST_RAS_MS = 60_000, 10_000
"""Each query goes to all ranks of a job."""

FULL_SCREEN = "live"
"""What --live makes of --format."""
FORMATS = ("auto", "table", "text", "json", "none")
COLORS = ("auto", "always", "never")
DIRECTIONS = ("ingress", "egress", "both")
HOOKS = ("auto", "xdp", "tc")
XDP_MODES = ("auto", "native", "generic")
SERIES = ("flow", "service", "hosts", "owner")
RECORDS = ("flow", "owner")
PACKETS = ("outer", "inner")
KEPT = ("all", "counters")
PUSH_FORMATS = ("auto", "import", "remote-write", "otlp")

SELECTION = "What to monitor"
FILTERS = "Which packets"
OUTPUT = "Output"
METRICS = "Metrics"
ATTACHING = "Attaching and capacity"
JOBS = "RDMA and NCCL"
GENERAL = "General"
GROUPS = (SELECTION, FILTERS, OUTPUT, METRICS, ATTACHING, JOBS, GENERAL)
"""Titles, in the order of the help."""


def parse_modes(text: str, name: str) -> tuple[str, ...]:
    """Return the parts of `xdp,rdma` in the order of MODES."""
    given = items(text, name)
    for mode in given:
        if mode not in MODES:
            raise unknown(name, "mode", mode, MODES)
    return tuple(mode for mode in MODES if mode in given)


def parse_interfaces(text: str, name: str) -> tuple[str, ...]:
    """Return names, globs and `any`, at most MOST_INTERFACES."""
    found = names(text, name)
    if len(found) > MOST_INTERFACES:
        raise UsageError(
            f"{name}: {len(found)} names are too many (at most {MOST_INTERFACES}; use any or a glob such as eth*)"
        )
    return found


def parse_thresholds(text: str, name: str) -> Mapping[str, Limit]:
    """Return all thresholds, with the changes in `text`."""
    return changed(THRESHOLDS, text, name)


def _switch(*flags: str, group: str, help: str, **more: Any) -> Option[bool]:  # noqa: A002 - Option's field name
    return Option(flags, "", help, group, boolean, default=False, takes=Takes.NOTHING, **more)


# the formatter would put each value of a row on its own line
# fmt: off
MODE: Option[tuple[str, ...]] = Option(
    ("-m", "--mode"), "MODE", "xdp (flows), rdma, nccl, or several", SELECTION, parse_modes, MODES[:1], MODES[0],
    "xdp counts the packets of every flow; rdma reads the counters of RDMA ports (docs/rdma.md); nccl counts the calls"
    " that processes make to NCCL (docs/nccl.md).",
    takes=Takes.LIST, variables=("MONITOR_MODE",), values=MODES, is_main=True,
)
INTERFACE: Option[tuple[str, ...]] = Option(
    ("-i", "--interface"), "IF", "interfaces or globs (eth*), or any", SELECTION, parse_interfaces, (),
    DEFAULT_INTERFACE,
    "Alternative names work too. any: every interface that is up, except lo, veth, netkit and members of a bond, team"
    " or bridge. Matching interfaces that appear later are monitored too, up to 256 in all, 64 of them by glob or any."
    f" If there is no {DEFAULT_INTERFACE}, the default is the interface of the default route.",
    takes=Takes.LIST, variables=("NETWORK_INTERFACE",), values=("any",), source=Source.INTERFACES, is_main=True,
)
DEVICE: Option[tuple[str, ...]] = Option(
    ("-d", "--device"), "DEV", "RDMA devices or globs (mlx5_*)", SELECTION, names, (), "all",
    "In mode xdp without -i: the interfaces of these devices.",
    takes=Takes.LIST, variables=("RDMA_DEVICE",), source=Source.DEVICES, is_main=True,
)
EXCLUDE_DEVICE: Option[tuple[str, ...]] = Option(
    ("--exclude-device",), "DEV", "RDMA devices or globs never to read", SELECTION, names, (),
    takes=Takes.LIST, variables=("XTRACE_EXCLUDE_DEVICE",), source=Source.DEVICES,
)
DIRECTION: Option[str | None] = Option(
    ("--direction",), "DIR", "ingress, egress or both", SELECTION, choice("direction", DIRECTIONS), None,
    "by output",
    "The default is both with -o table, so on a terminal, and with --live; ingress otherwise and with --hook xdp.",
    modes=(XDP,), values=DIRECTIONS, is_main=True,
)

FILTER: Option[frozenset[str]] = Option(
    ("-f", "--filter"), "TYPE", "only these traffic types (tcp, udp, roce, ...)", FILTERS, parse_types, frozenset(),
    details=f"The types are {', '.join(TYPES)}. icmp includes ICMPv6; roce and ib are both versions of RoCE; udp does"
    " not include RoCE v2. A packet must match all filters; other packets are counted as filtered.",
    takes=Takes.LIST, modes=(XDP,), values=tuple(TYPES), is_main=True,
)
NET: Option[tuple[Network, ...]] = Option(
    ("--net",), "CIDR", "only packets to or from these networks", FILTERS, parse_networks, (),
    takes=Takes.LIST, modes=(XDP,), is_main=True,
)
EXCLUDE_NET: Option[tuple[Network, ...]] = Option(
    ("--exclude-net",), "CIDR", "no packets to or from these networks", FILTERS, parse_networks, (),
    takes=Takes.LIST, modes=(XDP,),
)
PORT: Option[frozenset[int]] = Option(
    ("--port",), "N[-N]", "only packets to or from these ports", FILTERS, parse_ports, frozenset(),
    details="TCP, UDP and SCTP ports; packets without ports do not match. Later fragments go with their first.",
    takes=Takes.LIST, modes=(XDP,), is_main=True,
)
EXCLUDE_DNS = _switch("--exclude-dns", group=FILTERS, help="no packets to or from port 53", modes=(XDP,))
TUNNEL = Option(
    ("--tunnel",), "PACKET", "flows of which packets in tunnels: outer or inner", FILTERS, choice("packet", PACKETS),
    PACKETS[0], PACKETS[0],
    "inner: of the IP packet in the outermost VXLAN, Geneve, GRE, IP in IP, GTP-U, MPLS or PPPoE, and the filters look"
    " at that one. Bytes are always those of the whole frame.",
    modes=(XDP,), values=PACKETS,
)

INTERVAL: Option[int | None] = Option(
    ("-t", "--interval"), "TIME", "how often to report: 500ms, 5s, 1m", OUTPUT, duration(SHORTEST_MS, LONGEST_MS),
    None, "5s", "A plain number is milliseconds; from 100ms to 1h. With --live the default is 1s.",
    variables=("INTERVAL_MS",), is_main=True,
)
COUNT = Option(
    ("-c", "--count"), "N", "stop after N intervals", OUTPUT, whole_number(1, MOST_NUMBER), 0, "no limit",
    is_main=True,
)
FORMAT = Option(
    ("-o", "--format"), "FORMAT", "auto, table, text, json or none", OUTPUT, choice("format", FORMATS), FORMATS[0],
    FORMATS[0],
    "auto: table on a terminal, JSON Lines otherwise. table: columns with rates, fitted to the terminal. text: one line"
    " of words per flow. none: metrics only, with --push or --listen.",
    values=FORMATS, is_main=True,
)
LIVE = _switch(
    "--live", group=OUTPUT, help="full-screen view: sort, filter, pause, details",
    details="Flows, interfaces, RDMA ports, NCCL jobs, with --owners their owners, sorted by rate; with --tcp or"
    " --tcp-packets TCP connections in trouble, the worst first. ? shows the keys. Needs a terminal. Both directions"
    " and intervals of 1s by default.",
    is_main=True,
)
TOP: Option[int | None] = Option(
    ("--top",), "N", "top N flows by bytes", OUTPUT, whole_number(0, MOST_NUMBER), None,
    "by output",
    "Per interface and direction; all other flows are summed up as one. 0 shows all. On a terminal the default is what"
    f" fits with -o table, {TERMINAL_TOP} with text and json; otherwise it is all, {TERMINAL_TOP} with table. Mode"
    " nccl, -o table: ranks per communicator; by default none, and 8 if something is wrong with it.",
    modes=(XDP, NCCL),
)
WIDE = _switch(
    "--wide", group=OUTPUT, help="never shorten addresses to fit the terminal", details="Applies to -o table.",
)
COLOR = Option(
    ("--color",), "WHEN", "color the largest flows: auto, always or never", OUTPUT, choice("color", COLORS), COLORS[0],
    COLORS[0], "auto: on a terminal, unless NO_COLOR is set or TERM is dumb. Applies to -o table.",
    values=COLORS,
)
TCP = _switch(
    "--tcp", group=OUTPUT, help="show the health of TCP connections",
    details="Of this host's sockets: round trips, retransmissions, what limited a connection, failed connects"
    " (docs/tcp.md).",
    modes=(XDP,), is_main=True,
)
TCP_PACKETS = _switch(
    "--tcp-packets", group=OUTPUT, help="follow TCP connections by their packets, whosever they are",
    details="On a router, a bridge or a mirror port: retransmitted and late packets, closed windows, resets, round"
    " trips of handshakes (docs/tcp.md). Packets are counted at tc.",
    modes=(XDP,),
)
OWNERS = _switch(
    "--owners", group=OUTPUT, help="show whose each flow is: process, container, unit",
    details="The process that created a flow's socket, its user, container, pod and systemd unit (docs/owners.md)."
    " Packets are counted at tc unless --hook or --xdp-mode asks for XDP.",
    modes=(XDP,),
)
BY = Option(
    ("--by",), "WHAT", "show each flow, or the sums by owner", OUTPUT, choice("record", RECORDS), RECORDS[0],
    RECORDS[0], "owner: the flows of one process, container or unit share a record. Needs --owners.",
    modes=(XDP,), values=RECORDS,
)
QPS = _switch("--qps", group=OUTPUT, help="show each queue pair, not only the number per process", modes=(RDMA,))
LIST = _switch(
    "-l", "--list", group=OUTPUT, help="list interfaces (-m rdma: RDMA ports) and exit",
    details="Needs no privileges. With -o json the list is JSON Lines.", is_main=True,
)
DOCTOR = _switch(
    "--doctor", group=OUTPUT, help="check what a run needs here, and exit",
    details="Kernel, privileges, interfaces and what attaching to them changes, RDMA, NCCL, the server of --push; ok,"
    " warn or fail with what helps. Checks for the given modes, interfaces and devices; changes nothing. Exit status 1"
    " if anything failed. With -o json the checks are JSON Lines.",
)

PUSH: Option[str | None] = Option(
    ("--push",), "URL", "also send metrics to VictoriaMetrics", METRICS, as_given, None,
    details="For example http://localhost:8428; /api/v1/import/prometheus is appended to a URL without a path."
    " VICTORIAMETRICS_ENABLED=true does the same, with the URL in VICTORIAMETRICS_REMOTE_WRITE or the default"
    f" {DEFAULT_URL}. docs/metrics.md describes the metrics.",
    variables=("VICTORIAMETRICS_ENABLED", "VICTORIAMETRICS_REMOTE_WRITE"), is_main=True,
)
PUSH_FORMAT = Option(
    ("--push-format",), "FORMAT", "auto, import, remote-write or otlp", METRICS, choice("format", PUSH_FORMATS),
    PUSH_FORMATS[0], PUSH_FORMATS[0],
    "import: text for VictoriaMetrics. remote-write: Prometheus' remote write, 2.0 or 1.0 as the server takes it. otlp:"
    " OpenTelemetry's protocol, with its names. auto: by the path of the URL, remote-write for /api/v1/write, otlp for"
    " /v1/metrics.",
    variables=("XTRACE_PUSH_FORMAT",), values=PUSH_FORMATS,
)
SPOOL: Option[tuple[str, int] | None] = Option(
    ("--spool",), "DIR[:SIZE]", "keep undelivered metrics in files, at most 1G", METRICS, spool, None,
    details="They are delivered later, by another run if need be, in order and with their times. SIZE has a unit: 500M,"
    " 2G. Beyond it the oldest are dropped and counted. Needs --push.",
    variables=("XTRACE_SPOOL",),
)
IPFIX: Option[tuple[str, str, int] | None] = Option(
    ("--ipfix",), "HOST:PORT", "also send flow records to a collector", METRICS, collector, None,
    details="By IPFIX over UDP, the usual port is 4739; tcp:HOST:PORT is over TCP. docs/fleet.md has the fields, and"
    " recipes for nfdump and pmacct.",
    modes=(XDP,), variables=("XTRACE_IPFIX",),
)
IPFIX_BIFLOW = _switch(
    "--ipfix-biflow", group=METRICS, help="one record for both directions of a connection",
    details="With --ipfix, where both directions have packets in an interval (RFC 5103). nfdump counts both, pmacct"
    " only the first.",
    modes=(XDP,), variables=("XTRACE_IPFIX_BIFLOW",),
)
LISTEN: Option[tuple[str, int] | str | None] = Option(
    ("--listen",), "ADDR:PORT", "serve metrics, flows and health by HTTP", METRICS, listening, None,
    details="Or unix:PATH. /metrics for Prometheus and VictoriaMetrics, /flows with the last interval as JSON Lines"
    " (?top=N), /healthz. 0.0.0.0:PORT and [::]:PORT are all addresses; who can reach the port sees who talks to whom."
    " docs/fleet.md has recipes.",
    variables=("XTRACE_LISTEN",), is_main=True,
)
LISTEN_CONFIG: Option[str | None] = Option(
    ("--listen-config",), "FILE", "TLS and passwords for --listen", METRICS, as_given, None,
    details="A web.config.file of Prometheus' exporters: tls_server_config with cert_file and key_file, and for client"
    " certificates client_auth_type and client_ca_file; basic_auth_users with bcrypt hashes. Files that"
    " have changed are read again.",
    variables=("XTRACE_LISTEN_CONFIG",),
)
MAX_SERIES = Option(
    ("--max-series",), "N", "flows with their own time series", METRICS, whole_number(1, MOST_SERIES),
    DEFAULT_MAX_SERIES, str(DEFAULT_MAX_SERIES),
    "Per interface and direction; all other flows share one series. New series: N at once, then N an hour. Needs"
    " --push or --listen.", modes=(XDP,),
)
SERIES_BY = Option(
    ("--series-by",), "WHAT", "what shares a time series: flow, service, hosts or owner", METRICS,
    choice("series", SERIES), SERIES[0], SERIES[0],
    "service: the higher of two ports becomes 0, so that a host's connections to a service share a series. hosts:"
    " without ports and queue pairs. owner: container, pod, unit and command instead of addresses, with --owners. Needs"
    " --push or --listen.", modes=(XDP,), values=SERIES,
)
METRICS_KEPT = Option(
    ("--metrics",), "WHICH", "metrics of flows: all, or counters", METRICS, choice("metrics", KEPT), KEPT[0], KEPT[0],
    "counters halves the number of series: flows have no gauges of the last interval, which the dashboard and the"
    " alerts on flows use. Needs --push or --listen.", modes=(XDP,), values=KEPT,
)
LABEL: Option[tuple[str, str] | None] = Option(
    ("--label",), "NAME=VALUE", "add a label to every record and series", METRICS, parse_label, None,
    details=f"Repeat the option for more labels; XTRACE_LABELS is a comma-separated list. At most {MOST_LABELS} labels,"
    f" with values of at most {LONGEST_LABEL} characters.",
    takes=Takes.EACH, variables=("XTRACE_LABELS",),
)

HOOK = Option(
    ("--hook",), "HOOK", "where to attach: auto, xdp or tc", ATTACHING, choice("hook", HOOKS), HOOKS[0], HOOKS[0],
    "auto uses native XDP for ingress if possible, else tc, and tc for egress. On veth, netkit, tun and bonds it is"
    " always tc. tc works in both directions and does not reconfigure the NIC; attaching native XDP may briefly restart"
    " the NIC's queues, and on a veth it more than halves the throughput.",
    modes=(XDP,), values=HOOKS,
)
XDP_MODE = Option(
    ("--xdp-mode",), "MODE", "auto, native or generic XDP", ATTACHING, choice("XDP mode", XDP_MODES), XDP_MODES[0],
    XDP_MODES[0],
    "auto is native. generic works on every interface, but counts packets merged by the kernel (GRO) as one.",
    modes=(XDP,), values=XDP_MODES,
)
PROMISCUOUS = _switch(
    "--promiscuous", group=ATTACHING, help="put the interfaces into promiscuous mode",
    details="For mirror ports, and for bridges, which otherwise show only packets to and from this host. It ends with"
    " the run, even after kill -9. Needs CAP_NET_RAW, too.",
    modes=(XDP,),
)
MAX_CALLS = Option(
    ("--max-calls",), "N", "capacity of the table of NCCL calls", ATTACHING,
    whole_number(lib.NCCL_LEAST_KEYS, lib.NCCL_MOST_KEYS), lib.NCCL_MAX_KEYS, str(lib.NCCL_MAX_KEYS),
    "In combinations of process, communicator, function and datatype per interval. Calls that do not fit are counted as"
    " unattributed.", modes=(NCCL,),
)
MAX_FLOWS = Option(
    ("--max-flows",), "N", "capacity of each flow table", ATTACHING, whole_number(FEWEST_FLOWS, MOST_FLOWS),
    lib.DEFAULT_MAX_FLOWS, str(lib.DEFAULT_MAX_FLOWS),
    "Packets of flows that do not fit are counted as unattributed.", modes=(XDP,),
)

THRESHOLD: Option[Mapping[str, Limit] | None] = Option(
    ("--threshold",), "NAME=WARN[:CRITICAL]", "thresholds of the health of ports, TCP and NCCL", JOBS,
    parse_thresholds, None,
    details="off disables a threshold. docs/rdma.md, docs/tcp.md and docs/nccl.md list names, units and"
    " defaults.",
    takes=Takes.LIST, variables=("XTRACE_THRESHOLDS",), source=Source.THRESHOLDS,
)
RAS: Option[tuple[tuple[str, int], ...]] = Option(
    ("--ras",), "ADDR:PORT", "query NCCL's RAS service for missing ranks and skew", JOBS, addresses, (),
    details=f"NCCL's default port is {RAS_PORT}. A loopback address is also asked in the network namespaces of"
    " processes that use NCCL: each container has its own.",
    takes=Takes.LIST, modes=(NCCL,),
)
RAS_INTERVAL = Option(
    ("--ras-interval",), "TIME", "how often to query the RAS service", JOBS, duration(LEAST_RAS_MS, LONGEST_MS),
    DEFAULT_RAS_MS, "1m", "From 10s to 1h: each query goes to all ranks.", modes=(NCCL,),
)

USER: Option[Account | None] = Option(
    ("--user",), "NAME", "run as this user, with the capabilities that are needed", GENERAL, parse_account, None,
    details="A name in /etc/passwd, or numbers: UID:GID. From before anything is opened on; once all is attached, only"
    " the capabilities of docs/security.md are left. Needs CAP_SETUID and CAP_SETGID, as root has them.",
)
SYSFS: Option[str | None] = Option(
    ("--sysfs",), "DIR", "where the host's /sys is mounted", GENERAL, as_given, None, "/host/sys if mounted, else /sys",
    variables=("XTRACE_SYSFS",), source=Source.DIRECTORIES,
)
PROCFS: Option[str | None] = Option(
    ("--procfs",), "DIR", "where the host's /proc is mounted", GENERAL, as_given, None,
    "/host/proc if mounted, else /proc", variables=("XTRACE_PROCFS",), source=Source.DIRECTORIES,
)
QUIET = _switch("-q", "--quiet", group=GENERAL, help="only errors on stderr")
DEBUG = _switch("--debug", group=GENERAL, help="debug messages, tracebacks and the verifier's log on stderr")
VERSION = _switch("-V", "--version", group=GENERAL, help="print the version and exit")
HELP = _switch("-h", "--help", group=GENERAL, help="print the main options and exit", is_main=True)
HELP_ALL = _switch("--help-all", group=GENERAL, help="print all options and variables and exit", is_main=True)
# fmt: on

OPTIONS: tuple[Option[Any], ...] = (
    *(MODE, INTERFACE, DEVICE, EXCLUDE_DEVICE, DIRECTION),
    *(FILTER, NET, EXCLUDE_NET, PORT, EXCLUDE_DNS, TUNNEL),
    *(INTERVAL, COUNT, FORMAT, LIVE, TOP, TCP, TCP_PACKETS, OWNERS, BY, WIDE, COLOR, QPS, LIST, DOCTOR),
    *(PUSH, PUSH_FORMAT, SPOOL, IPFIX, IPFIX_BIFLOW, LISTEN, LISTEN_CONFIG, MAX_SERIES, SERIES_BY, METRICS_KEPT, LABEL),
    *(HOOK, XDP_MODE, PROMISCUOUS, MAX_FLOWS, MAX_CALLS),
    *(THRESHOLD, RAS, RAS_INTERVAL),
    *(USER, SYSFS, PROCFS, QUIET, DEBUG, VERSION, HELP, HELP_ALL),
)
"""Every option, by group."""

VARIABLES = (
    Variable("XTRACE_HOST", "host name in records and metrics", "the system's host name"),
    Variable("HOST_IP", "host_ip in records and metrics", "source address of the default route"),
    Variable("COLLECT_AGG", "collect_agg in records and metrics"),
    Variable("VICTORIAMETRICS_USERNAME", "user name for basic authentication"),
    Variable("VICTORIAMETRICS_PASSWORD", "password for basic authentication"),
    Variable("VICTORIAMETRICS_PASSWORD_FILE", "file that holds the password"),
    Variable("VICTORIAMETRICS_BEARER_TOKEN", "bearer token, instead of basic authentication"),
    Variable("VICTORIAMETRICS_BEARER_TOKEN_FILE", "file that holds the token"),
    Variable("VICTORIAMETRICS_HEADERS", "additional request headers: 'Name: value', separated by ^^"),
    Variable("VICTORIAMETRICS_CA_FILE", "PEM file of the certificate authority to trust", "the system's"),
    Variable("VICTORIAMETRICS_CERT_FILE", "PEM file of the client certificate"),
    Variable("VICTORIAMETRICS_KEY_FILE", "PEM file of the client certificate's key"),
    Variable("VICTORIAMETRICS_INSECURE_SKIP_VERIFY", "whether to skip verifying the server's certificate", "false"),
    Variable("http_proxy, https_proxy, no_proxy", "proxies for --push"),
    Variable("NO_COLOR", "if set, --color auto does not color"),
    Variable("LC_ALL, LC_MESSAGES, LANG", "language of messages: Chinese for zh*, else English"),
)
"""Settings without an option."""

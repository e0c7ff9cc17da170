"""Command line and environment to one frozen Config."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NoReturn

from xtrace.errors import UsageError
from xtrace.kernel.syscall import lib
from xtrace.model.filters import TYPES, Filters, parse_networks, parse_ports, parse_types
from xtrace.target import Target, forgotten, parse_target

if TYPE_CHECKING:
    from xtrace.model.rdma_health import Limit

MODES = ("xdp", "rdma", "nccl")
"""What can be monitored; the first is the default."""

DEFAULT_INTERVAL_MS = 5000
SHORTEST_MS, LONGEST_MS = 100, 3_600_000
TERMINAL_TOP = 50
FEWEST_FLOWS, MOST_FLOWS = 1, 1 << 22
DEFAULT_INTERFACE = "eth0"

MOST_INTERFACES = 128

RAS_PORT = 28028
"""NCCL_RAS_ADDR's default."""
RAS_INTERVAL = "1m"
LEAST_RAS_MS = 10_000
"""A question goes to all ranks of a job."""

DEFAULT_MAX_SERIES, MOST_SERIES = 1000, 1_000_000
MOST_LABELS, LONGEST_LABEL = 10, 256
"""Servers cut off series with many labels, and long values: VictoriaMetrics takes 30 labels by default."""

RESERVED_LABELS = frozenset(
    {
        *("host", "host_ip", "collect_agg", "interface", "direction"),
        *("src_ip", "dst_ip", "src_port", "dst_port", "protocol", "traffic_type"),
        *("src_qpn", "dst_qpn", "opcode", "vlan", "icmp_type", "icmp_code", "fragment", "ethertype"),
        *("device", "port", "set", "counter", "driver", "link_layer", "firmware", "pci", "command", "state"),
        *("pid", "function", "datatype", "error", "communicator"),
        *("version", "reason"),
    }
)
"""What this tool's own series are told apart by; names that begin with `__` are the server's."""

USED_IN = {
    ("filter", "net", "exclude-net", "port", "exclude-dns"): ("xdp",),
    ("top", "max-flows", "max-series", "direction", "hook", "xdp-mode"): ("xdp",),
    ("threshold",): ("rdma", "nccl"),
    ("qps",): ("rdma",),
    ("ras", "ras-interval"): ("nccl",),
}
"""Options, and the modes that they change something in. What is not here concerns all."""

UNITS_MS = {"": 1, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}


def limits_of(text: str, what: str = "--threshold") -> Mapping[str, Limit]:
    """The thresholds of mode rdma, with those that were asked for."""
    from xtrace.model.rdma_health import parse_limits  # which the help and the version need not wait for

    return parse_limits(text, what)


@dataclass(frozen=True)
class RdmaConfig:
    """What concerns RDMA devices."""

    devices: tuple[str, ...] = ()
    """names and globs; empty: all"""
    excluded: tuple[str, ...] = ()
    limits: Mapping[str, Limit] = field(default_factory=lambda: limits_of(""))
    every_queue_pair: bool = False
    roots: Mapping[str, str] = field(default_factory=dict)
    """--sysfs and --procfs, as the environment variables they go before"""


@dataclass(frozen=True)
class Config:
    """What the user asked for."""

    modes: tuple[str, ...]
    interfaces: tuple[str, ...]
    """names, globs, any; empty: eth0, or else the default route's"""
    interval_ms: int
    output: str
    """auto, text, json or none"""
    count: int
    """0: without end"""
    top: int | None
    """None: 50 on a terminal, else all"""
    max_flows: int
    hook: str
    xdp_mode: str
    direction: str | None
    """None: nothing was said, which is ingress"""
    filters: Filters
    rdma: RdmaConfig
    host: str
    host_ip: str | None
    """None: the default route's source address"""
    collect_agg: str | None
    labels: tuple[tuple[str, str], ...]
    """constant ones of this run: names and values"""
    target: Target | None
    """where metrics are pushed to, if anywhere"""
    push_warning: str | None
    max_series: int
    list_interfaces: bool
    debug: bool
    ras: tuple[str, int] | None = None
    """host and port of NCCL's RAS service, if it is to be asked"""
    ras_interval_s: float = 0.0


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every error of this tool is said."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError instead of printing the usage."""
        raise UsageError(f"{message}; see --help")


class Answered(Exception):
    """The command line asked for the help or the version; `str()` is its text."""


class _Answer(argparse.Action):
    """Ends parsing with a text. argparse's own actions print it themselves, and complain of a closed pipe."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, **{**options, "nargs": 0})

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        raise Answered(self.const or parser.format_help())


def duration_ms(text: str, what: str = "--interval", least: int = SHORTEST_MS, shown: str = "100ms to 1h") -> int:
    """`5000`, `500ms`, `5s`, `1m` to milliseconds, from `least` to 1 h."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text.strip())
    if not found:
        raise UsageError(f"{what} '{text}' is no time: write 500ms, 5s, 1m, or a plain number of milliseconds")
    milliseconds = float(found.group(1)) * UNITS_MS[found.group(2)]
    if not least <= milliseconds <= LONGEST_MS:
        raise UsageError(f"{what} '{text}' is out of range: the interval is {shown}")
    return round(milliseconds)


def whole_number(text: str, least: int, most: int, what: str) -> int:
    """`text` as an integer within its range."""
    if not re.fullmatch(r"\d{1,18}", text) or not least <= int(text) <= most:
        raise UsageError(f"{what} '{text}': a whole number from {least} to {most}")
    return int(text)


def build_parser(version: str) -> Parser:
    """The command line of this version: an option is here when it works."""
    parser = Parser(
        prog="xtrace-catch",
        description="Shows every flow that crosses network interfaces, exactly counted by eBPF programs.",
        epilog="Command line > environment > default. sudo drops the environment: write `sudo VAR=value xtrace-catch`."
        " Exit: 0 done or closed pipe, 1 failure, 2 usage, 77 missing privilege, 130 second Ctrl-C.",
        add_help=False,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-m", "--mode", metavar="MODE", help="what to monitor: xdp (default), rdma, nccl, or several (MONITOR_MODE)")
    add(
        "-i",
        "--interface",
        metavar="IF[,IF...]",
        help="interfaces by comma, also eth* or any: all that are up but lo, veths and members of bonds, teams, bridges"
        " (NETWORK_INTERFACE; default eth0, else the default route's)",
    )
    add(
        "-d",
        "--device",
        metavar="DEV[,DEV...]",
        help="RDMA devices by comma, also mlx5_* (RDMA_DEVICE; default all); in mode xdp without -i, their interfaces",
    )
    add("-t", "--interval", metavar="TIME", help="500ms, 5s, 1m; plain = ms; 100ms to 1h (INTERVAL_MS; default 5s)")
    add("-o", "--format", metavar="FORMAT", choices=("auto", "text", "json", "none"), default="auto")
    parser._actions[-1].help = "auto, text, json or none; auto: text on a terminal, JSON Lines otherwise"
    add(
        "-f", "--filter", metavar="TYPE[,TYPE...]", help=f"only these traffic types: {' '.join(TYPES)}; ib is both RoCE"
    )
    add("--net", metavar="CIDR[,...]", help="only packets from or to these networks")
    add("--exclude-net", metavar="CIDR[,...]", help="no packets from or to these networks")
    add("--port", metavar="N[,N...]", help="only TCP, UDP and SCTP packets from or to these ports")
    add("--exclude-dns", action="store_true", help="no packets from or to port 53")
    add("-c", "--count", metavar="N", help="stop after N intervals")
    add("--top", metavar="N", help="only the N largest flows, the rest as one; default 50 on a terminal, else 0 = all")
    add("--max-flows", metavar="N", help=f"capacity of a flow table (default {lib.DEFAULT_MAX_FLOWS})")
    add("--direction", metavar="DIR", choices=("ingress", "egress", "both"))
    parser._actions[-1].help = "ingress (default), egress (at tc) or both"
    add("--hook", metavar="HOOK", choices=("auto", "xdp", "tc"), default="auto")
    parser._actions[-1].help = "auto: native XDP, else tc; xdp; tc: changes nothing on the NIC, sees both directions"
    add("--xdp-mode", metavar="MODE", choices=("auto", "native", "generic"), default="auto")
    parser._actions[-1].help = "auto (native; else tc, unless --hook xdp), native or generic"
    add(
        "--push", metavar="URL", help="send metrics there, as http://host:8428 (VICTORIAMETRICS_ENABLED, _REMOTE_WRITE)"
    )
    add(
        "--max-series",
        metavar="N",
        help=f"flows with series of their own, per interface (default {DEFAULT_MAX_SERIES})",
    )
    add(
        "--label", metavar="NAME=VALUE", action="append", default=[], help="a constant label; repeat it (XTRACE_LABELS)"
    )
    add("--exclude-device", metavar="DEV[,...]", help="RDMA devices that are never read (XTRACE_EXCLUDE_DEVICE)")
    add("--qps", action="store_true", help="mode rdma: tell of each queue pair, not only how many a process has")
    add(
        "--threshold",
        metavar="NAME=WARN[:CRIT][,...]",
        help="mode rdma: from where on a port is unwell; names: docs/rdma.md (XTRACE_THRESHOLDS)",
    )
    add("--sysfs", metavar="DIR", help="where /sys is (XTRACE_SYSFS; default /host/sys where mounted, else /sys)")
    add("--procfs", metavar="DIR", help="where /proc is (XTRACE_PROCFS; default /host/proc where mounted, else /proc)")
    add(
        "--ras",
        metavar="ADDR:PORT",
        help=f"mode nccl: ask NCCL's RAS service there for missing ranks and skew (its own port is {RAS_PORT}); off",
    )
    add("--ras-interval", metavar="TIME", help="ask it this often; 10s to 1h, default 1m")
    add("-l", "--list", action="store_true", help="list the interfaces, with -m rdma the RDMA ports, and end")
    add("--debug", action="store_true", help="say more on stderr: details, tracebacks, the verifier's whole log")
    add("-V", "--version", action=_Answer, const=f"xtrace-catch {version}\n", help="print the version and end")
    add("-h", "--help", action=_Answer, help="print this help and end")
    return parser


def _setting(given: str | None, environment: Mapping[str, str], variable: str, default: str) -> str:
    return given if given is not None else environment.get(variable) or default


def parse_names(text: str | None, what: str, example: str) -> tuple[str, ...]:
    """`eth0,ib*` to its parts; nothing given is nothing chosen."""
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise UsageError(f"{what} '{text}': a name is empty; write {example}")
    return tuple(dict.fromkeys(names))


def parse_interfaces(given: str | None, environment: Mapping[str, str]) -> tuple[str, ...]:
    """-i, or what the environment says."""
    text = given if given is not None else environment.get("NETWORK_INTERFACE") or None
    names = parse_names(text, "interface", "-i eth0 or -i eth0,eth1")
    if len(names) > MOST_INTERFACES:
        raise UsageError(f"-i: {len(names)} names, at most {MOST_INTERFACES}; write any, or a pattern as eth*")
    return names


def parse_rdma(given: argparse.Namespace, environment: Mapping[str, str]) -> RdmaConfig:
    """All options about RDMA devices."""
    devices = _setting(given.device, environment, "RDMA_DEVICE", "")
    excluded = _setting(given.exclude_device, environment, "XTRACE_EXCLUDE_DEVICE", "")
    name = "--threshold" if given.threshold is not None else "XTRACE_THRESHOLDS"
    return RdmaConfig(
        devices=parse_names(devices if given.device is not None else devices or None, "device", "-d mlx5_0"),
        excluded=parse_names(excluded or None, "--exclude-device", "--exclude-device mlx5_0"),
        limits=limits_of(_setting(given.threshold, environment, "XTRACE_THRESHOLDS", ""), name),
        every_queue_pair=given.qps,
        roots={
            variable: path
            for variable, path in (("XTRACE_SYSFS", given.sysfs), ("XTRACE_PROCFS", given.procfs))
            if path is not None
        },
    )


def parse_address(text: str, what: str) -> tuple[str, int]:
    """`host:28028`, `[fd00::1]:28028` to host and port."""
    found = re.fullmatch(r"(?:\[([^\]]+)\]|([^:\s]+)):(\d{1,5})", text.strip())
    if not found or not 0 < int(found.group(3)) < 65536:
        raise UsageError(f"{what} '{text}': write ADDR:PORT, as in localhost:{RAS_PORT}")
    return found.group(1) or found.group(2), int(found.group(3))


def parse_ras(given: argparse.Namespace) -> tuple[tuple[str, int] | None, float]:
    """--ras, and seconds of --ras-interval."""
    if given.ras is None:
        if given.ras_interval is not None:
            raise UsageError("--ras-interval without --ras: nobody is asked; say --ras ADDR:PORT")
        return None, 0.0
    interval = given.ras_interval if given.ras_interval is not None else RAS_INTERVAL
    milliseconds = duration_ms(interval, "--ras-interval", LEAST_RAS_MS, "10s to 1h: each question goes to all ranks")
    return parse_address(given.ras, "--ras"), milliseconds / 1000


def refuse_unused(given: argparse.Namespace, modes: tuple[str, ...]) -> None:
    """Raises UsageError for an option that changes nothing in these modes: who gave it expects that it does.

    Variables of the environment are not refused: they are set for a whole fleet.
    """
    for options, users in USED_IN.items():
        for option in options:
            value = getattr(given, option.replace("-", "_"))
            if value not in (None, False, "auto") and not set(users) & set(modes):
                raise UsageError(f"--{option} is for mode {' or '.join(users)}: say -m {','.join((*modes, users[0]))}")


def parse_modes(text: str) -> tuple[str, ...]:
    """`xdp,rdma` to its parts, in the order of MODES."""
    given = [mode.strip() for mode in text.split(",")]
    for mode in given:
        if mode not in MODES:
            raise UsageError(f"mode '{mode}' is not known: this version has {', '.join(MODES)}")
    return tuple(mode for mode in MODES if mode in given)


def parse_filters(given: argparse.Namespace) -> Filters:
    """All filter options."""
    return Filters(
        types=parse_types(given.filter) if given.filter is not None else frozenset(),
        networks=parse_networks(given.net, "--net") if given.net is not None else (),
        excluded_networks=parse_networks(given.exclude_net, "--exclude-net") if given.exclude_net is not None else (),
        ports=parse_ports(given.port) if given.port is not None else frozenset(),
        exclude_dns=given.exclude_dns,
    )


def parse_labels(given: Sequence[str], environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """All NAME=VALUE of --label, and those of XTRACE_LABELS (by comma) whose names --label does not have."""
    of_option = _labels(given, "--label")
    of_variable = _labels((environment.get("XTRACE_LABELS") or "").split(","), "XTRACE_LABELS")
    labels = {**of_variable, **of_option}
    if len(labels) > MOST_LABELS:
        raise UsageError(f"--label: {len(labels)} labels, at most {MOST_LABELS}")
    return tuple(labels.items())


def _labels(texts: Sequence[str], what: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not text.strip() and what != "--label":
            continue  # a comma at the end
        if not equals or not value or not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name):
            raise UsageError(
                f"{what} '{text}': write NAME=VALUE; a name has letters, digits and _, a value is not empty"
            )
        if name in RESERVED_LABELS or name.startswith("__"):
            raise UsageError(f"{what} '{text}': the name {name} is taken; choose another")
        if name in labels:
            raise UsageError(f"{what} '{text}': {name} is given twice")
        if len(value) > LONGEST_LABEL:
            raise UsageError(f"{what} {name}: the value has {len(value)} characters, at most {LONGEST_LABEL}")
        labels[name] = value
    return labels


def parse_host_ip(environment: Mapping[str, str]) -> str | None:
    """HOST_IP, where it is set."""
    text = environment.get("HOST_IP") or None
    try:
        return text and str(ip_address(text))
    except ValueError:
        raise UsageError(f"HOST_IP '{text}' is no IP address: leave it out for that of the default route") from None


def refuse_contradictions(given: argparse.Namespace) -> None:
    """Raises UsageError for hook, mode and direction that do not go together."""
    if given.hook == "xdp" and given.direction not in (None, "ingress"):
        raise UsageError(f"--hook xdp sees only what enters, not --direction {given.direction}: use --hook tc or auto")
    for option, value in (("--hook", given.hook), ("--direction", given.direction)):
        if value in ("tc", "egress") and given.xdp_mode != "auto":
            raise UsageError(f"{option} {value} uses no XDP: leave out --xdp-mode {given.xdp_mode}")


def parse(arguments: Sequence[str], environment: Mapping[str, str], version: str) -> Config:
    """Raises UsageError for anything that is not understood, and Answered for --help and --version."""
    given = build_parser(version).parse_args(arguments)
    refuse_contradictions(given)
    interval = _setting(given.interval, environment, "INTERVAL_MS", str(DEFAULT_INTERVAL_MS))
    interval_name = "--interval" if given.interval is not None else "INTERVAL_MS"
    max_flows = given.max_flows if given.max_flows is not None else str(lib.DEFAULT_MAX_FLOWS)
    max_series = given.max_series if given.max_series is not None else str(DEFAULT_MAX_SERIES)
    modes = parse_modes(_setting(given.mode, environment, "MONITOR_MODE", MODES[0]))
    refuse_unused(given, modes)
    target = parse_target(given.push, environment)
    if given.max_series is not None and target is None:
        raise UsageError("--max-series is for --push: add --push URL")
    ras, ras_interval_s = parse_ras(given)
    return Config(
        modes=modes,
        interfaces=parse_interfaces(given.interface, environment),
        interval_ms=duration_ms(interval, interval_name),
        output=given.format,
        count=whole_number(given.count, 1, 2**31, "--count") if given.count is not None else 0,
        top=whole_number(given.top, 0, 2**31, "--top") if given.top is not None else None,
        max_flows=whole_number(max_flows, FEWEST_FLOWS, MOST_FLOWS, "--max-flows"),
        hook=given.hook,
        xdp_mode=given.xdp_mode,
        direction=given.direction,
        filters=parse_filters(given),
        rdma=parse_rdma(given, environment),
        host=environment.get("XTRACE_HOST") or os.uname().nodename,
        host_ip=parse_host_ip(environment),
        collect_agg=environment.get("COLLECT_AGG") or None,
        labels=parse_labels(given.label, environment),
        target=target,
        push_warning=forgotten(given.push, environment),
        max_series=whole_number(max_series, 1, MOST_SERIES, "--max-series"),
        list_interfaces=given.list,
        debug=given.debug,
        ras=ras,
        ras_interval_s=ras_interval_s,
    )

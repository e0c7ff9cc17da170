"""Turns command line and environment into one frozen Config."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from xtrace.errors import UsageError
from xtrace.kernel.syscall import lib
from xtrace.model import nccl_limits, rdma_limits, tcp_limits
from xtrace.model.filters import Filters
from xtrace.model.limits import Limit
from xtrace.model.tcp_limits import OF_PACKETS, OF_SOCKETS, PREFIX
from xtrace.model.thresholds import THRESHOLDS
from xtrace.options import table
from xtrace.options.accounts import Account
from xtrace.options.command_line import Settings
from xtrace.options.labels import merge_labels
from xtrace.options.option import Option
from xtrace.options.table import OPTIONS
from xtrace.target import Target, forgotten, parse_target


class RdmaConfig(NamedTuple):
    """The RDMA options."""

    devices: tuple[str, ...] = ()
    """names and globs; empty: all"""
    excluded: tuple[str, ...] = ()
    limits: Mapping[str, Limit] = rdma_limits.LIMITS
    """of port health"""
    every_queue_pair: bool = False


class Config(NamedTuple):
    """What the user requested."""

    modes: tuple[str, ...]
    interfaces: tuple[str, ...]
    """names, globs, any; empty: eth0, or if there is none the default route's interface"""
    interval_ms: int
    output: str
    """auto, table, text, json, none, or live"""
    count: int  # type: ignore[assignment]  # not that of a tuple
    """0: no limit"""
    top: int | None
    """None: depends on output and terminal"""
    max_flows: int
    hook: str
    xdp_mode: str
    direction: str | None
    """None: not given, means both with -o table and --live, else ingress"""
    filters: Filters
    rdma: RdmaConfig
    host: str
    host_ip: str | None
    """None: the default route's source address"""
    collect_agg: str | None
    labels: tuple[tuple[str, str], ...]
    """names and values"""
    target: Target | None
    """where metrics are pushed; None: nowhere"""
    push_warning: str | None
    max_series: int
    series_by: str
    """flow, service, hosts or owner"""
    metrics: str
    """all, or counters: flows then have no gauges"""
    spool: tuple[str, int] | None
    """directory and bytes for samples that are not delivered yet; None: they stay in memory"""
    ipfix: tuple[str, str, int] | None
    """protocol, host and port of a collector of flow records; None: none"""
    ipfix_biflow: bool
    """whether both directions of a connection share a record"""
    listen: tuple[str, int] | str | None
    """host and port, or the path of a unix socket, where metrics are served; None: nowhere"""
    listen_config: str | None
    """a file that describes its TLS and users"""
    list_interfaces: bool
    debug: bool
    quiet: bool = False
    doctor: bool = False
    color: str = "auto"
    wide: bool = False
    promiscuous: bool = False
    max_calls: int = lib.NCCL_MAX_KEYS
    nccl_limits: Mapping[str, Limit] = nccl_limits.LIMITS
    """of verdicts on ranks"""
    tcp: Mapping[str, Limit] | None = None
    """thresholds of the health of TCP connections; None: it is not shown"""
    tcp_packets: Mapping[str, Limit] | None = None
    """the same of connections that are followed by their packets"""
    owners: bool = False
    by: str = "flow"
    """what records of mode xdp are of: flow or owner"""
    ras: tuple[tuple[str, int], ...] = ()
    """hosts and ports of NCCL's RAS services; empty: none is queried"""
    ras_interval_s: float = 0.0
    user: Account | None = None
    """whom to become; None: nobody else"""
    procfs: str | None = None
    """None: /host/proc if mounted, else /proc"""
    sysfs: str | None = None


def parse(arguments: Sequence[str], environment: Mapping[str, str], version: str) -> Config:
    """Return the Config. Raises UsageError for invalid input, Answered for --help and --version."""
    answers = {
        table.HELP: _short_help,
        table.HELP_ALL: _whole_help,
        table.VERSION: lambda: f"xtrace-catch {version}\n",
    }
    given = Settings(arguments, environment, answers)
    refuse_contradictions(given)
    modes = given.value(table.MODE)
    refuse_unused(given, modes)
    urls = given.texts(table.PUSH)
    url = urls[0] if urls else None
    target = parse_target(url, environment, given.value(table.PUSH_FORMAT))
    refuse_useless(given, target)
    refuse_useless_thresholds(given, modes)
    return Config(
        modes=modes,
        interfaces=given.value(table.INTERFACE),
        interval_ms=interval_ms(given),
        output=table.FULL_SCREEN if given.value(table.LIVE) else given.value(table.FORMAT),
        count=given.value(table.COUNT),
        top=given.value(table.TOP),
        max_flows=given.value(table.MAX_FLOWS),
        hook=given.value(table.HOOK),
        xdp_mode=given.value(table.XDP_MODE),
        direction=given.value(table.DIRECTION),
        filters=parse_filters(given),
        rdma=parse_rdma(given),
        host=environment.get("XTRACE_HOST") or os.uname().nodename,
        host_ip=parse_host_ip(environment),
        collect_agg=environment.get("COLLECT_AGG") or None,
        labels=merge_labels(given.texts(table.LABEL), environment.get("XTRACE_LABELS", "")),
        target=target,
        push_warning=forgotten(url, environment),
        max_series=given.value(table.MAX_SERIES),
        series_by=given.value(table.SERIES_BY),
        metrics=given.value(table.METRICS_KEPT),
        spool=given.value(table.SPOOL),
        ipfix=given.value(table.IPFIX),
        ipfix_biflow=given.value(table.IPFIX_BIFLOW),
        listen=given.value(table.LISTEN),
        listen_config=given.value(table.LISTEN_CONFIG),
        list_interfaces=given.value(table.LIST),
        doctor=given.value(table.DOCTOR),
        debug=given.value(table.DEBUG),
        quiet=given.value(table.QUIET),
        color=given.value(table.COLOR),
        wide=given.value(table.WIDE),
        promiscuous=given.value(table.PROMISCUOUS),
        max_calls=given.value(table.MAX_CALLS),
        nccl_limits=given_thresholds(given, nccl_limits.LIMITS),
        tcp=parse_tcp(given, table.TCP),
        tcp_packets=parse_tcp(given, table.TCP_PACKETS),
        owners=given.value(table.OWNERS),
        by=given.value(table.BY),
        ras=given.value(table.RAS),
        ras_interval_s=given.value(table.RAS_INTERVAL) / 1000 if given.is_given(table.RAS) else 0.0,
        user=given.value(table.USER),
        procfs=given.value(table.PROCFS),
        sysfs=given.value(table.SYSFS),
    )


def _short_help() -> str:
    from xtrace.options import usage  # only the help needs it, as below

    return usage.short()


def _whole_help() -> str:
    from xtrace.options import usage

    return usage.complete()


def interval_ms(given: Settings) -> int:
    """Return the interval, by default a shorter one for a person who looks at a screen."""
    chosen = given.value(table.INTERVAL)
    if chosen is not None:
        return chosen
    return table.LIVE_INTERVAL_MS if given.value(table.LIVE) else table.DEFAULT_INTERVAL_MS


def parse_filters(given: Settings) -> Filters:
    """Return the filter options."""
    return Filters(
        types=given.value(table.FILTER),
        networks=given.value(table.NET),
        excluded_networks=given.value(table.EXCLUDE_NET),
        ports=given.value(table.PORT),
        exclude_dns=given.value(table.EXCLUDE_DNS),
        inner=given.value(table.TUNNEL) == "inner",
    )


def parse_rdma(given: Settings) -> RdmaConfig:
    """Return the options about RDMA devices."""
    return RdmaConfig(
        devices=given.value(table.DEVICE),
        excluded=given.value(table.EXCLUDE_DEVICE),
        limits=given_thresholds(given, rdma_limits.LIMITS),
        every_queue_pair=given.value(table.QPS),
    )


def parse_tcp(given: Settings, switch: Option[bool]) -> Mapping[str, Limit] | None:
    """Return the thresholds of the health of TCP connections; None without the switch."""
    if not given.value(switch):
        return None
    return given_thresholds(given, tcp_limits.LIMITS)


def given_thresholds(given: Settings, usual: Mapping[str, Limit]) -> dict[str, Limit]:
    """Return the thresholds of `usual`, with what was changed."""
    limits = given.value(table.THRESHOLD) or usual
    return {name: limits[name] for name in usual}


def parse_host_ip(environment: Mapping[str, str]) -> str | None:
    """Return HOST_IP, None if unset."""
    text = environment.get("HOST_IP")
    if not text:
        return None
    from ipaddress import ip_address  # a slow import that --help and --version do not need

    try:
        return str(ip_address(text))
    except ValueError:
        raise UsageError(
            f"HOST_IP: '{text}' is not an IP address (unset it to use the default route's source address)"
        ) from None


def refuse_contradictions(given: Settings) -> None:
    """Raise UsageError for options that contradict each other: hook, XDP mode and direction; what is shown."""
    if given.is_given(table.LIST) and given.is_given(table.DOCTOR):
        raise UsageError("--list and --doctor contradict each other (leave one out)")
    if given.is_given(table.QUIET) and given.is_given(table.DEBUG):
        raise UsageError("--quiet and --debug contradict each other (leave one out)")
    refuse_with_live(given)
    hook, xdp_mode = given.value(table.HOOK), given.value(table.XDP_MODE)
    direction = given.value(table.DIRECTION)
    if hook == "xdp" and direction not in (None, "ingress"):
        raise UsageError(f"--hook xdp sees only ingress, not --direction {direction} (use --hook tc or auto)")
    if given.value(table.OWNERS):
        refuse_with_owners(given)
    if given.value(table.TCP_PACKETS):
        refuse_with_tcp_packets(given)
    for name, value in (("--hook", hook), ("--direction", direction)):
        if value in ("tc", "egress") and xdp_mode != "auto":
            raise UsageError(f"{name} {value} does not use XDP (leave out --xdp-mode {xdp_mode})")


def refuse_with_live(given: Settings) -> None:
    """Raise UsageError for what would use the terminal in another way than --live."""
    for option in (table.LIST, table.DOCTOR, table.FORMAT):
        if given.is_given(table.LIVE) and given.is_given(option):
            raise UsageError(f"--live and {option.name} contradict each other (leave one out)")


def refuse_with_owners(given: Settings) -> None:
    """Raise UsageError where flows cannot have owners: a packet in a tunnel has none."""
    if given.value(table.TUNNEL) == "inner":
        raise UsageError("--owners is about the packets that sockets send (leave out --tunnel inner)")


def refuse_with_tcp_packets(given: Settings) -> None:
    """Raise UsageError where packets do not pass the program that follows TCP connections, or are within others."""
    if given.value(table.HOOK) == "xdp" or given.value(table.XDP_MODE) != "auto":
        raise UsageError("--tcp-packets works only at tc (leave out --hook xdp and --xdp-mode)")
    if given.value(table.TUNNEL) == "inner":
        raise UsageError("--tcp-packets follows the outer packets (leave out --tunnel inner)")


def refuse_unused(given: Settings, modes: tuple[str, ...]) -> None:
    """Raise UsageError for an option that has no effect in these modes: it would be ignored silently.

    Environment variables are not rejected: they may be set for a whole fleet.
    """
    for option in OPTIONS:
        used = not option.modes or set(option.modes) & set(modes)
        # auto requests nothing
        if not used and given.is_given(option) and given.value(option) != "auto":
            users = " or ".join(option.modes)
            raise UsageError(f"{option.name} works only in mode {users} (use -m {','.join((*modes, option.modes[0]))})")


def refuse_useless(given: Settings, target: Target | None) -> None:
    """Raise UsageError for an option that has no effect without another one."""
    fed: tuple[Option[Any], ...] = (table.MAX_SERIES, table.SERIES_BY, table.METRICS_KEPT)
    for option in fed:
        if given.is_given(option) and target is None and given.value(table.LISTEN) is None:
            raise UsageError(f"{option.name} works only with --push or --listen (add --push URL)")
    for option in (table.BY, table.SERIES_BY):
        if given.value(option) == "owner" and not given.value(table.OWNERS):
            raise UsageError(f"{option.name} owner works only with --owners (add --owners)")
    pushed: tuple[Option[Any], ...] = (table.PUSH_FORMAT, table.SPOOL)
    for option in pushed:
        if given.is_given(option) and target is None:
            raise UsageError(f"{option.name} works only with --push (add --push URL)")
    if given.is_given(table.IPFIX_BIFLOW) and given.value(table.IPFIX) is None:
        raise UsageError("--ipfix-biflow works only with --ipfix (add --ipfix HOST:PORT)")
    if given.is_given(table.LISTEN_CONFIG) and given.value(table.LISTEN) is None:
        raise UsageError("--listen-config works only with --listen (add --listen ADDR:PORT)")
    if given.is_given(table.RAS_INTERVAL) and not given.is_given(table.RAS):
        raise UsageError("--ras-interval works only with --ras (add --ras ADDR:PORT)")


def refuse_useless_thresholds(given: Settings, modes: tuple[str, ...]) -> None:
    """Raise UsageError for changed thresholds of something that is not watched."""
    if not given.is_given(table.THRESHOLD):
        return
    changed = [name for name, limit in given_thresholds(given, THRESHOLDS).items() if limit != THRESHOLDS[name]]
    users = [option for option in (table.TCP, table.TCP_PACKETS) if given.value(option)]
    if any(name.startswith(PREFIX) for name in changed) and not users:
        raise UsageError(f"--threshold {PREFIX}* works only with --tcp or --tcp-packets (add --tcp)")
    for names, user in ((OF_SOCKETS, table.TCP), (OF_PACKETS, table.TCP_PACKETS)):
        if user not in users and (useless := sorted(names.intersection(changed))):
            raise UsageError(f"--threshold {useless[0]} works only with {user.name} (add it)")
    if not all(name.startswith(PREFIX) for name in changed) and not {table.RDMA, table.NCCL} & set(modes):
        raise UsageError(f"--threshold works only in mode rdma or nccl (use -m {','.join((*modes, table.RDMA))})")

"""What the command does: puts monitors, sinks and the loop together."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from xtrace.config import Config
from xtrace.errors import RdmaError
from xtrace.kernel import paths, proc, routes, rtnetlink
from xtrace.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from xtrace.listing import print_interfaces, print_rdma_ports
from xtrace.loop import Loop
from xtrace.messages import message
from xtrace.model.words import Direction
from xtrace.monitors import Monitor
from xtrace.monitors.flows.attach import Choice
from xtrace.monitors.flows.interfaces import ANY, Selection, is_open
from xtrace.monitors.flows.monitor import XdpMonitor, XdpOptions
from xtrace.monitors.joins.flows_rdma import JoinedXdp
from xtrace.monitors.joins.rdma_nccl import JoinedNccl, Nics
from xtrace.monitors.nccl.monitor import NcclMonitor, RasOptions
from xtrace.monitors.rdma.monitor import RdmaMonitor, RdmaOptions, list_ports, netdevs_of, quiet_monitor
from xtrace.options.table import DEFAULT_INTERFACE, TERMINAL_TOP
from xtrace.sinks import Run, Sink
from xtrace.sinks.identity import Identity, source_address
from xtrace.sinks.jsonl.sink import JsonLines
from xtrace.sinks.stream import STDOUT, OutputStream
from xtrace.sinks.text.sink import Text
from xtrace.stop import GRACE_S, Stop

if TYPE_CHECKING:
    from xtrace.model.flow import FlowSnapshot
    from xtrace.model.snapshot import Snapshot
    from xtrace.sinks.push.sink import Push

log = logging.getLogger("xtrace")

LEAST_FLUSH_S = 0.5
"""What the push gets at the end even where blocked output took all the time there was."""
DIRECTIONS = {
    "ingress": (Direction.INGRESS,),
    "egress": (Direction.EGRESS,),
    "both": (Direction.INGRESS, Direction.EGRESS),
}
"""What --direction means."""


def run(config: Config, version: str, stop: Stop) -> int:
    """List the interfaces, or monitor until the end; the exit code."""
    output = OutputStream(STDOUT, stop)
    roots = config.rdma.roots  # an error in them comes before anything is attached
    paths.choose(proc=roots.get("XTRACE_PROCFS"), sys=roots.get("XTRACE_SYSFS"))
    if config.list_interfaces:
        show_list(config, output)
        return 0
    identity = Identity(config.host, config.host_ip or source_address(), config.collect_agg, config.labels)
    if config.push_warning:
        log.warning("xtrace-catch: %s", config.push_warning)
    with ExitStack() as opened:
        # first, so that it is closed last, when there is nothing more to come
        push = make_push(config, identity, version) if config.target else None
        if push is not None:
            opened.callback(close_push, push, stop)
        monitors = wire(config, opened)
        sinks = [*([push] if push else []), *make_sinks(config, identity, output)]
        setups = {monitor.mode: monitor.setup for monitor in monitors}
        for sink in sinks:
            sink.start(Run(version, config.interval_ms / 1000, config.modes, setups))
        Loop(monitors, sinks, stop, output, config.interval_ms * 1_000_000).run(config.count)
    return 1 if push is not None and push.undelivered else 0


def wire(config: Config, opened: ExitStack) -> tuple[Monitor[Snapshot], ...]:
    """The monitors of all modes, running, in the order in which they must tick; `opened` closes them.

    1. xdp, which passes what its hooks saw of RoCE in this interval on to rdma's ports,
    2. rdma, which compares that with the ports' own counters, and whose traffic in this interval nccl's processes get,
    3. nccl.

    In another order each would combine its interval with another mode's interval before.
    """
    rdma = opened.enter_context(closing(watch_rdma(config))) if "rdma" in config.modes else None
    xdp = opened.enter_context(closing(watch_flows(config))) if "xdp" in config.modes else None
    calls = opened.enter_context(closing(watch_calls(config))) if "nccl" in config.modes else None
    flows = None
    if xdp:
        flows = JoinedXdp(xdp, rdma) if rdma else with_blind_spots(xdp, config, opened)
    nics = watch_nics(config, rdma, calls, opened) if calls else None
    joined = JoinedNccl(calls, nics) if calls and nics else calls
    in_order: tuple[Monitor[Snapshot] | None, ...] = (flows, nics or rdma, joined)
    return tuple(monitor for monitor in in_order if monitor is not None)


def show_list(config: Config, output: OutputStream) -> None:
    """The interfaces, or with mode rdma the RDMA ports."""
    as_json = config.output == "json"
    if "rdma" in config.modes:
        print_rdma_ports(list_ports(rdma_options(config)), output, as_json, config.host)
        return
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        print_interfaces(rtnetlink.links(netlink), output, as_json)


def rdma_options(config: Config) -> RdmaOptions:
    """What mode rdma is to read. -i chooses ports only where -d does not."""
    return RdmaOptions(
        devices=config.rdma.devices,
        interfaces=() if config.rdma.devices or "xdp" in config.modes else own_names(config.interfaces),
        excluded=config.rdma.excluded,
        limits=config.rdma.limits,
        every_queue_pair=config.rdma.every_queue_pair,
        joined={"xdp", "rdma"} <= set(config.modes),
    )


def own_names(interfaces: tuple[str, ...]) -> tuple[str, ...]:
    """Interfaces by the names that they have themselves, not by alternative ones; `any` restricts nothing."""
    if ANY in interfaces:
        return ()
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        found = [None if is_open(name) else rtnetlink.link(netlink, name) for name in interfaces]
    return tuple(link.name if link else name for link, name in zip(found, interfaces, strict=True))


def watch_rdma(config: Config) -> RdmaMonitor:
    """Mode rdma, its first readings taken."""
    return RdmaMonitor(rdma_options(config), log.info)


def with_blind_spots(xdp: XdpMonitor, config: Config, opened: ExitStack) -> Monitor[FlowSnapshot]:
    """Mode xdp, which reports what RDMA hardware carries past it, where its interfaces have RDMA ports."""
    names = tuple({interface.name: None for interface in xdp.interfaces})
    rdma = quiet_monitor(names, config.rdma.excluded, log.info)
    if rdma is None:
        return xdp
    opened.callback(rdma.close)
    return JoinedXdp(xdp, rdma, alone=True)


def watch_flows(config: Config) -> XdpMonitor:
    """Mode xdp, attached."""
    options = XdpOptions(
        selection=Selection(config.interfaces or netdevs_of(config.rdma.devices) or (default_interface(),)),
        choice=Choice.of(config.hook, config.xdp_mode),
        directions=DIRECTIONS[config.direction or "ingress"],
        max_flows=config.max_flows,
        filters=config.filters,
        promiscuous=config.promiscuous,
    )
    monitor = XdpMonitor(options, log.info)
    if config.direction is None:
        log.info("%s", message("counting what enters (ingress); --direction both counts what leaves, too"))
    return monitor


def watch_calls(config: Config) -> NcclMonitor:
    """Mode nccl, probing."""
    ras = RasOptions(config.ras, config.ras_interval_s) if config.ras else None
    return NcclMonitor(log.info, ras=ras)


def watch_nics(config: Config, rdma: RdmaMonitor | None, calls: NcclMonitor, opened: ExitStack) -> Nics | None:
    """What RDMA devices carry, beside the calls: all of them with mode rdma, else those that NCCL processes use."""
    if not proc.numbers_as_own():
        why = "RDMA numbers processes as this container does, proc as the machine: --pid host helps"
        log.info("mode nccl: what NICs carry is not known: %s", why)
        return Nics(rdma) if rdma else None
    if rdma:
        nics = Nics(rdma)
    else:
        try:
            own = opened.enter_context(closing(watch_rdma(config)))
            nics = Nics(own, calls.pids, config.rdma.limits)
        except RdmaError as error:
            if config.rdma.devices:
                raise
            log.info("mode nccl: what NICs carry is not known: %s", error)
            return None
    return nics


def make_push(config: Config, identity: Identity, version: str) -> Push:
    """The sink of --push. Its modules are loaded only where they are used: they cost start time and memory."""
    from xtrace.sinks.push.sink import Push
    from xtrace.sinks.push.transport import Http

    assert config.target is not None
    if config.target.skip_verify:
        log.warning("push to %s: the server's certificate is not verified: anybody may be it", config.target.shown)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # at debug level it names whole URLs
    return Push(Http(config.target, version), identity, config.max_series)


def close_push(push: Push, stop: Stop) -> None:
    """Deliver what waits, as long as the end may take."""
    push.close(max(stop.seconds_left(), LEAST_FLUSH_S) if stop.requested else GRACE_S)


def make_sinks(config: Config, identity: Identity, output: OutputStream) -> list[Sink]:
    """What --format asks for; `auto` is text for people and JSON Lines for programs."""
    terminal = os.isatty(output.fileno())
    top = config.top if config.top is not None else TERMINAL_TOP if terminal else 0
    form = config.output
    if form == "auto":
        form = "text" if terminal else "json"
    if form == "text":
        return [Text(output, top, config.direction == "both")]
    if form == "json":
        return [JsonLines(output, identity, top)]
    return []


def default_interface() -> str:
    """The documented default where it exists, or else the default route's interface, which is then said."""
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        if rtnetlink.link(netlink, DEFAULT_INTERFACE) is not None:
            return DEFAULT_INTERFACE
        route = routes.default_route(netlink)
        link = rtnetlink.link(netlink, route.index) if route else None
    if link is None:
        return DEFAULT_INTERFACE  # which is then said not to exist
    log.info("no interface %s: taking %s, which has the default route", DEFAULT_INTERFACE, link.name)
    return link.name

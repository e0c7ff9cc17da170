"""Puts monitors, sinks and the loop together.

Modules are imported where they are needed: the first packet is counted when the kernel has verified the programs, so
what is imported before they are on their way is waited for.
"""

from __future__ import annotations

import gc
import logging
import os
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtrace.config import Config
from xtrace.errors import RdmaError, UsageError
from xtrace.kernel import paths, rtnetlink
from xtrace.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from xtrace.model.words import Direction
from xtrace.options.table import DEFAULT_INTERFACE, FULL_SCREEN, TERMINAL_TOP
from xtrace.sinks.stream import STDOUT, OutputStream
from xtrace.stop import GRACE_S, Stop
from xtrace.target import OTLP, REMOTE_WRITE, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xtrace.doctor.check import Check
    from xtrace.model.flow import FlowSnapshot
    from xtrace.model.limits import Limits
    from xtrace.model.rdma import RdmaSnapshot
    from xtrace.model.snapshot import Snapshot
    from xtrace.model.tcp import TcpSnapshot
    from xtrace.model.tcp_path import PathSnapshot
    from xtrace.monitors import Monitor
    from xtrace.monitors.apart import Apart
    from xtrace.monitors.flows.hooks import Choice
    from xtrace.monitors.flows.interfaces import Selection
    from xtrace.monitors.flows.monitor import XdpMonitor
    from xtrace.monitors.flows.start import XdpStart
    from xtrace.monitors.joins.rdma_nccl import Nics
    from xtrace.monitors.nccl.monitor import NcclMonitor
    from xtrace.monitors.rdma.monitor import RdmaMonitor, RdmaOptions
    from xtrace.monitors.tcp.peers import Monitored
    from xtrace.service import Service
    from xtrace.sinks import Sink
    from xtrace.sinks.identity import Identity
    from xtrace.sinks.ipfix.sink import Ipfix
    from xtrace.sinks.listen.sink import Listen
    from xtrace.sinks.live.sink import Live
    from xtrace.sinks.metrics.encoding import Encoding
    from xtrace.sinks.metrics.feed import Feed, Outlet
    from xtrace.sinks.push.batch import Transport
    from xtrace.sinks.push.sink import Push
    from xtrace.sinks.renewed import Renewed

log = logging.getLogger("xtrace")

STDIN, STDERR = 0, 2

LEAST_FLUSH_S = 0.5
"""Time for the last push even if blocked output has used up the grace time."""
DIRECTIONS = {
    "ingress": (Direction.INGRESS,),
    "egress": (Direction.EGRESS,),
    "both": (Direction.INGRESS, Direction.EGRESS),
}
"""Values of --direction."""


def run(config: Config, version: str, stop: Stop) -> int:
    """List the interfaces, or monitor until the end, and return the exit code."""
    output = OutputStream(STDOUT, stop)
    if config.user:
        from xtrace.confinement import change_user

        change_user(config.user)  # before anything is opened, made, or started in a thread
    paths.choose(config.procfs, config.sysfs)  # before anything is attached: raises UsageError
    if config.list_interfaces:
        show_list(config, output)
        return 0
    if config.doctor:
        from xtrace.doctor.shown import show

        return show(examine(config, version), output, config.output == "json", config.host)
    return monitor(config._replace(output=chosen_format(config, output)), version, output, stop)


def monitor(config: Config, version: str, output: OutputStream, stop: Stop) -> int:
    """Monitor until the end, and return the exit code."""
    stop.check()
    with ExitStack() as opened:
        # before anything else is imported: the kernel verifies its programs meanwhile
        start = opened.enter_context(closing(start_flows(config))) if "xdp" in config.modes else None
        from xtrace.confinement import confine
        from xtrace.service import READY, STOPPING, Service
        from xtrace.sinks import Run
        from xtrace.sinks.identity import Identity, source_address

        identity = Identity(config.host, config.host_ip or source_address(), config.collect_agg, config.labels)
        if config.push_warning:
            log.warning("xtrace-catch: %s", config.push_warning)
        service = opened.enter_context(closing(Service(os.environ)))
        renewed: list[Renewed[Any]] = []
        # before any thread is started that signals may reach: it blocks signals
        live = make_live(config, output, stop, opened) if config.output == FULL_SCREEN else None
        # opened before the monitors, so that they are closed after them
        push = make_push(config, identity, version, renewed, opened, stop) if config.target else None
        listen = make_listen(config, identity, renewed, opened) if config.listen else None
        feed = make_feed(config, push, listen, renewed, opened) if push or listen else None
        ipfix = make_ipfix(config.ipfix, config.ipfix_biflow, opened, stop) if config.ipfix else None
        monitors = wire(config, start, opened, stop)
        from xtrace.loop import Loop  # attaching needs neither it nor what the sinks are made of

        # a tick's samples are complete before they are served
        sinks: list[Sink] = [
            *([feed] if feed else []),
            *([listen] if listen else []),
            *([ipfix] if ipfix else []),
            *([live] if live else make_sinks(config, identity, output)),
        ]
        setups = {monitor.mode: monitor.setup for monitor in monitors}
        read_again = [Path(file) for each in renewed for file in each.files]
        started = Run(version, config.interval_ms / 1000, config.modes, setups, confine(config, read_again))
        for sink in sinks:
            sink.start(started)
        service.say(READY)
        with reload_on_hangup(service, renewed, stop):
            keep_what_is_there()
            Loop(monitors, sinks, stop, output, config.interval_ms * 1_000_000, service, live).run(config.count)
        service.say(STOPPING)
    return 1 if (push and push.undelivered) or (ipfix and ipfix.unsent) else 0


def keep_what_is_there() -> None:
    """Collect garbage again, off since the command began: not among what is there now, which stays to the end."""
    gc.collect()
    gc.freeze()
    gc.enable()


def reload_on_hangup(service: Service, renewed: list[Renewed[Any]], stop: Stop) -> AbstractContextManager[object]:
    """Return what, in a service, answers SIGHUP for the block. Elsewhere the signal requests the end."""
    if not stop.leaves_hangup:
        return nullcontext()
    from xtrace.reload import Reload

    return closing(Reload(service, renewed))


def wire(config: Config, start: XdpStart | None, opened: ExitStack, stop: Stop) -> tuple[Monitor[Snapshot], ...]:
    """Start the monitors of all modes and return them in the order in which they must tick; `opened` closes them.

    `start`: that of mode xdp, whose monitor owns it from now on.

    1. xdp passes the RoCE traffic that its hooks saw in this interval to mode rdma, and its flows to --tcp,
    2. --tcp keeps the connections whose packets are among them, --tcp-packets reads those that were followed,
    3. rdma compares the traffic with the ports' own counters, and passes the ports' traffic to mode nccl,
    4. nccl adds that traffic to its processes.

    In any other order a mode would combine its interval with another mode's previous interval. All flip before the
    first ticks, and ports are read in a thread: a mode that is slow to read does not stretch another mode's interval.
    Raises Stopped if a stop is requested before everything is attached; later, what was counted must be written.
    """
    stop.check()
    rdma = watch_rdma(config) if "rdma" in config.modes else None
    ports = read_apart(rdma, config, opened) if rdma else None
    # before packets are counted, so that no connection of theirs is missed
    tcp = watch_tcp(config, config.tcp, opened) if config.tcp is not None else None
    xdp = opened.enter_context(closing(watch_flows(config, start, stop))) if start else None
    calls = opened.enter_context(closing(watch_calls(config))) if "nccl" in config.modes else None
    paths = watch_paths(config, xdp, opened) if xdp and config.tcp_packets is not None else None
    flows: Monitor[FlowSnapshot] | None = None
    connections = None
    if xdp:
        flows = joined_flows(xdp, rdma) if rdma else with_blind_spots(xdp, config, opened)
    if flows and tcp:
        flows, connections = joined_tcp(flows, *tcp)
    nics = watch_nics(config, ports, calls, opened) if calls else None
    joined = joined_calls(calls, nics) if calls and nics else calls
    in_order: tuple[Monitor[Snapshot] | None, ...] = (flows, connections, paths, nics or ports, joined)
    return tuple(monitor for monitor in in_order if monitor is not None)


def show_list(config: Config, output: OutputStream) -> None:
    """Print the interfaces, or the RDMA ports in mode rdma."""
    from xtrace.listing import print_interfaces, print_rdma_ports, surroundings

    as_json = config.output == "json"
    if "rdma" in config.modes:
        from xtrace.monitors.rdma.monitor import list_ports

        print_rdma_ports(list_ports(rdma_options(config)), output, as_json, config.host)
        return
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        links = rtnetlink.links(netlink)
        print_interfaces(links, surroundings(links, netlink), output, as_json)


def examine(config: Config, version: str) -> Iterator[Check]:
    """Yield all checks of --doctor, for the modes, interfaces, devices and server of this command line."""
    from xtrace.doctor import interfaces, jobs, machine
    from xtrace.listing import surroundings
    from xtrace.monitors.flows.hooks import Choice
    from xtrace.sinks.identity import Identity

    yield from machine.kernel()
    yield from machine.rights(config.modes)
    if "xdp" in config.modes:
        selection = selection_of(config)
        with NetlinkSocket(NETLINK_ROUTE) as netlink:
            links = rtnetlink.links(netlink)
            around = surroundings(links, netlink)
        yield from interfaces.interfaces(links, around, selection, Choice.of(config.hook, config.xdp_mode))
    yield from rdma_checks(config)
    if "nccl" in config.modes:
        yield from jobs.nccl()
    if config.target:
        target, encoding = config.target, encoding_for(config.target, Identity(config.host), version)
        yield jobs.push(target, encoding, lambda: transport_for(target, encoding, version, []))


def rdma_checks(config: Config) -> Iterator[Check]:
    """Yield the checks of RDMA ports. Without devices no socket is opened: the kernel would load RDMA's modules."""
    from xtrace.doctor import jobs
    from xtrace.kernel import infiniband

    wanted = "rdma" in config.modes or bool(config.rdma.devices)
    try:
        if not wanted and not infiniband.device_names():
            raise RdmaError("no RDMA devices")
        from xtrace.monitors.rdma.monitor import list_ports

        yield from jobs.rdma(list_ports(rdma_options(config)))
    except RdmaError as error:
        yield jobs.no_rdma(error, wanted)


def rdma_options(config: Config) -> RdmaOptions:
    """Return what mode rdma reads. -i selects ports only without -d."""
    from xtrace.monitors.rdma.monitor import RdmaOptions

    return RdmaOptions(
        devices=config.rdma.devices,
        interfaces=() if config.rdma.devices or "xdp" in config.modes else own_names(config.interfaces),
        excluded=config.rdma.excluded,
        limits=config.rdma.limits,
        every_queue_pair=config.rdma.every_queue_pair,
        joined={"xdp", "rdma"} <= set(config.modes),
    )


def own_names(interfaces: tuple[str, ...]) -> tuple[str, ...]:
    """Resolve alternative names to interface names; empty for `any`, which restricts nothing."""
    from xtrace.monitors.flows.interfaces import ANY, is_open

    if ANY in interfaces:
        return ()
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        found = [None if is_open(name) else rtnetlink.link(netlink, name) for name in interfaces]
    return tuple(link.name if link else name for link, name in zip(found, interfaces, strict=True))


def watch_rdma(config: Config) -> RdmaMonitor:
    """Return the monitor of mode rdma, with its first readings taken."""
    from xtrace.monitors.rdma.monitor import RdmaMonitor

    return RdmaMonitor(rdma_options(config), log.info)


def joined_flows(xdp: XdpMonitor, rdma: RdmaMonitor) -> Monitor[FlowSnapshot]:
    """Return `xdp`, which passes the RoCE traffic that it sees to `rdma`."""
    from xtrace.monitors.joins.flows_rdma import JoinedXdp

    return JoinedXdp(xdp, rdma)


def joined_tcp(
    flows: Monitor[FlowSnapshot], tcp: Monitor[TcpSnapshot], monitored: Monitored
) -> tuple[Monitor[FlowSnapshot], Monitor[TcpSnapshot]]:
    """Return `flows` and `tcp`, whose connections find their traffic in the flows of the same interval.

    `monitored` is told the interfaces, whose peers' sockets are read too.
    """
    from xtrace.monitors.joins.flows_tcp import JoinedTcp, KeptFlows

    kept = KeptFlows(flows, monitored)
    return kept, JoinedTcp(tcp, kept)


def joined_calls(calls: NcclMonitor, nics: Nics) -> Monitor[Snapshot]:
    """Return `calls`, with the traffic of its processes' NICs."""
    from xtrace.monitors.joins.rdma_nccl import JoinedNccl

    return JoinedNccl(calls, nics)


def with_blind_spots(xdp: XdpMonitor, config: Config, opened: ExitStack) -> Monitor[FlowSnapshot]:
    """Return `xdp`, which also reports the traffic that bypasses it if its interfaces have RDMA ports."""
    from xtrace.kernel import infiniband

    if not infiniband.device_names():
        return xdp  # and no socket is opened, which would make the kernel load RDMA's modules
    from xtrace.monitors.joins.flows_rdma import JoinedXdp
    from xtrace.monitors.rdma.monitor import quiet_monitor

    names = tuple({interface.name: None for interface in xdp.interfaces})
    rdma = quiet_monitor(names, config.rdma.excluded, log.info)
    if rdma is None:
        return xdp
    return JoinedXdp(xdp, rdma, readings=read_apart(rdma, config, opened))


def selection_of(config: Config) -> Selection:
    """Return the selected interfaces: those of -i, or of the devices of -d, or the default one."""
    from xtrace.monitors.flows.interfaces import Selection

    return Selection(config.interfaces or netdevs_of(config.rdma.devices) or (default_interface(),))


def start_flows(config: Config) -> XdpStart:
    """Return mode xdp with its programs being loaded; it attaches none."""
    from xtrace.monitors.flows.start import XdpOptions, XdpStart

    return XdpStart(
        XdpOptions(
            selection=selection_of(config),
            choice=choice_of(config),
            directions=DIRECTIONS[config.direction or default_direction(config)],
            max_flows=config.max_flows,
            filters=config.filters,
            promiscuous=config.promiscuous,
            owners=config.owners,
            tcp_packets=config.tcp_packets is not None,
        )
    )


def watch_flows(config: Config, start: XdpStart, stop: Stop) -> XdpMonitor:
    """Return the monitor of mode xdp, attached."""
    from xtrace.messages import message
    from xtrace.monitors.flows.monitor import XdpMonitor

    monitor = XdpMonitor(start, log.info, stop.check)
    if config.direction is None and default_direction(config) == "ingress":
        log.info("%s", message("counting ingress only; use --direction both to count egress too"))
    return monitor


def choice_of(config: Config) -> Choice:
    """Return the choice of hook: with --owners tc unless XDP is asked for, which needs a second program for them.

    With --tcp-packets always tc.
    """
    from xtrace.monitors.flows.hooks import Choice

    is_open = (config.hook, config.xdp_mode) == ("auto", "auto")
    prefers_tc = is_open and (config.owners or config.tcp_packets is not None)
    return Choice.of("tc" if prefers_tc else config.hook, config.xdp_mode)


def netdevs_of(devices: tuple[str, ...]) -> tuple[str, ...]:
    """Return the network interfaces of the RDMA devices of -d. Raises RdmaError if they have none."""
    if not devices:
        return ()
    from xtrace.monitors.rdma import monitor

    return monitor.netdevs_of(devices)


def default_direction(config: Config) -> str:
    """Return the direction if none is given: a person sees both, unless the hook sees only one."""
    return "both" if config.output in ("table", FULL_SCREEN) and config.hook != "xdp" else "ingress"


def watch_tcp(config: Config, limits: Limits, opened: ExitStack) -> tuple[Monitor[TcpSnapshot], Monitored]:
    """Return the health of TCP connections, read in a thread: a host may have very many. Imported only for --tcp.

    And whom to tell the names of the monitored interfaces; at first these are the names given.
    """
    from xtrace.monitors.apart import Apart
    from xtrace.monitors.flows.interfaces import is_open
    from xtrace.monitors.tcp.monitor import TcpMonitor
    from xtrace.monitors.tcp.peers import Monitored

    interval_s = config.interval_ms / 1000
    monitored = Monitored(tuple(name for name in config.interfaces if not is_open(name)))
    monitor = TcpMonitor(interval_s, limits, log.info, monitored)
    return opened.enter_context(closing(Apart(monitor, interval_s, log.info, at_flip=True))), monitored


def watch_paths(config: Config, xdp: XdpMonitor, opened: ExitStack) -> Monitor[PathSnapshot] | None:
    """Return the connections that mode xdp's programs follow, read in a thread; None if they follow none."""
    from xtrace.monitors.apart import Apart
    from xtrace.monitors.joins.flows_paths import NamedPaths
    from xtrace.monitors.paths.monitor import TcpPathMonitor

    if xdp.tcp_follower is None or config.tcp_packets is None:
        return None
    monitor = TcpPathMonitor(xdp.tcp_follower, xdp.clock, config.tcp_packets, log.error)
    apart = opened.enter_context(closing(Apart(monitor, config.interval_ms / 1000, log.info, at_flip=True)))
    return NamedPaths(apart, xdp)


def watch_calls(config: Config) -> NcclMonitor:
    """Return the monitor of mode nccl, with its probes attached."""
    from xtrace.model import nccl_verdicts
    from xtrace.monitors.nccl.monitor import NcclMonitor, NcclOptions, RasOptions

    ras = RasOptions(config.ras, config.ras_interval_s) if config.ras else None
    limits = nccl_verdicts.Limits.of(config.nccl_limits)
    return NcclMonitor(log.info, NcclOptions(config.host, limits, config.max_calls, ras))


def read_apart(rdma: RdmaMonitor, config: Config, opened: ExitStack) -> Apart[RdmaSnapshot]:
    """Return mode rdma read in a thread: a driver may take seconds, and sysfs may not answer at all."""
    from xtrace.monitors.apart import Apart

    return opened.enter_context(closing(Apart(rdma, config.interval_ms / 1000, log.info)))


def watch_nics(
    config: Config, ports: Monitor[RdmaSnapshot] | None, calls: NcclMonitor, opened: ExitStack
) -> Nics | None:
    """Return the traffic of RDMA devices for mode nccl: of all with mode rdma, else of those NCCL processes use."""
    from xtrace.kernel import proc
    from xtrace.monitors.joins.rdma_nccl import Nics

    if not proc.numbers_as_own():
        why = "process IDs in RDMA netlink are this container's, those in /proc are the host's; run with --pid host"
        log.info("mode nccl: no NIC traffic: %s", why)
        return Nics(ports) if ports else None
    if ports:
        nics = Nics(ports)
    else:
        try:
            own = read_apart(watch_rdma(config), config, opened)
            nics = Nics(own, calls.pids, config.rdma.limits)
        except RdmaError as error:
            if config.rdma.devices:
                raise
            log.info("mode nccl: no NIC traffic: %s", error)
            return None
    return nics


def make_push(
    config: Config, identity: Identity, version: str, renewed: list[Renewed[Any]], opened: ExitStack, stop: Stop
) -> Push:
    """Return the outlet of --push. Its modules are imported here: they cost start time and memory.

    Its certificates, if it has any, are appended to `renewed`.
    """
    from xtrace.sinks.push.claim import claimed
    from xtrace.sinks.push.sink import Push

    assert config.target is not None
    opened.enter_context(claimed(config.target.shown, identity.series()))
    if config.target.skip_verify:
        log.warning("push to %s: the server's certificate is not verified", config.target.shown)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # at debug level it logs whole URLs
    encoding = encoding_for(config.target, identity, version)
    spool = None
    if config.spool is not None:
        from xtrace.sinks.push.spool import Spool

        spool = Spool(*config.spool, config.target.shown, identity.series(), encoding.form)
        opened.callback(spool.close)
    push = Push(transport_for(config.target, encoding, version, renewed), encoding, spool)
    opened.callback(close_in_time, push, stop)
    return push


def encoding_for(target: Target, identity: Identity, version: str) -> Encoding:
    """Return the encoding that a server takes."""
    if target.form == REMOTE_WRITE:
        from xtrace.sinks.metrics.remote_write import RemoteWrite
        from xtrace.sinks.metrics.snappy import LIBRARY, is_compressing

        if not is_compressing():
            log.info("push to %s: samples are not compressed: the Python package %s is missing", target.shown, LIBRARY)
        return RemoteWrite(identity.series())
    if target.form == OTLP:
        from xtrace.sinks.metrics.otlp import Otlp
        from xtrace.sinks.metrics.otlp_names import is_taken

        taken = next((name for name, _ in identity.labels if is_taken(name)), None)
        if taken is not None:
            raise UsageError(f"--label: the name '{taken}' is reserved with --push-format otlp (choose another)")
        return Otlp(identity.series(), frozenset(name for name, _ in identity.labels), version)
    from xtrace.sinks.metrics.exposition import Exposition

    return Exposition(identity.series())


def transport_for(target: Target, encoding: Encoding, version: str, renewed: list[Renewed[Any]]) -> Transport:
    """Return a connection to a server, and append its certificates, if it has any, to `renewed`."""
    from xtrace.sinks.push.transport import Http

    http = Http(target, version)
    if http.certificates is not None:
        renewed.append(http.certificates)
    if target.form != REMOTE_WRITE:
        return http
    from xtrace.sinks.metrics.remote_write import RemoteWrite
    from xtrace.sinks.push.negotiation import Negotiating

    assert isinstance(encoding, RemoteWrite)
    return Negotiating(http, encoding)


def close_in_time(sender: Push | Ipfix, stop: Stop) -> None:
    """Send what is queued, within the time that the end may take."""
    sender.close(max(stop.seconds_left(), LEAST_FLUSH_S) if stop.requested else GRACE_S)


def make_ipfix(where: tuple[str, str, int], biflow: bool, opened: ExitStack, stop: Stop) -> Ipfix:
    """Return the sink of --ipfix; its modules are imported here, as those of --push."""
    from xtrace.sinks.ipfix.sink import Ipfix

    ipfix = Ipfix(*where, biflow)
    opened.callback(close_in_time, ipfix, stop)
    return ipfix


def chosen_format(config: Config, output: OutputStream) -> str:
    """Return --format; `auto` is a table on a terminal, else JSON Lines."""
    if config.output != "auto":
        return config.output
    return "table" if os.isatty(output.fileno()) else "json"


def make_listen(config: Config, identity: Identity, renewed: list[Renewed[Any]], opened: ExitStack) -> Listen:
    """Return the sink of --listen, which serves from now on; its modules are imported here, as those of --push.

    What --listen-config describes is appended to `renewed`.
    """
    from xtrace.sinks.listen.endpoint import Endpoint
    from xtrace.sinks.listen.sink import Listen

    assert config.listen is not None
    access = None
    if config.listen_config:
        from xtrace.sinks.listen.web_config import web_config
        from xtrace.sinks.renewed import Renewed

        access = Renewed(f"--listen-config {config.listen_config}", partial(web_config, config.listen_config))
        renewed.append(access)
    return opened.enter_context(closing(Listen(Endpoint(config.listen), identity, access)))


def make_feed(
    config: Config, push: Push | None, listen: Listen | None, renewed: list[Renewed[Any]], opened: ExitStack
) -> Feed:
    """Return the sink that makes samples for the push and for scrapes."""
    from xtrace.sinks.kinds import MetricsOptions
    from xtrace.sinks.metrics.feed import Feed

    outlets: list[Outlet] = [*([push] if push else []), *([listen.outlet] if listen else [])]
    options = MetricsOptions(config.max_series, config.series_by, config.metrics == "all")
    return opened.enter_context(closing(Feed(options, outlets, renewed)))


def make_live(config: Config, output: OutputStream, stop: Stop, opened: ExitStack) -> Live:
    """Return the full-screen view; the terminal stays as it is until the first interval begins."""
    from xtrace.sinks.identity import Identity
    from xtrace.sinks.live.graph import ramp
    from xtrace.sinks.live.notices import Notices
    from xtrace.sinks.live.screen import Look
    from xtrace.sinks.live.sink import Live
    from xtrace.sinks.live.terminal import Terminal
    from xtrace.sinks.text.screen import has_color

    if not (os.isatty(STDIN) and os.isatty(output.fileno())) or os.environ.get("TERM") == "dumb":
        raise UsageError("--live needs a terminal for input and output (use -o json in pipes, -o text on dumb ones)")
    (table,) = make_sinks(config._replace(output="table"), Identity(config.host), output)
    terminal = Terminal(STDIN, output)
    replaced = logging.getLogger().handlers if os.isatty(STDERR) else []
    look = Look(has_color(config.color, is_terminal=True, environment=os.environ), ramp(os.environ))
    return opened.enter_context(closing(Live(terminal, look, Notices(replaced, terminal.wake), stop, table)))


def make_sinks(config: Config, identity: Identity, output: OutputStream) -> list[Sink]:
    """Return the sinks of the chosen format."""
    is_terminal = os.isatty(output.fileno())
    top = config.top if config.top is not None else TERMINAL_TOP if is_terminal else 0
    by_owner = config.by == "owner"
    if config.output == "table":
        from xtrace.sinks.kinds import TextOptions
        from xtrace.sinks.text.screen import Terminal, TerminalText, has_color

        screen = Terminal(output.fileno(), has_color(config.color, is_terminal, os.environ), config.wide)
        return [TerminalText(output, TextOptions(config.top, screen=screen, by_owner=by_owner), screen)]
    if config.output == "text":
        from xtrace.sinks.text.sink import Text

        return [Text(output, top, config.direction == "both", by_owner=by_owner)]
    if config.output == "json":
        from xtrace.sinks.jsonl.sink import JsonLines

        return [JsonLines(output, identity, top, by_owner=by_owner)]
    return []


def default_interface() -> str:
    """Return the documented default if it exists, else the default route's interface, which is logged."""
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        if rtnetlink.link(netlink, DEFAULT_INTERFACE) is not None:
            return DEFAULT_INTERFACE
        from xtrace.kernel import routes

        route = routes.default_route(netlink)
        link = rtnetlink.link(netlink, route.index) if route else None
    if link is None:
        return DEFAULT_INTERFACE  # attaching then reports that it does not exist
    log.info("no interface %s: using %s, which has the default route", DEFAULT_INTERFACE, link.name)
    return link.name

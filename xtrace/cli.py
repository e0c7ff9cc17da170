"""The command: from argv to an exit code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import closing

from xtrace.config import DEFAULT_INTERFACE, TERMINAL_TOP, Answered, Config, parse
from xtrace.errors import InterfaceError, VerifierError, XtraceError
from xtrace.kernel import rtnetlink
from xtrace.kernel.netlink import NetlinkSocket
from xtrace.kernel.rtnetlink import LinkInfo
from xtrace.kernel.syscall import ffi, lib
from xtrace.listing import print_interfaces
from xtrace.loop import Loop
from xtrace.monitors.xdp import XdpMonitor
from xtrace.sinks import Run, Sink
from xtrace.sinks.jsonl import JsonLines
from xtrace.sinks.stream import OutputClosed, OutputStream
from xtrace.sinks.text import Text
from xtrace.stop import Stop

log = logging.getLogger("xtrace")

NETLINK_ROUTE = 0
STDOUT = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    level = logging.DEBUG if debug else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)
    with closing(Stop()) as stop:
        try:
            return answer(given, stop)
        except OutputClosed:
            return 0
        except XtraceError as error:
            log.error("xtrace-catch: %s", error, exc_info=error if debug else None)
            if debug and isinstance(error, VerifierError):
                log.debug("%s", error.log)
            return error.exit_code
        except OSError as error:
            # a file of /proc or /sys that is not there, as in a container that hides them
            log.error("xtrace-catch: %s: %s", error.filename, error.strerror, exc_info=error if debug else None)
            return 1


def answer(arguments: Sequence[str], stop: Stop) -> int:
    """Do what the command line asks for."""
    version = ffi.string(lib.xt_version()).decode()
    try:
        config = parse(arguments, os.environ, version)
    except Answered as answered:
        text = str(answered)
    else:
        stop.install()
        return run(config, version, stop)
    OutputStream(STDOUT, stop).write(text.encode())
    return 0


def run(config: Config, version: str, stop: Stop) -> int:
    """List the interfaces, or monitor one until the end."""
    output = OutputStream(STDOUT, stop)
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        if config.list_interfaces:
            print_interfaces(rtnetlink.links(netlink), output, as_json=config.output == "json")
            return 0
        monitor = XdpMonitor(
            netlink,
            choose_interface(netlink, config.interface),
            mode=config.xdp_mode,
            max_flows=config.max_flows,
            say=log.info,
        )
    with closing(monitor):
        sinks = make_sinks(config, output)
        started = Run(
            version=version,
            interval_s=config.interval_ms / 1000,
            interfaces=(monitor.interface,),
            features=tuple(monitor.features.names()),
            map_memory=monitor.map_memory,
            max_flows=config.max_flows,
        )
        for sink in sinks:
            sink.start(started)
        loop = Loop([monitor], sinks, stop, output, config.interval_ms * 1_000_000)
        loop.run(config.count)
        return 0 if loop.complete else 1


def make_sinks(config: Config, output: OutputStream) -> list[Sink]:
    """What --format asks for; `auto` is text for people and JSON Lines for programs."""
    terminal = os.isatty(output.fileno())
    top = config.top if config.top is not None else TERMINAL_TOP if terminal else 0
    form = config.output
    if form == "auto":
        form = "text" if terminal else "json"
    if form == "text":
        return [Text(output, top)]
    if form == "json":
        return [JsonLines(output, config.host, top)]
    return []


def choose_interface(netlink: NetlinkSocket, name: str | None) -> LinkInfo:
    """The interface of that name; without one eth0, or else the default route's, which is then said."""
    link = rtnetlink.link(netlink, name or DEFAULT_INTERFACE)
    if link is None and name is None:
        route = rtnetlink.default_route(netlink)
        link = rtnetlink.link(netlink, route.index) if route else None
        if link is not None:
            log.info("no interface %s: taking %s, which has the default route", DEFAULT_INTERFACE, link.name)
    if link is None:
        existing = ", ".join(found.name for found in rtnetlink.links(netlink))
        raise InterfaceError(
            f"interface {name or DEFAULT_INTERFACE} not found: there are {existing}; choose one with -i"
        )
    return link

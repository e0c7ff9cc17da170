"""Where the running kernel has the members of its TCP sockets, by its own type information (BTF).

Constants of csrc/tcp_probe.c. A member that is missing, or of another size, is ABSENT and its value not known.
"""

from __future__ import annotations

from pathlib import Path

from xtrace.errors import ObjectError, XtraceError
from xtrace.kernel.btf import Btf

BTF = Path("/sys/kernel/btf/vmlinux")

ABSENT = 0xFFFF_FFFF

CONNECTION = ("inet_conn",)
INET = (*CONNECTION, "icsk_inet")
SOCK = (*INET, "sk")
COMMON = (*SOCK, "__sk_common")

NEEDED: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "at_family": ("tcp_sock", 2, (*COMMON, "skc_family")),
    "at_local4": ("tcp_sock", 4, (*COMMON, "skc_rcv_saddr")),
    "at_remote4": ("tcp_sock", 4, (*COMMON, "skc_daddr")),
    "at_local_port": ("tcp_sock", 2, (*INET, "inet_sport")),
    "at_remote_port": ("tcp_sock", 2, (*COMMON, "skc_dport")),
    "at_net": ("tcp_sock", 8, (*COMMON, "skc_net", "net")),
    "at_netns": ("net", 4, ("ns", "inum")),
}
"""Constant -> struct, size in bytes, and path of the member: without these an end cannot be told from another."""

OPTIONAL: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "at_local6": ("tcp_sock", 16, (*COMMON, "skc_v6_rcv_saddr")),
    "at_remote6": ("tcp_sock", 16, (*COMMON, "skc_v6_daddr")),
    "at_cookie": ("tcp_sock", 8, (*COMMON, "skc_cookie")),
    "at_error": ("tcp_sock", 4, (*SOCK, "sk_err")),
    "at_ca_ops": ("tcp_sock", 8, (*CONNECTION, "icsk_ca_ops")),
    "at_ca_name": ("tcp_congestion_ops", 16, ("name",)),
    "at_timeouts": ("tcp_sock", 1, (*CONNECTION, "icsk_retransmits")),
    "at_retransmitted": ("tcp_sock", 4, ("total_retrans",)),
    "at_segments_sent": ("tcp_sock", 4, ("segs_out",)),
    "at_segments_received": ("tcp_sock", 4, ("segs_in",)),
    "at_data_sent": ("tcp_sock", 4, ("data_segs_out",)),
    "at_data_received": ("tcp_sock", 4, ("data_segs_in",)),
    "at_bytes_sent": ("tcp_sock", 8, ("bytes_sent",)),
    "at_bytes_retransmitted": ("tcp_sock", 8, ("bytes_retrans",)),
    "at_bytes_acked": ("tcp_sock", 8, ("bytes_acked",)),
    "at_bytes_received": ("tcp_sock", 8, ("bytes_received",)),
    "at_delivered": ("tcp_sock", 4, ("delivered",)),
    "at_delivered_ce": ("tcp_sock", 4, ("delivered_ce",)),
    "at_duplicates": ("tcp_sock", 4, ("dsack_dups",)),
    "at_reordered": ("tcp_sock", 4, ("reord_seen",)),
    "at_out_of_order": ("tcp_sock", 4, ("rcv_ooopack",)),
    "at_rtt": ("tcp_sock", 4, ("srtt_us",)),
    "at_rtt_variance": ("tcp_sock", 4, ("mdev_us",)),
    "at_min_rtt": ("tcp_sock", 4, ("rtt_min", "s", "v")),
    "at_send_mss": ("tcp_sock", 4, ("mss_cache",)),
    "at_cwnd": ("tcp_sock", 4, ("snd_cwnd",)),
    "at_ssthresh": ("tcp_sock", 4, ("snd_ssthresh",)),
    "at_send_window": ("tcp_sock", 4, ("snd_wnd",)),
    "at_receive_window": ("tcp_sock", 4, ("rcv_wnd",)),
}


def find_offsets(path: Path = BTF) -> dict[str, int]:
    """Return all constants. Raises XtraceError if there is no type information, or a member of NEEDED is missing."""
    try:
        types = Btf(path.read_bytes())
    except OSError as error:
        why = "the kernel has no type information (CONFIG_DEBUG_INFO_BTF)"
        raise XtraceError(f"{path}: {error.strerror}: {why}") from error
    structs = types.structs({struct for struct, _, _ in (*NEEDED.values(), *OPTIONAL.values())})
    found = {}
    for name, (struct, size, members) in {**NEEDED, **OPTIONAL}.items():
        found[name] = _offset(types, structs.get(struct), size, members)
        if found[name] == ABSENT and name in NEEDED:
            raise XtraceError(f"{path}: struct {struct} has no {'.'.join(members)} of {size} bytes")
    return found


def _offset(types: Btf, struct: int | None, size: int, members: tuple[str, ...]) -> int:
    try:
        place = types.place(struct, *members) if struct is not None else None
    except ObjectError:
        return ABSENT
    return place.offset if place and place.size == size else ABSENT

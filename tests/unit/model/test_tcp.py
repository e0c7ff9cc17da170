"""TCP samples: what is known, and how counters grow."""

from __future__ import annotations

import pytest

from tests.unit.make import packed
from tests.unit.make_tcp import connection, sample, sums
from xtrace.kernel.syscall import lib
from xtrace.model.tcp import CONGESTION_STATES, COUNTERS, NO_MIN_RTT, STATES, growth, name_of
from xtrace.model.words import Health

SENT, AGAIN = lib.TCP_SEGMENTS_SENT, lib.TCP_RETRANSMITTED


def test_sample_is_read_as_the_kernel_side_wrote_it() -> None:
    found = sample(9, local=("fd00::2", 1), values={lib.TCP_CWND: 10}, congestion="bbr", state=4, error=104, netns=5)
    assert found.ends == (packed("fd00::2"), 1, packed("10.0.0.1"), 443)
    assert (found.cookie, found.congestion, found.state, found.error, found.netns) == (9, "bbr", 4, 104, 5)
    assert found.value(lib.TCP_CWND) == 10


def test_what_the_kernel_does_not_have_and_what_was_never_measured_is_not_known() -> None:
    found = sample(values={lib.TCP_MIN_RTT: NO_MIN_RTT, lib.TCP_CWND: 10}, unknown=(lib.TCP_CWND,))
    assert found.value(lib.TCP_CWND) is None
    assert found.value(lib.TCP_MIN_RTT) is None
    assert found.value(lib.TCP_RTT) is None, "no round trip takes 0 us"
    assert found.value(lib.TCP_RETRANSMITTED) == 0


def test_counters_are_the_first_values() -> None:
    assert lib.TCP_RETRANSMITTED == 0
    assert COUNTERS == lib.TCP_RTT


def test_counters_grow_from_the_sample_before() -> None:
    grown = growth(sample(values={SENT: 30, AGAIN: 2}), sample(values={SENT: 10, AGAIN: 2}))
    assert (grown[SENT], grown[AGAIN]) == (20, 0)


def test_counters_of_a_new_connection_grow_from_zero() -> None:
    assert growth(sample(values={SENT: 30}), None)[SENT] == 30


def test_counters_of_a_socket_that_is_connected_anew_start_over() -> None:
    grown = growth(sample(values={SENT: 3, AGAIN: 7}), sample(values={SENT: 10, AGAIN: 2}))
    assert (grown[SENT], grown[AGAIN]) == (3, 5)


@pytest.mark.parametrize("now, before", [((), (SENT,)), ((SENT,), ()), ((SENT,), (SENT,))])
def test_growth_of_what_one_side_does_not_know_is_not_known(now: tuple[int, ...], before: tuple[int, ...]) -> None:
    grown = growth(sample(values={SENT: 5}, unknown=now), sample(unknown=before))
    assert (grown[SENT], grown[AGAIN]) == (None, 0)


def test_the_worst_comes_before_the_largest() -> None:
    small = connection({AGAIN: 1}, health=Health.WARN)
    large = connection({lib.TCP_BYTES_ACKED: 10**9})
    assert max(large, small, key=lambda each: each.badness) is small


@pytest.mark.parametrize("counter", [lib.TCP_BYTES_ACKED, lib.TCP_BYTES_RECEIVED])
def test_of_two_alike_the_one_that_carried_more_comes_first(counter: int) -> None:
    less, more = connection({counter: 1}), connection({counter: 2})
    assert max(less, more, key=lambda each: each.badness) is more


def test_states_have_the_kernels_names() -> None:
    """In the order of net/tcp_states.h."""
    names = "ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT1 FIN_WAIT2 TIME_WAIT CLOSE CLOSE_WAIT LAST_ACK LISTEN CLOSING"
    assert dict(enumerate(names.split(), 1)) == STATES
    assert CONGESTION_STATES == ("open", "disorder", "cwr", "recovery", "loss")


def test_unseen_is_what_the_kernel_counted_beyond_the_sockets() -> None:
    assert sums().unseen == 1
    assert sums(retrans_segs=None).unseen is None
    assert (sums(sums=()).unseen, sums(sums=()).retransmitted) == (None, None)


def test_names_of_congestion_control_end_at_their_nul_whatever_is_in_them() -> None:
    assert [name_of(text) for text in (b"bbr\0x", b"b\xffr\0\0", b"", b"cubic")] == ["bbr", "b\ufffdr", "", "cubic"]

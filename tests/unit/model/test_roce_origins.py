"""RoCE flows joined to queue pairs: known for sure, or not said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from tests.unit.make import ETH0, flow, roce
from tests.unit.make_rdma import MLX5, PERFTEST, pair
from xtrace.model.flow import EGRESS, FlowKey, Interface, Origin
from xtrace.model.rdma import PortId, Process, QueuePairRecord
from xtrace.model.roce_origins import RoceOrigins
from xtrace.model.words import Direction, Hook

OUT = Interface("eth0", slot=0, hook=Hook.TC, direction=Direction.EGRESS)
RC_SEND, UC_SEND, UD_SEND = 4, 36, 100
OWNER = (434, "ib_write_bw", "0123456789ab" + 52 * "0")
NOTHING = Origin()


def leaving(key: FlowKey) -> FlowKey:
    return key._replace(flags=key.flags | EGRESS)


def find(
    pairs: Iterable[QueuePairRecord], interface: Interface, key: FlowKey, others: Iterable[FlowKey] = ()
) -> Origin:
    flows = [flow(found) for found in (key, *others)] if interface is OUT else []
    return RoceOrigins(pairs, {MLX5: "eth0", PortId("mlx5_1", 1): "eth1"}, flows).find(interface, key)


def test_what_enters_goes_to_a_local_queue_pair_that_knows_its_remote_one() -> None:
    assert find([pair(17, 18)], ETH0, roce(RC_SEND, dst_qpn=17)) == Origin(18, *OWNER)


def test_what_leaves_goes_to_the_remote_of_the_one_queue_pair_that_points_there() -> None:
    assert find([pair(17, 18), pair(19, 20)], OUT, leaving(roce(RC_SEND, dst_qpn=18))) == Origin(17, *OWNER)


def test_queue_pair_numbers_of_another_device_do_not_count() -> None:
    elsewhere = pair(17, 18, where=PortId("mlx5_1", 1))
    assert find([elsewhere], ETH0, roce(RC_SEND, dst_qpn=17)) == NOTHING
    assert find([elsewhere], Interface("eth1", slot=1), roce(RC_SEND, dst_qpn=17)).src_qpn == 18


def test_queue_pair_of_another_type_does_not_fit() -> None:
    assert find([pair(17, 18, kind="UC")], ETH0, roce(RC_SEND, dst_qpn=17)) == NOTHING
    assert find([pair(17, 18, kind="UC")], ETH0, roce(UC_SEND, dst_qpn=17)).src_qpn == 18


def test_several_queue_pairs_that_point_to_the_same_number_leave_it_unknown() -> None:
    assert find([pair(17, 18), pair(19, 18)], OUT, leaving(roce(RC_SEND, dst_qpn=18))) == NOTHING


def test_address_of_rdma_cm_tells_which_of_several_it_is() -> None:
    pairs = [pair(17, 18, address="10.0.0.2"), pair(19, 18, address="10.0.0.3")]
    assert find(pairs, OUT, leaving(roce(RC_SEND, dst_qpn=18, dst="10.0.0.3"))).src_qpn == 19


def test_queue_pair_that_is_connected_elsewhere_does_not_fit() -> None:
    elsewhere = pair(17, 18, address="10.0.0.9")
    assert find([elsewhere], OUT, leaving(roce(RC_SEND, dst_qpn=18))) == NOTHING
    assert find([elsewhere], ETH0, roce(RC_SEND, dst_qpn=17)) == NOTHING


def test_number_that_was_sent_to_at_two_hosts_leaves_it_unknown() -> None:
    key, other = leaving(roce(RC_SEND, dst_qpn=18)), leaving(roce(RC_SEND, dst_qpn=18, dst="10.0.0.3"))
    assert find([pair(17, 18)], OUT, key).src_qpn == 17
    assert find([pair(17, 18)], OUT, key, [other]) == NOTHING


def test_number_that_was_given_again_within_the_interval_leaves_it_unknown() -> None:
    again = pair(17, 18, process=Process(500, "other"))
    assert find([pair(17, 18), again], ETH0, roce(RC_SEND, dst_qpn=17)) == NOTHING


def test_states_over_time_are_still_one_queue_pair() -> None:
    assert find([pair(17, 18, state="RTR"), pair(17, 18)], ETH0, roce(RC_SEND, dst_qpn=17)).src_qpn == 18


def test_queue_pair_that_is_not_connected_yet_says_nothing_and_spoils_nothing() -> None:
    early = pair(17, None, state="INIT")
    assert find([early], ETH0, roce(RC_SEND, dst_qpn=17)) == NOTHING
    assert find([early, pair(17, 18)], ETH0, roce(RC_SEND, dst_qpn=17)).src_qpn == 18


def test_datagrams_tell_their_source_and_get_their_process() -> None:
    datagrams = pair(17, None, kind="UD")
    assert find([datagrams], OUT, leaving(roce(UD_SEND, dst_qpn=18, src_qpn=17))).pid == PERFTEST.pid
    assert find([datagrams], ETH0, roce(UD_SEND, dst_qpn=17, src_qpn=99)).command == "ib_write_bw"


def test_queue_pair_without_a_known_port_fits_any_port_of_its_device() -> None:
    assert find([pair(17, 18, where=replace(MLX5, port=0))], ETH0, roce(RC_SEND, dst_qpn=17)).src_qpn == 18


def test_queue_pair_of_the_kernel_has_a_number_and_no_process() -> None:
    found = find([pair(17, 18, process=Process(None, "[nvme_rdma]"))], ETH0, roce(RC_SEND, dst_qpn=17))
    assert (found.src_qpn, found.pid) == (18, None)


def test_congestion_notifications_have_no_service_to_match() -> None:
    assert find([pair(17, 18)], ETH0, roce(0x81, dst_qpn=17)) == NOTHING


@pytest.mark.parametrize("kind", ["XRC_INI", "XRC_TGT"])
def test_shared_receive_domains_have_queue_pairs_for_either_end(kind: str) -> None:
    xrc_send = 0xA4  # IBA A14: the extended reliable connection's codes begin with 101
    assert find([pair(17, 18, kind=kind)], ETH0, roce(xrc_send, dst_qpn=17)).src_qpn == 18
    assert find([pair(17, 18, kind=kind)], ETH0, roce(RC_SEND, dst_qpn=17)) == NOTHING

"""--doctor on this kernel: it finds what a run would meet, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

from tests.netns.tool import attached_program, is_free, run_to_end, running, tc_way
from tests.support.net import Namespace, records, veth_pair
from tests.support.schema import validate


def examined(namespace: Namespace, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    result = run_to_end(namespace, "--doctor", "-o", "json", *arguments)
    assert result.stderr == b""
    lines = records(result.stdout)
    validate(lines)
    return result.code, lines


def test_an_interface_in_order_passes_and_nothing_is_attached() -> None:
    with veth_pair() as pair:
        before = pair.far.ip("-d link show far0")
        code, checks = examined(pair.far, "-i", "far0")
        assert attached_program(pair.far) is None and is_free(pair.far, "far0")
        assert pair.far.ip("-d link show far0") == before
    assert code == 0
    assert {check["name"] for check in checks} >= {"kernel", "capabilities", "memlock", "features", "interface"}
    (interface,) = [check for check in checks if check["name"] == "interface"]
    assert (interface["subject"], interface["status"]) == ("far0", "ok")
    assert "10.0.0.2/24" in interface["detail"] and "veth" in interface["detail"]


def test_a_missing_interface_and_a_server_that_is_away_fail() -> None:
    with veth_pair() as pair:
        code, checks = examined(pair.far, "-i", "nowhere0", "--push", "http://127.0.0.1:1")
    assert code == 1
    failed = {check["name"]: check for check in checks if check["status"] == "fail"}
    assert set(failed) == {"interface", "push"}
    assert "lo, far0" in failed["interface"]["cure"]
    assert "refused" in failed["push"]["detail"].lower() or "unreachable" in failed["push"]["detail"].lower()


def test_a_running_instance_is_named_as_an_owner() -> None:
    with veth_pair() as pair, running(pair.far, "-i", "far0", "-t", "1h", "--hook", "tc"):
        code, checks = examined(pair.far, "-i", "far0")
    assert code == 0
    (owner,) = [check for check in checks if check["name"] == "owners"]
    assert ("TCX program id" if tc_way() == "tcx" else "filter xtrace-catch:") in owner["detail"]

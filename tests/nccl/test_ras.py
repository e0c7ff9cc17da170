"""--ras: missing ranks and skew, as (a double of) the RAS service reports them; and failing services."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from contextlib import suppress
from typing import Any

import pytest

from tests.nccl.hosts import inside
from tests.nccl.jobs import calling, standin, watching
from tests.nccl.ras_double import communicator, document, missing, rank, serving, without_commas
from tests.support.net import of_type, veth_pair

STATUS = document(
    communicator(
        4,
        [rank(0, {"AllReduce": 120}), rank(1, {"AllReduce": 120}), rank(3, {"AllReduce": 117}, async_error=6)],
        [missing(2)],
    )
)


def run(port: int, *arguments: str, until: bytes) -> tuple[list[dict[str, Any]], str]:
    """The records and stderr of a run that queries a loopback port until `until` appears on stderr."""
    with watching("--ras", f"127.0.0.1:{port}", "-t", "100ms", *arguments, stdout=subprocess.PIPE) as tool:
        tool.wait_until_it_says(until)
        if until == b" answers: ":
            tool.wait_until_it_prints(b'"type":"nccl_ras"')
        result = tool.stop()
    assert result.code == 0
    return result.records, result.stderr.decode()


def test_missing_ranks_and_skew_are_reported() -> None:
    with serving(STATUS) as service:
        records, stderr = run(service.server_address[1], until=b" answers: ")
        assert service.commands == ["CLIENT PROTOCOL 2", "SET FORMAT json", "VERBOSE STATUS"]
    (record,) = of_type(records, "nccl_ras")
    assert record["communicator"] == "0x9f3c:0x1:0x2"
    assert (record["nranks"], record["ranks"], record["missing_ranks"], record["async_error_ranks"]) == (4, 3, [2], [3])
    assert record["skew"] == 3
    assert record["collectives"] == [{"function": "AllReduce", "least": 117, "most": 120}]
    assert (record["nccl_version"], record["timeouts"]) == ("2.28.9", 1)
    assert f"RAS service 127.0.0.1:{service.server_address[1]} answers: NCCL 2.28.9" in stderr


def test_services_at_several_addresses_are_asked() -> None:
    other = document({**communicator(2, [rank(0, {}), rank(1, {})], []), "hash": "0x7777"})
    with serving(STATUS) as one, serving(other) as another:
        ports = [service.server_address[1] for service in (one, another)]
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
        with watching("--ras", addresses, "-t", "100ms", stdout=subprocess.PIPE) as tool:
            for port in ports:
                tool.wait_until_it_prints(f'"address":"127.0.0.1:{port}"'.encode())
            result = tool.stop()
    found = {record["address"]: record["nranks"] for record in of_type(result.records, "nccl_ras")}
    assert found == {f"127.0.0.1:{ports[0]}": 4, f"127.0.0.1:{ports[1]}": 2}


def test_a_container_has_its_own_localhost() -> None:
    with veth_pair() as pair, inside(pair.near), serving(STATUS) as service:
        port = service.server_address[1]
        with (
            calling(standin(), 1, prefix=pair.near.command()) as caller,
            watching(
                "--ras", f"127.0.0.1:{port}", "-t", "100ms", prefix=pair.far.command(), stdout=subprocess.PIPE
            ) as tool,
        ):
            tool.wait_until_it_prints(b'"type":"nccl_ras"')
            result = tool.stop()
    (record, *_) = of_type(result.records, "nccl_ras")
    assert (record["address"], record["missing_ranks"]) == (f"127.0.0.1:{port} of pid {caller.pid}", [2])


def test_answer_with_the_missing_comma_is_parsed() -> None:
    answer = without_commas(STATUS)
    with pytest.raises(ValueError, match="delimiter"):
        json.loads(answer)
    with serving(answer) as service:
        records, _ = run(service.server_address[1], until=b" answers: ")
    (record,) = of_type(records, "nccl_ras")
    assert (record["missing_ranks"], record["skew"]) == ([2], 3)


def test_missing_and_slow_ranks_are_reported_with_host_pid_and_gpu() -> None:
    with serving(STATUS) as service:
        records, _ = run(service.server_address[1], until=b" answers: ")
    (record,) = of_type(records, "nccl_ras")
    where = {"host": "192.0.2.2", "pid": 2000, "cuda_device": 0, "nvml_device": 0}
    assert record["missing"] == [{"rank": 2, **where, "dead": False}]
    where = {"host": "192.0.2.1", "pid": 1003, "cuda_device": 3, "nvml_device": 3}
    assert record["behind"] == [{"function": "AllReduce", "ranks": 1, "first": [{"rank": 3, **where}]}]
    assert record["age_s"] == 0


def test_refused_connection_is_one_line() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        records, stderr = run(port, until=b"Connection refused")
    assert stderr.count("RAS service") == 1
    assert f"RAS service 127.0.0.1:{port}: Connection refused; retrying every 60 s" in stderr
    assert of_type(records, "nccl_ras") == []
    assert of_type(records, "nccl")


def test_an_older_nccl_without_json_is_one_line() -> None:
    with serving(b"Job summary\n", has_json=False) as service:
        records, stderr = run(service.server_address[1], until=b"2.28.7")
        assert "VERBOSE STATUS" not in service.commands
    assert stderr.count("RAS service") == 1
    assert "no JSON support: NCCL 2.28.7 or newer is needed; retrying every 60 s" in stderr
    assert of_type(records, "nccl_ras") == []


@pytest.mark.parametrize(
    "answer", [b"", b"{", b"[]", b'{"nccl_version": "2.28.9"}', STATUS.replace(b'"size"', b'"sighs"')]
)
def test_invalid_answer_is_reported_and_ends_nothing(answer: bytes) -> None:
    with serving(answer) as service:
        records, _ = run(service.server_address[1], until=b"cannot parse the answer")
    assert of_type(records, "nccl_ras") == []
    assert of_type(records, "nccl")


HUGE = 123456789012345678901234567890


@pytest.mark.parametrize(
    "answer",
    [
        document({**communicator(4, [rank(0, {"AllReduce": 1})], []), "size": HUGE}),
        document({**communicator(4, [rank(0, {"AllReduce": 1})], []), "size": "4"}),
        document({**communicator(4, [rank(0, {"AllReduce": 1})], []), "size": -4}),
        document(communicator(4, [rank(0, {"AllReduce": HUGE})], [])),
        document(communicator(4, [rank(0, {})], [missing(HUGE)])),
    ],
)
def test_invalid_numbers_are_rejected(answer: bytes) -> None:
    with serving(answer) as service:
        records, stderr = run(service.server_address[1], until=b"cannot parse the answer")
    assert of_type(records, "nccl_ras") == []
    assert len(stderr) < 2000


def test_names_of_a_service_are_cut_and_have_no_control_characters() -> None:
    evil = "\x1b[2J\nforged line\x07" + "x" * 1000
    found = {**communicator(4, [rank(0, {})], []), "hash": evil}
    with serving(document(found).replace(b'"2.28.9"', json.dumps(evil).encode())) as service:
        records, stderr = run(service.server_address[1], until=b" answers: ")
    (record,) = of_type(records, "nccl_ras")
    assert record["communicator"].startswith("?[2J?forged line?xxx")
    assert len(record["communicator"]) < 150
    assert "\x1b" not in stderr
    assert not [line for line in stderr.splitlines() if line.startswith("forged")]


def test_endless_answer_without_a_line_end_is_given_up() -> None:
    with socket.socket() as endless:
        endless.bind(("127.0.0.1", 0))
        endless.listen()

        def pour() -> None:
            connection, _ = endless.accept()
            with connection, suppress(OSError):
                while True:
                    connection.sendall(bytes(65536))

        thread = threading.Thread(target=pour)
        thread.start()
        run(endless.getsockname()[1], until=b"answered without a line end")
        thread.join()


def test_invalid_host_name_is_one_line() -> None:
    with watching("--ras", "a..b:28028", "-t", "100ms", stdout=subprocess.PIPE) as tool:
        tool.wait_until_it_says(b"RAS service a..b:28028: ")
        result = tool.stop()
    assert (result.code, b"Traceback" in result.stderr) == (0, False)


def test_a_service_that_never_answers_delays_no_tick() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with watching("--ras", f"127.0.0.1:{silent.getsockname()[1]}", "-t", "100ms", "-c", "5") as tool:
            result = tool.wait()
    assert result.code == 0
    assert len(of_type(result.records, "nccl")) == 5

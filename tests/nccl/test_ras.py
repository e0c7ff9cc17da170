"""--ras: missing ranks and skew, as the RAS service (a double of it) tells them; and what is wrong with a service."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from contextlib import suppress
from typing import Any

import pytest

from tests.nccl.jobs import watching
from tests.nccl.ras_double import communicator, document, missing, rank, serving, without_commas
from tests.support.net import of_type

STATUS = document(
    communicator(
        4,
        [rank(0, {"AllReduce": 120}), rank(1, {"AllReduce": 120}), rank(3, {"AllReduce": 117}, async_error=6)],
        [missing(2)],
    )
)


def asked(port: int, *arguments: str, until: bytes) -> tuple[list[dict[str, Any]], str]:
    """The records and stderr of a run that asks a port of loopback, until it says something."""
    with watching("--ras", f"127.0.0.1:{port}", "-t", "100ms", *arguments, stdout=subprocess.PIPE) as tool:
        tool.wait_until_it_says(until)
        if until == b" answers: ":
            tool.wait_until_it_prints(b'"type":"nccl_ras"')
        result = tool.stop()
    assert result.code == 0
    return result.records, result.stderr.decode()


def test_missing_ranks_and_skew_are_reported() -> None:
    with serving(STATUS) as service:
        records, said = asked(service.server_address[1], until=b" answers: ")
        assert service.commands == ["CLIENT PROTOCOL 2", "SET FORMAT json", "VERBOSE STATUS"]
    (told,) = of_type(records, "nccl_ras")
    assert told["communicator"] == "0x9f3c:0x1:0x2"
    assert (told["nranks"], told["ranks"], told["missing_ranks"], told["async_error_ranks"]) == (4, 3, [2], [3])
    assert told["skew"] == 3
    assert told["collectives"] == [{"function": "AllReduce", "least": 117, "most": 120}]
    assert (told["nccl_version"], told["timeouts"]) == ("2.28.9", 1)
    assert f"RAS service 127.0.0.1:{service.server_address[1]} answers: NCCL 2.28.9" in said


def test_answer_that_lacks_a_comma_just_when_ranks_are_missing_is_read() -> None:
    answer = without_commas(STATUS)
    with pytest.raises(ValueError, match="delimiter"):
        json.loads(answer)
    with serving(answer) as service:
        records, _ = asked(service.server_address[1], until=b" answers: ")
    (told,) = of_type(records, "nccl_ras")
    assert (told["missing_ranks"], told["skew"]) == ([2], 3)


def test_missing_ranks_and_those_behind_are_told_with_where_they_run() -> None:
    with serving(STATUS) as service:
        records, _ = asked(service.server_address[1], until=b" answers: ")
    (told,) = of_type(records, "nccl_ras")
    where = {"host": "192.0.2.2", "pid": 2000, "cuda_device": 0, "nvml_device": 0}
    assert told["missing"] == [{"rank": 2, **where, "dead": False}]
    where = {"host": "192.0.2.1", "pid": 1003, "cuda_device": 3, "nvml_device": 3}
    assert told["behind"] == [{"function": "AllReduce", "ranks": 1, "first": [{"rank": 3, **where}]}]
    assert told["age_s"] == 0


def test_nobody_there_is_one_line() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        records, said = asked(port, until=b"Connection refused")
    assert said.count("RAS service") == 1
    assert f"RAS service 127.0.0.1:{port}: Connection refused; asking again every 60 s" in said
    assert of_type(records, "nccl_ras") == []
    assert of_type(records, "nccl")


def test_an_older_nccl_without_json_is_one_line() -> None:
    with serving(b"Job summary\n", has_json=False) as service:
        records, said = asked(service.server_address[1], until=b"2.28.7")
        assert "VERBOSE STATUS" not in service.commands
    assert said.count("RAS service") == 1
    assert "it has no JSON: NCCL 2.28.7 or newer is needed; asking again every 60 s" in said
    assert of_type(records, "nccl_ras") == []


@pytest.mark.parametrize(
    "answer", [b"", b"{", b"[]", b'{"nccl_version": "2.28.9"}', STATUS.replace(b'"size"', b'"sighs"')]
)
def test_an_answer_that_is_none_is_said_and_ends_nothing(answer: bytes) -> None:
    with serving(answer) as service:
        records, _ = asked(service.server_address[1], until=b"its answer is not understood")
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
def test_numbers_that_are_none_are_not_understood(answer: bytes) -> None:
    with serving(answer) as service:
        records, said = asked(service.server_address[1], until=b"its answer is not understood")
    assert of_type(records, "nccl_ras") == []
    assert len(said) < 2000


def test_what_a_service_calls_things_is_short_and_does_nothing_to_a_terminal() -> None:
    evil = "\x1b[2J\nforged line\x07" + "x" * 1000
    found = {**communicator(4, [rank(0, {})], []), "hash": evil}
    with serving(document(found).replace(b'"2.28.9"', json.dumps(evil).encode())) as service:
        records, said = asked(service.server_address[1], until=b" answers: ")
    (told,) = of_type(records, "nccl_ras")
    assert told["communicator"].startswith("?[2J?forged line?xxx")
    assert len(told["communicator"]) < 150
    assert "\x1b" not in said
    assert not [line for line in said.splitlines() if line.startswith("forged")]


def test_a_service_that_answers_no_line_is_given_up() -> None:
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
        asked(endless.getsockname()[1], until=b"it answers no line")
        thread.join()


def test_a_name_that_no_host_can_have_is_one_line() -> None:
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

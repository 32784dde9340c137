"""What `fabricctl bench` writes and when, and how its figures are told."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.words.errors import InvalidRequest
from session_fabric_cli.benching.figures import Measured
from session_fabric_cli.benching.gateway import socket_url
from session_fabric_cli.benching.load import Load, check

LOADS = st.builds(
    Load,
    st.integers(1, 50),
    st.integers(1, 20),
    st.floats(0.1, 50),
    st.integers(1, 1000),
)


@given(LOADS)
def test_events_are_due_evenly_within_the_time_and_sessions_take_turns(load: Load) -> None:
    firsts = [next(load.due_s(session)) for session in range(load.sessions)]
    assert firsts == sorted(firsts)
    assert firsts[-1] < 1 / load.rate
    for session in (0, load.sessions - 1):
        due = list(load.due_s(session))
        assert len(due) == load.events
        assert all(abs(after - before - 1 / load.rate) < 1e-6 for before, after in itertools.pairwise(due))
        assert due[-1] <= max(load.seconds, 1 / load.rate)


def test_a_load_that_one_process_cannot_carry_is_refused_by_what_it_amounts_to() -> None:
    with pytest.raises(InvalidRequest, match="3,000 events a second; one fabricctl writes at most 2,000"):
        check(Load(100, 1, 30.0, 10))
    with pytest.raises(InvalidRequest, match="at most 1 GiB"):
        check(Load(100, 600, 20.0, 200_000))
    assert check(Load(100, 1, 20.0, 10)) == Load(100, 1, 20.0, 10)


def test_percentiles_are_of_all_that_was_seen_and_what_did_not_come_is_missing() -> None:
    seen = Measured("broker", 100, 10.0, [number / 1000 for number in range(100)], [0.5] * 97, [0.0] * 100, 50, 0.5)
    told = seen.told()
    assert told["append_ms"] == {"p50": 50.0, "p99": 99.0, "max": 99.0}
    assert (told["per_s"], told["missing"], told["catch_up"]["per_s"]) == (10.0, 3, 100)
    assert seen.doubts() == []


def test_a_deployment_that_does_not_keep_up_is_told_of() -> None:
    behind = Measured("gateway", 100, 10.0, [0.1] * 90, [0.1] * 90, [0.5] * 90)
    assert ["90 of 100 events" in behind.doubts()[0], "late by 500 ms" in behind.doubts()[1]] == [True, True]
    assert Measured("broker", 10).told()["append_ms"] == {"p50": None, "p99": None, "max": None}


@pytest.mark.parametrize(
    ("url", "socket"),
    [
        ("https://gw.example", "wss://gw.example/v1/ws"),
        ("http://127.0.0.1:80/", "ws://127.0.0.1:80/v1/ws"),
        ("wss://gw.example/fabric/v1/ws", "wss://gw.example/fabric/v1/ws"),
    ],
)
def test_a_gateway_is_named_by_its_address_or_its_sockets(url: str, socket: str) -> None:
    assert socket_url(url) == socket


def test_what_is_no_gateways_address_is_refused() -> None:
    for url in ("ftp://host", "host:80", "https://"):
        with pytest.raises(InvalidRequest, match="no gateway's URL"):
            socket_url(url)

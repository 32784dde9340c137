"""The model of capacity: arithmetic that can be followed, what it refuses, and what it is checked against."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.words.subjects import Place

from bench.capacity.__main__ import main, markdown, table
from bench.capacity.check import Idle, Stored, judge, measure, named, renamed
from bench.capacity.inputs import Machines, Prices, UnitCosts, Usage, WrongInput
from bench.capacity.model import Capacity, capacity
from tests.docs.pages import page

_SESSIONS = st.floats(1e3, 1e9)
_DOCS = tuple((sessions, capacity(Usage(sessions))) for sessions in (1e5, 1e6, 1e7, 1e8))


@given(_SESSIONS, st.floats(1.01, 100))
def test_more_sessions_never_need_less_and_money_grows_no_faster_than_they_do(sessions: float, times: float) -> None:
    one, other = capacity(Usage(sessions)), capacity(Usage(sessions * times))
    assert other.brokers.nodes >= one.brokers.nodes
    assert other.gateways.processes >= one.gateways.processes
    # A whole machine more, where only a part of it is needed.
    step = Prices().node_month + 2 * Prices().gateway_month
    assert other.money.all <= one.money.all * times + step


@given(_SESSIONS, st.sampled_from([each.name for each in dataclasses.fields(UnitCosts)]))
def test_what_costs_more_in_machine_never_costs_less_in_money(sessions: float, name: str) -> None:
    dearer = dataclasses.replace(UnitCosts(), **{name: getattr(UnitCosts(), name) * 1.5})
    assert capacity(Usage(sessions), dearer).money.all >= capacity(Usage(sessions)).money.all


@given(_SESSIONS)
def test_no_machine_is_fuller_than_it_may_be(sessions: float) -> None:
    found, machines = capacity(Usage(sessions)), Machines()
    _fits(found, machines)
    assert found.brokers.nodes >= machines.replicas


def _fits(found: Capacity, machines: Machines) -> None:
    slack = 1.001
    assert found.brokers.memory <= machines.node_memory * machines.used * slack
    assert found.brokers.disk <= machines.node_disk * machines.used * slack
    assert found.brokers.cores <= machines.node_cores * machines.used * slack
    assert found.gateways.cores <= machines.gateway_cores * machines.used * slack
    assert found.gateways.memory <= machines.gateway_memory * machines.used * slack
    assert found.brokers.streams * machines.stream_messages_per_s >= found.load.tokens


def test_idle_sessions_are_what_their_replicas_hold() -> None:
    idle = Usage(1e6, messages=0, watched=0)
    found = capacity(idle)
    assert found.load.tokens == 0
    assert found.brokers.memory == pytest.approx(1e6 * UnitCosts().session_memory + UnitCosts().process_memory)
    assert found.brokers.disk == pytest.approx(1e6 * UnitCosts().session_disk)
    assert found.gateways.processes == 2  # one, and the one that is in its place meanwhile


@pytest.mark.parametrize(
    ("usage", "named_"),
    [
        ({"sessions": 0}, "sessions is 0"),
        ({"sessions": 1e6, "watched": 1.5}, "watched is 1.5: it is a share"),
        ({"sessions": 1e6, "token_bytes": -1}, "token_bytes is -1"),
        ({"sessions": float("nan")}, "sessions is nan"),
    ],
)
def test_a_wrong_figure_is_named(usage: dict[str, float], named_: str) -> None:
    with pytest.raises(WrongInput, match=named_):
        Usage(**usage)


def test_what_is_no_number_is_named_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--sessions", "many"])
    assert "'many' are no numbers: such as 1e5,1e6" in capsys.readouterr().err


def test_prices_are_the_readers_own_where_they_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sessions", "1e6", "--node-month", "0", "--currency", "EUR", "--markdown"]) == 0
    printed = capsys.readouterr().out
    assert "| EUR a month: brokers | 0 |" in printed


def test_the_page_on_sizing_has_what_the_model_says() -> None:
    assert markdown(table(_DOCS, "USD")) in page("docs/sizing.md")


def test_another_session_is_as_the_pattern_is_and_has_its_own_place() -> None:
    one = Place("default", named(1))
    pattern = Stored(named(1), one.stored("ev", "_", "gw"), {"Nats-Msg-Id": f"{'a' * 32}/x", "Nats-Expected": "0"}, b"")
    other = renamed(pattern, named(2), "b" * 32)
    assert other.subject == Place("default", named(2)).stored("ev", "_", "gw")
    assert other.headers == {"Nats-Msg-Id": f"{'b' * 32}/x"}


def test_dearer_sessions_and_slower_answers_are_found() -> None:
    fine = Idle(10_000, 3000, 800, 0.3, 1.0, 60.0, 2.0, 5.0, 0.3)
    more = fine._replace(sessions=100_000)
    assert judge([fine, more]) == []
    assert "memory of each grows" in judge([fine, more._replace(memory_each=4000)])[0]
    assert "disk of each grows" in judge([fine, more._replace(disk_each=1000)])[0]
    assert "append takes 4.0 ms" in judge([fine, more._replace(append_p50_ms=4.0)])[0]
    assert "once in a hundred, takes 9.0 ms" in judge([fine, more._replace(append_p99_ms=9.0)])[0]


@pytest.mark.parametrize(("said", "wrong"), [("1e3 --streams 0", "from 1 to 256"), ("10", "1,000 at least")])
def test_what_cannot_be_measured_is_said(said: str, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--measure", *said.split()])
    assert wrong in capsys.readouterr().err


@pytest.mark.slow
def test_idle_sessions_are_filled_in_and_used() -> None:
    [found] = measure([1000])
    assert found.sessions == 1000
    assert 0 < found.disk_each < 4096
    assert found.append_p50_ms > 0
    assert found.open_p50_ms > 0

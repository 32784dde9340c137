"""The page about a session, what it says is wrong, and how it looks."""

from __future__ import annotations

import io
import os
from pathlib import Path

import orjson
import pytest
from rich.console import Console
from session_fabric.records import Imported
from session_fabric_cli.inspecting.hints import hints
from session_fabric_cli.inspecting.page import Page, make_page
from session_fabric_cli.inspecting.screen import show_page

from tests.support.findings import SEGMENT, Scene, busy_scene

GOLDEN = Path(__file__).parents[2] / "golden" / "screens"


def page(scene: Scene) -> Page:
    return make_page(scene.found, scene.now)


def said(scene: Scene) -> str:
    return "\n".join(f"{hint.say} [{hint.command}]" for hint in hints(page(scene)))


def screen(scene: Scene, width: int) -> str:
    made = page(scene)
    out = io.StringIO()
    show_page(Console(file=out, width=width, highlight=False, markup=False, emoji=False), made, hints(made))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


# --- inputs that wait -------------------------------------------------------------------------------


def waiting(scene: Scene) -> list[str]:
    return [one.id for one in page(scene).waiting]


def test_an_input_waits_until_it_has_its_run() -> None:
    from session_fabric.rules.routing import run_of_input

    scene = Scene()
    asked = scene.at(1).says("Hello")
    (one,) = page(scene.at(11)).waiting
    assert (one.pool, one.by, one.waits_ms, one.came) == ("default", "user:ada", 10_000, "nowhere")
    scene.at(12).starts(run_of_input(asked.id), asked)
    assert waiting(scene) == []


@pytest.mark.parametrize("type", ["message.steered", "message.rejected", "message.expired"])
def test_an_input_that_was_settled_otherwise_does_not_wait(type: str) -> None:
    scene = Scene()
    asked = scene.says("Hello")
    scene.add(type, input=str(asked.offset), message="m1")
    assert waiting(scene) == []


def test_of_an_input_that_was_passed_on_the_new_one_waits() -> None:
    scene = Scene()
    asked = scene.says("Hello")
    scene.add("message.forwarded", id="fwd", origin=asked.id, message={"id": "m1"}, pool="billing")
    assert waiting(scene) == ["fwd"]


def test_what_was_asked_of_a_person_does_not_wait_for_an_agent_afterwards() -> None:
    scene = Scene()
    scene.add("handoff.taken", "operator:eve", pool="default", floor={"participant": "operator:eve", "generation": 1})
    scene.says("Hello")
    assert [one.person for one in page(scene).waiting] == ["operator:eve"]
    scene.add("handoff.returned", "operator:eve", pool="default", floor={"participant": None, "generation": 2})
    assert waiting(scene) == []


def test_how_far_an_input_has_come_is_told_by_its_pools_subscription() -> None:
    scene = Scene()
    scene.says("Hello")
    for delivered, acknowledged, came in ((0, 0, "nowhere"), (1, 0, "delivered"), (1, 1, "taken")):
        scene.change(backlogs=[])
        scene.backlog("pool-default", delivered=delivered, acknowledged=acknowledged)
        assert page(scene).waiting[0].came == came


# --- what is wrong ------------------------------------------------------------------------------------


def test_a_pool_that_nobody_serves_is_the_first_thing_said() -> None:
    scene = Scene()
    for n in range(3):
        scene.at(n).says("Hello", f"m{n}", "support")
    assert "Nobody has ever served the pool support: 3 inputs wait since 00:00:00." in said(scene.at(60))
    scene.backlog("pool-support", waiting=3)
    assert said(scene).startswith("Nobody serves the pool support: 3 inputs wait since 00:00:00.")
    assert "[fabricctl session lag chat]" in said(scene)


def test_workers_who_are_busy_are_not_nobody() -> None:
    scene = Scene()
    scene.at(0).says("Hello")
    scene.backlog("pool-default", in_hand=8, waiting=1)
    assert "busy" in said(scene.at(60))


def test_an_input_of_this_moment_is_nothing_to_worry_about() -> None:
    scene = Scene()
    scene.at(1).says("Hello")
    assert said(scene.at(2)) == ""


def test_an_input_that_should_have_expired_says_that_nobody_watches() -> None:
    scene = Scene()
    scene.at(0).says("Hello")
    assert "Nobody watches over the sessions" in said(scene.at(301))


def test_a_run_whose_process_is_gone_is_named_with_what_ends_it() -> None:
    scene = Scene()
    scene.at(0).starts()
    assert said(scene.at(5)) == ""
    scene.change(holders=frozenset())
    assert "fabricctl session abandon chat r1" in said(scene)


def test_a_run_that_lost_its_process_and_is_not_taken_over_is_named() -> None:
    scene = Scene()
    scene.at(0).starts()
    scene.at(1).add("run.orphaned", "service:fabric", run="r1")
    assert said(scene.at(10)) == ""
    assert "without a process for 59s" in said(scene.at(60))


def test_a_run_that_stores_nothing_for_a_minute_is_named_with_what_stops_it() -> None:
    scene = Scene()
    scene.at(0).starts()
    assert "fabricctl session cancel chat r1" in said(scene.at(61))
    assert said(scene.change(wrote={"r1": scene.now - 1000})) == ""


def test_a_request_to_somebody_who_is_not_there_says_so() -> None:
    scene = Scene()
    scene.at(0).starts()
    scene.at(1).add("input.requested", run="r1", id="q", kind="text", title="Why?", to="role:operator")
    assert "waits for role:operator, who is not present" in said(scene)
    scene.present("operator:eve")
    assert said(scene) == ""


def test_a_floor_of_a_person_who_left_is_named() -> None:
    scene = Scene()
    scene.add("handoff.taken", "operator:eve", pool="default", floor={"participant": "operator:eve", "generation": 1})
    scene.says("Hello")
    assert "operator:eve has the floor of pool default and is not present, and a message waits." in said(scene)
    scene.present("operator:eve")
    assert said(scene) == ""


def test_a_quiet_session_has_nothing_wrong() -> None:
    scene = Scene()
    asked = scene.at(1).says("Hello")
    from session_fabric.rules.routing import run_of_input

    run = run_of_input(asked.id)
    scene.at(2).starts(run, asked)
    scene.at(3).completes("Hi", run)
    scene.at(4).ends(run)
    assert said(scene.at(10_000)) == ""


# --- how it looks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 80, 100, 120, 200])
def test_the_page_looks_as_it_did(width: int) -> None:
    shown = screen(busy_scene(), width)
    path = GOLDEN / f"session-show-{width}.txt"
    if os.environ.get("SESSION_FABRIC_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(shown)
    assert shown == path.read_text()
    assert max(map(len, shown.splitlines())) <= width


@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_narrow_terminal_gets_the_page_too_and_one_of_80_all_names_whole(width: int) -> None:
    joined = "".join(screen(busy_scene(), width).split())
    for name in ("run-a", "run-d", "operator:eve", f"{SEGMENT}_{20:016d}"):
        assert name in joined or width < 80


def test_what_others_wrote_does_not_steer_the_terminal() -> None:
    shown = screen(busy_scene(), 80)
    assert all(c.isprintable() or c == "\n" for c in shown)


def test_programs_get_all_of_it_as_json() -> None:
    scene = busy_scene()
    plain = orjson.loads(orjson.dumps(page(scene).plain()))
    assert list(plain) == [
        "now",
        "session",
        "looked",
        "present",
        "floors",
        "runs",
        "controls",
        "requests",
        "waiting",
        "lag",
        "cursors",
        "failures",
        "documents",
        "messages",
        "traces",
    ]
    assert plain["controls"][0]["outcome_ms"] == 20
    assert [run["state"] for run in plain["runs"]] == ["completed", "cancelled", "failed", "running"]
    assert plain["traces"] == ["4bf92f3577b34da6a3ce929d0e0e4736"]


# --- an import --------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [False, True])
def test_a_session_whose_import_was_cut_off_is_told_as_that(done: bool) -> None:
    scene = Scene()
    record = scene.found.record.model_copy(update={"state": "closed", "imported": Imported(chain="c", done=done)})
    scene.change(record=record)
    assert page(scene).session["importing"] is not done
    assert ("It does not hold everything: its import" in said(scene)) is not done

"""What is wrong in a session, in a sentence each, and the command with which to look further. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from session_fabric_cli.inspecting.page import Page
from session_fabric_cli.inspecting.runs import LONG_MS, ORPHANED_MS, RunLine
from session_fabric_cli.inspecting.waiting import Waiting
from session_fabric_cli.printing import moment, one_line, span

# So long an input may be under way to a worker.
_SOON_MS = 2_000


class Hint(NamedTuple):
    """`say` is for people; `command` looks further or mends it, None where there is none."""

    say: str
    command: str | None


def hints(page: Page) -> list[Hint]:
    """Return what an operator should know first, the worst first."""
    name = str(page.session["session"])
    return [
        *_importing(page),
        *_waiting(page, name),
        *_runs(page, name),
        *_controls(page, name),
        *_requests(page, name),
        *_floors(page, name),
        *_failures(page, name),
        *_seen(page),
    ]


def _importing(page: Page) -> Iterator[Hint]:
    if page.session["importing"]:
        yield Hint(
            "It does not hold everything: its import is under way, or was cut off. The same file, imported or restored "
            "again, brings all of it.",
            None,
        )


def _waiting(page: Page, name: str) -> Iterator[Hint]:
    look = f"fabricctl session lag {name}"
    for pool in dict.fromkeys(one.pool for one in page.waiting):
        of_pool = [one for one in page.waiting if one.pool == pool]
        idle = [one for one in of_pool if one.behind is None and one.person is None and one.waits_ms >= _SOON_MS]
        if late := [one for one in of_pool if one.late]:
            yield Hint(
                f"Nobody watches over the sessions: {_inputs(late)} of pool {pool} should have expired. "
                "No gateway and no agent runs with the rights to see to it.",
                "fabricctl doctor",
            )
        if not idle:
            continue
        line = next((one for one in page.lag if one.pool == pool), None)
        if line is None:
            yield Hint(f"Nobody has ever served the pool {pool}: {_inputs(idle)} since {_clock(idle)}.", look)
        elif line.asking == 0 and line.in_hand == 0:
            yield Hint(f"Nobody serves the pool {pool}: {_inputs(idle)} since {_clock(idle)}.", look)
        elif any(one.came != "nowhere" for one in idle):
            yield Hint(f"Workers of pool {pool} have been given {_inputs(idle)} and begin no run.", look)
        else:
            yield Hint(f"Workers of pool {pool} are busy: {_inputs(idle)} since {_clock(idle)}.", look)


def _inputs(some: Sequence[Waiting]) -> str:
    return f"{len(some)} input waits" if len(some) == 1 else f"{len(some)} inputs wait"


def _clock(some: Sequence[Waiting]) -> str:
    return moment(min(one.since for one in some))[11:]


def _runs(page: Page, name: str) -> Iterator[Hint]:
    for run in (run for run in page.runs if run.open):
        yield from _run(run, page, name)


def _run(run: RunLine, page: Page, name: str) -> Iterator[Hint]:
    quiet_ms = run.gaps[-1].ms if run.gaps and run.gaps[-1].until is None else 0
    abandon = f"fabricctl session abandon {name} {run.run}"
    if run.state == "orphaned":
        if quiet_ms > ORPHANED_MS:
            yield Hint(f"Run {run.run} has been without a process for {_span(quiet_ms)}, and nobody ends it.", abandon)
        return
    if run.alive is False:
        yield Hint(
            f"The process of run {run.run} is gone ({run.holder}), and nobody has taken note of it yet.", abandon
        )
    elif quiet_ms >= LONG_MS:
        yield Hint(
            f"Run {run.run} has stored nothing for {_span(quiet_ms)}, though its process lives.",
            f"fabricctl session cancel {name} {run.run}",
        )


def _controls(page: Page, name: str) -> Iterator[Hint]:
    for one in page.controls:
        if one.state == "requested":
            yield Hint(f"{one.by} asked run {one.run} to {one.action}, and nothing has come of it yet.", None)
        elif one.overdue:
            yield Hint(
                f"Run {one.run} did not stop when it was told to ({one.action}), and was ended without its agent.",
                f"fabricctl session runs {name}",
            )


def _requests(page: Page, name: str) -> Iterator[Hint]:
    for one in page.requests:
        if one.deadline is not None and one.deadline < page.now - _SOON_MS:
            yield Hint(
                f"Request {one.request} ({one.what}) is past its deadline, and nobody has ended it.", "fabricctl doctor"
            )
        elif isinstance(one.to, str) and ":" in one.to and not _is_there(one.to, page):
            yield Hint(
                f"Request {one.request} ({one.what}) waits for {one.to}, who is not present.",
                f"fabricctl session presence {name}",
            )


def _is_there(to: str, page: Page) -> bool:
    role = to.removeprefix("role:")
    names = [one.participant for one in page.present if one.alive]
    return any(each.partition(":")[0] == role if role != to else each == to for each in names)


def _floors(page: Page, name: str) -> Iterator[Hint]:
    for one in page.floors:
        if one.there is False:
            waits = sum(each.pool == one.pool for each in page.waiting)
            behind = (
                f", and {waits} messages wait for an answer" if waits > 1 else ", and a message waits" if waits else ""
            )
            yield Hint(
                f"{one.participant} has the floor of pool {one.pool} and is not present{behind}.",
                f"fabricctl session presence {name}",
            )
        if one.alive is False:
            yield Hint(
                f"The floor of pool {one.pool} is a process's that is gone ({one.holder}); whoever watches frees it.",
                f"fabricctl session lag {name}",
            )


def _failures(page: Page, name: str) -> Iterator[Hint]:
    dead = [one for one in page.failures if one.dead]
    if dead:
        what = "input was" if len(dead) == 1 else "inputs were"
        yield Hint(
            f"{len(dead)} {what} given up by agents and can be asked again (`fabric.dead_letters()`).",
            f"fabricctl session runs {name}",
        )
    lost = [one for one in page.failures if one.code == "agent_lost"]
    if lost:
        yield Hint(f"{len(lost)} run{'s' if len(lost) > 1 else ''} ended because the agent was lost.", None)


def _seen(page: Page) -> Iterator[Hint]:
    if page.looked["sealed"]:
        yield Hint("What was said is sealed: name the file of keys in SESSION_FABRIC_ENCRYPTION_KEYS to read it.", None)
    if not page.looked["whole"]:
        yield Hint(
            f"This is of the newest {page.looked['events']:,} events; there are older ones (--events).",
            None,
        )


def _span(ms: int) -> str:
    return one_line(span(ms / 1000))

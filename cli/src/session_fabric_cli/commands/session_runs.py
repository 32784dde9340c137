"""`fabricctl session runs | cancel | abandon`."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.events import CONTROL_ACCEPTED

from session_fabric_cli.arguments import AnyNameArgument, NameArgument
from session_fabric_cli.asking import YesOption, confirm
from session_fabric_cli.commands.sessions import EventsOption, console, look
from session_fabric_cli.finding import known_run, near_names
from session_fabric_cli.opening import opened
from session_fabric_cli.options import Options, on_broker, seconds
from session_fabric_cli.printing import moment, print_rows, print_value, span

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run.", show_default=False)]


@on_broker
async def runs(
    options: Options,
    name: AnyNameArgument = None,
    live: Annotated[bool, typer.Option("--live", help="Those under way; without a name of all the tenant's.")] = False,
    all_tenants: Annotated[bool, typer.Option("--all-tenants", "-A", help="With --live: of every tenant.")] = False,
    events: EventsOption = 2000,
) -> None:
    """List a session's runs: how each ended, how long it took, where it stood still."""
    if name is None:
        if not live:
            raise InvalidRequest("Whose runs?", hint="Name a session, or list those under way: --live.")
        await _live(options, all_tenants=all_tenants)
        return
    page = await look(options, name, events)
    found = [run for run in page.runs if run.open or not live]
    if options.output != "table":
        print_value(options.output, [run.plain() for run in found])
    elif not found:
        print(f"Session {name} has no runs{' under way' if live else ''}.", file=sys.stderr)
    else:
        from session_fabric_cli.inspecting.screen import print_runs

        print_runs(console(), page, found)


async def _live(options: Options, *, all_tenants: bool) -> None:
    async with opened(options) as fabric:
        rows = [run._asdict() for run in await fabric.live_runs(all_tenants=all_tenants)]
    now_ms = time.time() * 1000
    shown = rows
    if options.output == "table":
        shown = [{**row, "since": f"{span(max(0, now_ms - row['since']) / 1000)} ago"} for row in rows]
    columns = ("session", "run", "state", "agent", "pool", "since", "holder", "alive")
    print_rows(options.output, shown, ("tenant", *columns) if all_tenants else columns, empty="No run is under way.")


@on_broker
async def cancel(
    options: Options,
    name: NameArgument,
    run: RunArgument,
    deadline: Annotated[
        str, typer.Option("--deadline", metavar="TIME", help="How long the run may take to answer.")
    ] = "5s",
) -> None:
    """Ask a run to stop, and wait for what comes of it. Leaves with 0 when it was accepted, else with 1."""
    within_ms = int(seconds(deadline, "--deadline") * 1000)
    async with opened(options) as fabric, near_names(fabric, name) as session:
        await session.record(create=False)
        await known_run(session, run)
        asked = await session.control("cancel", run=run, deadline_ms=within_ms)
        outcome = await session.outcome(asked)
    body = outcome.body
    said = {
        "run": run,
        "outcome": outcome.type.removeprefix("control."),
        "reason": body.get("reason"),
        "ts": outcome.ts,
    }
    if options.output != "table":
        print_value(options.output, said)
    else:
        reason = f": {said['reason']}" if said["reason"] else ""
        print(f"Run {run}: {said['outcome']}{reason} ({moment(outcome.ts)} UTC).")
        if outcome.type != CONTROL_ACCEPTED:
            hint = f"fabricctl session abandon {name} {run}"
            print(f"If its agent is gone for good: {hint}", file=sys.stderr)
    if outcome.type != CONTROL_ACCEPTED:
        raise typer.Exit(1)


@on_broker
async def abandon(options: Options, name: NameArgument, run: RunArgument, yes: YesOption = False) -> None:
    """End a run whose agent is gone, as failed; what it said is kept, and its agent, should it live, is refused."""
    confirm(f"End run {run} of session {name} without its agent", yes=yes)
    async with opened(options) as fabric, near_names(fabric, name):
        # Whoever has rights at the broker acts for the fabric here: an operator may not end runs as itself.
        session = fabric.view(participant="service:fabricctl").session(name)
        await session.record(create=False)
        await known_run(session, run)
        ended = await session.abandon(run)
    if options.output != "table":
        print_value(options.output, {"run": run, "ended": ended})
    elif ended:
        print(f"Run {run} was ended.")
    else:
        print(f"Run {run} has ended already.", file=sys.stderr)
    if not ended:
        raise typer.Exit(1)

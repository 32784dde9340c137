"""`fabricctl session tail | replay`: what happens in a session, and what happened."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any, Literal

import typer
from session_fabric import Event, Fabric, Offset, Session
from session_fabric.rules.messages import Run
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.events import RUN_FINISHED

from session_fabric_cli.arguments import NameArgument
from session_fabric_cli.finding import known_run, near_names
from session_fabric_cli.inspecting.chat import Chat
from session_fabric_cli.inspecting.lines import Wanted, line
from session_fabric_cli.inspecting.runs import OPEN
from session_fabric_cli.inspecting.timing import Timing
from session_fabric_cli.opening import opened
from session_fabric_cli.options import Options, Output, on_broker, seconds
from session_fabric_cli.reading import while_read

RunOption = Annotated[
    str | None, typer.Option("--run", metavar="RUN", help="Events of this run alone.", show_default=False)
]
TypeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--type", metavar="TYPE", help="Of this type: run.*, message.user. May be repeated.", show_default=False
    ),
]
ParticipantOption = Annotated[
    list[str] | None,
    typer.Option(
        "--participant", metavar="WHO", help="By this one: user:*, agent:a. May be repeated.", show_default=False
    ),
]
ChatOption = Annotated[bool, typer.Option("--chat", help="As a chat: messages as they are written.")]


@on_broker
async def tail(
    options: Options,
    name: NameArgument,
    after: Annotated[
        str | None,
        typer.Option(
            "--after",
            metavar="WHERE",
            help="Begin at: start, tail (only what is new), or an offset.",
            show_default=False,
        ),
    ] = None,
    last: Annotated[
        int | None, typer.Option("--last", "-n", metavar="N", min=1, max=1000, help="Begin with the last N events.")
    ] = None,
    run: RunOption = None,
    type: TypeOption = None,
    participant: ParticipantOption = None,
    deltas: Annotated[
        bool, typer.Option("--deltas", help="Also the pieces in which texts came, as far as they are kept.")
    ] = False,
    until_run_end: Annotated[
        bool, typer.Option("--until-run-end", help="Leave when the run ends: with 0 when it completed, else with 1.")
    ] = False,
    chat: ChatOption = False,
) -> None:
    """Print a session's events as they come, until Ctrl-C. It goes on when the broker was away."""
    if after is not None and last is not None:
        raise InvalidRequest("--after and --last are two beginnings.", hint="Give one of them.")
    after_offset: Any = after if after in ("start", "tail") else "start" if after is None else Offset.parse(after)
    wanted = Wanted(run, type or (), participant or (), deltas or chat)
    printing = _printer(options.output, chat)
    completed = True
    async with opened(options) as fabric, near_names(fabric, name) as session, while_read():
        await session.record(create=False)
        fabric.broker.on_connection(partial(_tell_connection, fabric))
        begin = after_offset if last is None else await _before_last(session, last)
        over: Run | None = None
        if until_run_end and run is not None:
            # Where it begins comes first: an end that comes between the two is behind it.
            begin = await session.head() if begin == "tail" else begin
            seen = await known_run(session, run)
            over = None if seen.state in OPEN else seen
            completed = seen.state == "completed"
        async with aclosing(_events(session, begin, "all" if deltas or chat else "open", over)) as events:
            async for event in events:
                if wanted.takes(event):
                    printing(event)
                if until_run_end and wanted.is_end(event):
                    completed = _completed(event)
                    break
    printing(None)
    if until_run_end and not completed:
        raise typer.Exit(1)


@on_broker
async def replay(
    options: Options,
    name: NameArgument,
    speed: Annotated[
        float, typer.Option("--speed", metavar="N", min=0, help="So many times as fast as it was; 0: at once.")
    ] = 1.0,
    max_pause: Annotated[
        str | None,
        typer.Option("--max-pause", metavar="TIME", help="Wait for no event longer than this.", show_default=False),
    ] = None,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="OFFSET", help="Begin at this event.", show_default=False)
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="OFFSET", help="End with this event.", show_default=False)
    ] = None,
    run: RunOption = None,
    type: TypeOption = None,
    participant: ParticipantOption = None,
    events: Annotated[bool, typer.Option("--events", help="An event a line instead of a chat.")] = False,
) -> None:
    """Play a session again, as it went or faster: as a chat, or as events with their offsets.

    Of texts that were completed the whole comes when it was completed: the pieces are not kept.
    """
    timing = Timing(speed, None if max_pause is None else seconds(max_pause, "--max-pause"))
    wanted = Wanted(run, type or (), participant or (), True)
    printing = _printer(options.output, options.output == "table" and not events)
    first = None if begin is None else Offset.parse(begin)
    last = None if end is None else Offset.parse(end)
    async with (
        opened(options) as fabric,
        near_names(fabric, name) as session,
        while_read(),
        aclosing(_stored(session, first, last)) as stored,
    ):
        if run is not None:
            await known_run(session, run)
        async for event in stored:
            if wanted.takes(event):
                await asyncio.sleep(timing.pause_s(event.ts))
                printing(event)
    printing(None)


async def _events(
    session: Session, begin: Any, deltas: Literal["open", "all"], over: Run | None
) -> AsyncGenerator[Event, None]:
    """Yield what is behind an offset: for ever, or, of a run that is over, what there is until now."""
    if over is None:
        async with aclosing(session.follow(begin, deltas=deltas)) as events:
            async for event in events:
                yield event
        return
    async with aclosing(session.read(begin, upto=await session.head(), deltas=deltas)) as batches:
        async for records in batches:
            for record in records:
                yield record.event()


async def _stored(session: Session, first: Offset | None, last: Offset | None) -> AsyncGenerator[Event, None]:
    head = await session.head()
    after: Any = "start" if first is None else Offset(first.segment, max(0, first.sequence - 1))
    async with aclosing(session.read(after, upto=head, deltas="all")) as batches:
        async for records in batches:
            for record in records:
                if last is not None and record.offset > last:
                    return
                yield record.event()


async def _before_last(session: Session, last: int) -> Any:
    """Return behind what the last so many events are."""
    page = await session.history(limit=last)
    return "start" if page.previous is None else Offset(page.previous.segment, page.previous.sequence - 1)


def _printer(output: Output, chat: bool) -> Callable[[Event | None], None]:
    """Return what prints events; None is the end."""
    if not chat:
        return lambda event: None if event is None else print(line(event, output), flush=True)
    if output != "table":
        raise InvalidRequest(f"--chat is for people: it is not {output}.", hint="Leave out --chat or --output.")
    shown = Chat()

    def tell(event: Event | None) -> None:
        sys.stdout.write(shown.end() if event is None else shown.add(event))
        sys.stdout.flush()

    return tell


def _completed(end: Event) -> bool:
    outcome = end.body.get("outcome")
    kind = outcome.get("type") if isinstance(outcome, dict) else outcome
    return end.type == RUN_FINISHED and kind in (None, "success")


def _tell_connection(fabric: Fabric, connected: bool) -> None:
    if fabric.broker.closed:
        return  # it is we who leave
    print("The broker is back." if connected else "The broker is away; waiting for it.", file=sys.stderr)

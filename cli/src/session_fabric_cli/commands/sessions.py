"""`fabricctl session ls | show | presence | lag | fork`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import typer
from session_fabric import Fabric, SessionRecord
from session_fabric.words.names import check_participant

from session_fabric_cli.arguments import NameArgument
from session_fabric_cli.finding import near_names, offset_of
from session_fabric_cli.inspecting import hints as advice
from session_fabric_cli.inspecting.page import Page, make_page
from session_fabric_cli.opening import granted_at, opened
from session_fabric_cli.options import Options, on_broker
from session_fabric_cli.printing import moment, print_rows, print_value, span
from session_fabric_cli.times import since_ms

EventsOption = Annotated[
    int, typer.Option("--events", metavar="N", min=1, max=100_000, help="Look at the newest N events of it.")
]
Wanted = Callable[[SessionRecord], bool]


@on_broker
async def list_sessions(
    options: Options,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=100_000, help="At most so many.")] = 100,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", "-l", metavar="KEY=VALUE", help="With this label. May be repeated.", show_default=False
        ),
    ] = None,
    state: Annotated[
        Literal["open", "closed"] | None, typer.Option("--state", help="Open or closed ones alone.", show_default=False)
    ] = None,
    participant: Annotated[
        str | None,
        typer.Option("--participant", metavar="WHO", help="Those that this one takes part in.", show_default=False),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Changed since: 10m, 2h, 3d, or a date.", show_default=False),
    ] = None,
    active: Annotated[bool, typer.Option("--active", help="Those with a run under way alone.")] = False,
    all_tenants: Annotated[bool, typer.Option("--all-tenants", "-A", help="Of every tenant: for operators.")] = False,
    brief: Annotated[
        bool, typer.Option("--brief", help="Without looking when something last happened in each.")
    ] = False,
) -> None:
    """List sessions, those first whose records changed last."""
    wanted = _wanted(label or [], state, participant)
    after_ms = 0 if since is None else since_ms(since, int(time.time() * 1000))
    async with opened(options) as fabric:
        if active:
            records, changed = await _active(fabric, wanted, after_ms, all_tenants=all_tenants)
            more = len(records) > limit
            records, changed = records[:limit], changed[:limit]
        else:
            records, changed, more = await _newest(fabric, wanted, after_ms, limit, all_tenants=all_tenants)
        last = [None] * len(records) if brief else await fabric.last_events(records)
    rows: list[dict[str, Any]] = [
        {"tenant": record.tenant, **record.public(), "changed": at, "active": event}
        for record, at, event in zip(records, changed, last, strict=True)
    ]
    if options.output != "table":
        print_rows(options.output, rows, ())
        return
    narrowed = bool(label or state or participant or since or active)
    empty = _nothing(fabric.tenant, narrowed=narrowed, all_tenants=all_tenants, granted=granted_at(options))
    print_sessions(rows, time.time() * 1000, all_tenants=all_tenants, brief=brief, empty=empty)
    if more:
        print(f"The first {limit}; there may be more (--limit).", file=sys.stderr)


def _nothing(tenant: str, *, narrowed: bool, all_tenants: bool, granted: bool) -> str:
    """Say that there are none; to whom a token grants some alone, none that it shows."""
    what = "There are no such sessions" if narrowed else "There are no sessions" if all_tenants else ""
    what = what or f"Tenant {tenant} has no sessions"
    return f"{what} that these credentials show (`fabricctl agent inspect FILE`)." if granted else f"{what}."


def print_sessions(
    rows: Sequence[Mapping[str, Any]], now_ms: float, *, all_tenants: bool = False, brief: bool = False, empty: str = ""
) -> None:
    """Print a list of sessions for people. `brief`: without when something last happened in each."""
    shown = [
        {
            **row,
            "created": moment(row["created"]),
            "changed": span((now_ms - row["changed"]) / 1000),
            "active": "" if row["active"] is None else span(max(0, now_ms - row["active"]) / 1000),
        }
        for row in rows
    ]
    columns = {
        "session": "session",
        "state": "state",
        "created": "created",
        "changed": "changed",
        "active": "last event",
    }
    names = ("tenant", "session", "created") if all_tenants else ("session", "created")
    columns = {**({"tenant": "tenant"} if all_tenants else {}), **columns, "labels": "labels"}
    if brief:
        del columns["active"]
    print_rows("table", shown, columns, names=names, spare=("created", "labels", "state"), empty=empty)


async def _newest(
    fabric: Fabric, wanted: Wanted, after_ms: int, limit: int, *, all_tenants: bool
) -> tuple[list[SessionRecord], list[int], bool]:
    """Return records, when each changed, and whether there are more."""
    records: dict[tuple[str, str], tuple[SessionRecord, int]] = {}
    cursor: str | None = None
    while len(records) < limit:
        page = await fabric.sessions(
            limit=min(1000, limit - len(records)),
            cursor=cursor,
            where=wanted,
            since_ms=after_ms,
            all_tenants=all_tenants,
        )
        for record, at in zip(page.records, page.changed, strict=True):
            records[record.place] = record, at
        cursor = page.next
        if cursor is None:
            break
    return [record for record, _ in records.values()], [at for _, at in records.values()], cursor is not None


async def _active(
    fabric: Fabric, wanted: Wanted, after_ms: int, *, all_tenants: bool
) -> tuple[list[SessionRecord], list[int]]:
    """Return the records of sessions with a run under way, and when the newest of their runs last changed."""
    newest: dict[tuple[str, str], int] = {}
    for run in await fabric.live_runs(all_tenants=all_tenants):
        place = run.tenant, run.session
        newest[place] = max(run.since, newest.get(place, 0))
    records, changed = [], []
    for (tenant, name), at in sorted(newest.items(), key=lambda item: -item[1]):
        record = await fabric.view(tenant=tenant).session(name).record(create=False)
        if wanted(record) and at >= after_ms:
            records.append(record)
            changed.append(at)
    return records, changed


def _wanted(labels: list[str], state: str | None, participant: str | None) -> Wanted:
    if participant is not None:
        check_participant(participant)
    pairs = []
    for text in labels:
        key, equals, value = text.partition("=")
        if not equals or not key:
            from session_fabric.words.errors import InvalidRequest

            raise InvalidRequest(f"--label {text!r:.60} is no label.", hint="Write --label team=red.")
        pairs.append((key, value))

    def wanted(record: SessionRecord) -> bool:
        return (
            all(record.labels.get(key) == value for key, value in pairs)
            and state in (None, record.state)
            and (participant is None or participant in record.participants)
        )

    return wanted


@on_broker
async def show(
    options: Options,
    name: NameArgument,
    events: EventsOption = 2000,
    messages: Annotated[int, typer.Option("--messages", metavar="N", min=0, help="The last N messages.")] = 5,
) -> None:
    """Show what happens in a session, and what is wrong: runs, waiting inputs, who is there, lag, failures."""
    page = await look(options, name, events, messages=messages)
    found = advice.hints(page)
    if options.output != "table":
        print_value(options.output, {**page.plain(), "hints": [hint._asdict() for hint in found]})
        return
    from session_fabric_cli.inspecting.screen import show_page

    show_page(console(), page, found)


@on_broker
async def presence(options: Options, name: NameArgument) -> None:
    """Show who is in a session, on which device, and whether the process that holds them lives."""
    page = await look(options, name, 1)
    rows = [one._asdict() for one in page.present]
    shown = rows if options.output != "table" else [{**row, "since": moment(row["since"])} for row in rows]
    columns = {"participant": "", "device": "", "status": "", "since": "", "holder": "process", "alive": ""}
    print_rows(
        options.output, shown, {key: heading or key for key, heading in columns.items()}, empty="Nobody is present."
    )


@on_broker
async def lag(options: Options, name: NameArgument, events: EventsOption = 2000) -> None:
    """Show how far devices and durable subscriptions are behind a session's end, and which inputs wait."""
    page = await look(options, name, events)
    if options.output != "table":
        plain = page.plain()
        print_value(options.output, {key: plain[key] for key in ("lag", "cursors", "waiting")})
        return
    from session_fabric_cli.inspecting.screen import show_lag

    show_lag(console(), page)


@on_broker
async def fork(
    options: Options,
    name: NameArgument,
    at: Annotated[str, typer.Option("--at", metavar="WHERE", help="An offset, or a message's id.", show_default=False)],
    named: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="The fork's name. Default: a new one.", show_default=False),
    ] = None,
) -> None:
    """Make a session that shares the past of another up to an event, and goes its own way."""
    async with opened(options) as fabric, near_names(fabric, name) as session:
        offset = await offset_of(session, at)
        new = await session.fork(offset, named)
        record = await new.record(create=False)
    if options.output != "table":
        print_value(options.output, {**record.public(), "at": str(offset)})
        return
    print(new.name)
    print(f"Session {new.name} begins with {name} up to {offset}.", file=sys.stderr)


async def look(options: Options, name: str, events: int, *, messages: int = 5) -> Page:
    """Find out about a session, and make the page of it."""
    async with opened(options) as fabric, near_names(fabric, name) as session:
        found = await session.inspect(limit=events)
    return make_page(found, int(time.time() * 1000), messages=messages)


def console() -> Any:
    from rich.console import Console

    width = None if sys.stdout.isatty() else 120
    return Console(highlight=False, markup=False, emoji=False, width=width)

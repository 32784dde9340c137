"""`fabricctl session ls | show | tail`."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated, Any

import orjson
import typer
from session_fabric import Event, Offset
from session_fabric.words.events import DELTA_KEYS

from session_fabric_cli.opening import opened
from session_fabric_cli.options import Options, on_broker
from session_fabric_cli.printing import moment, one_line, print_rows, print_table, print_value

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The session.", show_default=False)]


@on_broker
async def list_sessions(
    options: Options, limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 100
) -> None:
    """List sessions, newest first."""
    rows: list[dict[str, Any]] = []
    cursor: str | None = None
    async with opened(options) as fabric:
        while len(rows) < limit:
            page = await fabric.sessions(limit=min(100, limit - len(rows)), cursor=cursor)
            rows += [record.public() for record in page.records]
            cursor = page.next
            if cursor is None:
                break
    shown = rows if options.output != "table" else [{**row, "created": moment(row["created"])} for row in rows]
    columns = ("session", "state", "created", "labels")
    print_rows(options.output, shown, columns, empty=f"Tenant {options.tenant} has no sessions.")
    if cursor is not None and options.output == "table":
        print(f"The newest {limit}; there are more (--limit).", file=sys.stderr)


@on_broker
async def show(options: Options, name: NameArgument) -> None:
    """Show a session: its record, and what was said last."""
    async with opened(options) as fabric:
        session = fabric.session(name)
        record = await session.record(create=False)
        head = await session.head()
        said = await session.messages(limit=10)
    facts: dict[str, Any] = {
        **record.public(),
        "tenant": record.tenant,
        "head": str(head),
        "segments": [dataclasses.asdict(segment) for segment in record.segments],
    }
    messages = [message.plain() for message in said.messages]
    if options.output != "table":
        print_value(options.output, {**facts, "messages": messages})
        return
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    for label, value in (
        ("session", record.session),
        ("tenant", record.tenant),
        ("state", record.state),
        ("created", moment(record.created)),
        ("head", str(head)),
        ("labels", " ".join(f"{k}={v}" for k, v in record.labels.items())),
        ("forked from", record.source or ""),
        ("streams", " ".join(dict.fromkeys(segment.stream for segment in record.segments))),
    ):
        if value:
            table.add_row(label, one_line(value))
    print_table(table)
    for message in messages:
        text = one_line(str(message.get("content", "")), 200)
        print(f"\n{message.get('role', '')}: {text}")


@on_broker
async def tail(
    options: Options,
    name: NameArgument,
    after: Annotated[str, typer.Option(help="Where to begin: start, tail (only what is new), or an offset.")] = "start",
    deltas: Annotated[
        bool, typer.Option("--deltas", help="Also the pieces in which texts came, as far as they are kept.")
    ] = False,
) -> None:
    """Print a session's events as they come, until Ctrl-C."""
    start: Any = after if after in ("start", "tail") else Offset.parse(after)
    async with opened(options) as fabric:
        session = fabric.session(name)
        await session.record(create=False)
        fabric.broker.on_connection(_tell_connection)
        async for event in session.follow(start, deltas="all" if deltas else "open"):
            if event.at is not None and not deltas:
                continue  # a delta: the whole text follows
            line = _as_text(event) if options.output == "table" else _as_json(event)
            print(line, flush=True)


def _tell_connection(connected: bool) -> None:
    print("The broker is back." if connected else "The broker is away; waiting for it.", file=sys.stderr)


def _as_json(event: Event) -> str:
    fields = {
        "offset": str(event.offset),
        "id": event.id,
        "type": event.type,
        "actor": event.actor,
        "run": event.run,
        "ts": event.ts,
        "at": event.at,
        "body": orjson.Fragment(event.raw),
    }
    return orjson.dumps({k: v for k, v in fields.items() if k != "at" or v is not None}).decode()


def _as_text(event: Event) -> str:
    body = event.body
    if event.type in DELTA_KEYS:
        said = repr(body.get("delta", ""))
    elif isinstance(message := body.get("message"), dict):
        said = one_line(str(message.get("content", "")))
    else:
        rest = {k: v for k, v in body.items() if k not in ("type", "timestamp")}
        said = one_line(orjson.dumps(rest).decode()) if rest else ""
    return f"{event.offset}  {moment(event.ts)}  {one_line(event.actor):<16} {one_line(event.type):<22} {said}"

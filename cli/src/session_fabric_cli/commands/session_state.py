"""`fabricctl session state ls | get | history | put | patch | rm`: shared documents."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from session_fabric import Session, State
from session_fabric.rules.states import OWN
from session_fabric.words.errors import InvalidRequest

from session_fabric_cli.arguments import DocumentArgument, NameArgument
from session_fabric_cli.asking import YesOption, confirm, interruptible
from session_fabric_cli.finding import near_names
from session_fabric_cli.naming import NothingSuch, nothing_such
from session_fabric_cli.opening import opened
from session_fabric_cli.options import Options, on_broker
from session_fabric_cli.printing import moment, print_rows, print_value

BodyArgument = Annotated[
    str, typer.Argument(metavar="JSON", help="A JSON object, @FILE, or - to read it.", show_default=False)
]
RevisionOption = Annotated[
    int | None,
    typer.Option("--revision", metavar="N", min=0, help="Only if this is the newest one.", show_default=False),
]


@on_broker
async def list_documents(options: Options, name: NameArgument) -> None:
    """List a session's shared documents."""
    async with opened(options) as fabric, near_names(fabric, name) as session:
        rows = [_row(state) for state in await session.documents()]
    _print_rows(options, rows, f"Session {name} has no documents.")


@on_broker
async def get(options: Options, name: NameArgument, document: DocumentArgument) -> None:
    """Print a document, with its revision on stderr; _tools and _seen are the fabric's own."""
    async with opened(options) as fabric, near_names(fabric, name) as session:
        await session.record(create=False)
        state = await session.state(document).get()
        if state is None:
            raise await _no_such(session, document, "_tools", "_seen")
    _print(options, state)


@on_broker
async def history(options: Options, name: NameArgument, document: DocumentArgument) -> None:
    """List a document's newest versions, at most 8, newest first."""
    async with opened(options) as fabric, near_names(fabric, name) as session:
        await session.record(create=False)
        rows = [_row(state) for state in await session.state(document).history()]
        if not rows and document not in OWN:
            raise await _no_such(session, document)
    _print_rows(options, rows, f"Document {document} has no versions.")


@on_broker
async def put(
    options: Options,
    name: NameArgument,
    document: DocumentArgument,
    body: BodyArgument,
    revision: RevisionOption = None,
) -> None:
    """Write a whole document; with --revision only over that one, 0 where there must be none."""
    given = _body(body)
    async with opened(options) as fabric, near_names(fabric, name) as session:
        await session.record(create=False)
        _print(options, await session.state(document).put(given, revision))


@on_broker
async def patch(
    options: Options,
    name: NameArgument,
    document: DocumentArgument,
    body: BodyArgument,
    revision: RevisionOption = None,
) -> None:
    """Change a document by a JSON Merge Patch (RFC 7396): null removes a field."""
    given = _body(body)
    async with opened(options) as fabric, near_names(fabric, name) as session:
        await session.record(create=False)
        _print(options, await session.state(document).patch(given, revision))


@on_broker
async def remove(
    options: Options,
    name: NameArgument,
    document: DocumentArgument,
    revision: RevisionOption = None,
    yes: YesOption = False,
) -> None:
    """Remove a document; what it was stays in its history."""
    confirm(f"Remove document {document} of session {name}", yes=yes)
    async with opened(options) as fabric, near_names(fabric, name) as session:
        await session.record(create=False)
        if await session.state(document).get() is None:
            raise await _no_such(session, document)
        _print(options, await session.state(document).delete(revision))


async def _no_such(session: Session, document: str, *others: str) -> NothingSuch:
    names = [one.document for one in await session.documents()]
    listed_by = f"fabricctl session state ls {session.name}"
    return nothing_such("document", document, [*names, *others], listed_by=listed_by)


def _body(text: str) -> dict[str, Any]:
    """Read a document as it is given. Raises `InvalidRequest`."""
    try:
        if text == "-":
            with interruptible():
                text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text()
        value = orjson.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidRequest(f"{text[:80]} cannot be read: {why}.", hint="Write @FILE, or - to read stdin.") from error
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The document is no JSON: {error}.", hint="""Write '{"a":1}', @FILE or -.""") from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"The document is {type(value).__name__}, not a JSON object.", hint="Write '{…}'.")
    return value


def _row(state: State) -> dict[str, Any]:
    size = None if state.body is None else len(orjson.dumps(state.body))
    return {**state.plain(), "bytes": size}


def _print_rows(options: Options, rows: list[dict[str, Any]], empty: str) -> None:
    shown = rows
    if options.output == "table":
        shown = [
            {
                **row,
                "ts": "" if row["ts"] is None else moment(row["ts"]),
                "bytes": "removed" if row["bytes"] is None else row["bytes"],
            }
            for row in rows
        ]
    print_rows(
        options.output,
        shown,
        {"document": "document", "revision": "revision", "bytes": "bytes", "by": "by", "ts": "changed"},
        empty=empty,
    )


def _print(options: Options, state: State) -> None:
    """Print a document: for people its body alone, so that it can be changed and put back."""
    if options.output != "table":
        print_value(options.output, state.plain())
        return
    if state.body is not None:
        print_value("json", state.body)
    by = "" if state.by is None else f", by {state.by}"
    print(f"Revision {state.revision}{by}.", file=sys.stderr)

"""`fabricctl retention`, `session hold | release | close | delete`, `tenant hold | release`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

import typer
from session_fabric import Fabric, Hold, Kept, Session
from session_fabric.words.errors import Forbidden, InvalidRequest

from session_fabric_cli.arguments import NameArgument, complete_sessions
from session_fabric_cli.asking import YesOption, confirm
from session_fabric_cli.failing import FAILED, say
from session_fabric_cli.finding import near_names
from session_fabric_cli.opening import opened
from session_fabric_cli.options import Options, on_broker
from session_fabric_cli.printing import moment, print_facts, print_value, size, span
from session_fabric_cli.proofs import print_proof

SessionOption = Annotated[
    str | None,
    typer.Option(
        "--session",
        metavar="NAME",
        help="Of this session alone. Default: of the tenant.",
        show_default=False,
        autocompletion=complete_sessions,
    ),
]
HoldOption = Annotated[str, typer.Option("--hold", metavar="NAME", help="The hold's name, such as case-17.")]
ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why: it is shown with what is refused.", show_default=False)
]
_AGE: Final = "A time (60s, 12h, 30d, 1y), off for no limit, inherit for what the tenant's says."
_SIZE: Final = "A number (10000, 5MiB), off for no limit, inherit for what the tenant's says."
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
_UNITS: Final = {"": 1, "k": 1000, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def _age(text: str | None, option: str) -> Any:
    return _read(text, option, r"(\d{1,9})([smhdwy])", _UNITS_S, "30d, 12h or 90s")


def _size(text: str | None, option: str) -> Any:
    return _read(text, option, r"(\d{1,15})(k|KiB|MiB|GiB|)", _UNITS, "10000 or 5MiB")


def _read(text: str | None, option: str, form: str, units: dict[str, int], example: str) -> Any:
    """Return a number, None for no limit, "inherit". Raises `InvalidRequest`."""
    if text == "off":
        return None
    if text == "inherit":
        return text
    match = re.fullmatch(form, text or "")
    if match is None:
        raise InvalidRequest(f"{option} is {text!r:.60}.", hint=f"Write {example}, off, or inherit.")
    return int(match[1]) * units[match[2]]


@on_broker
async def show(options: Options, session: SessionOption = None) -> None:
    """Say how long what sessions hold is kept, and what holds it."""
    async with opened(options) as fabric, _of(fabric, session) as whose:
        kept = await whose.retention()
    _print(options, kept)


@on_broker
async def set_retention(
    options: Options,
    session: SessionOption = None,
    max_age: Annotated[
        str | None, typer.Option(help=f"Remove events older than this. {_AGE}", show_default=False)
    ] = None,
    max_events: Annotated[
        str | None, typer.Option(help=f"Keep the newest so many. {_SIZE}", show_default=False)
    ] = None,
    max_bytes: Annotated[
        str | None, typer.Option(help=f"Keep the newest that fit. {_SIZE}", show_default=False)
    ] = None,
    max_idle: Annotated[
        str | None, typer.Option(help="Delete a session when nothing was stored for so long.", show_default=False)
    ] = None,
    closed: Annotated[
        str | None, typer.Option(help="Delete a session so long after it was closed; 0s: at once.", show_default=False)
    ] = None,
    yes: YesOption = False,
) -> None:
    """Set how long what sessions hold is kept: of a tenant, or of one session."""
    said = (
        ("max_age_s", "--max-age", max_age, _age),
        ("max_events", "--max-events", max_events, _size),
        ("max_bytes", "--max-bytes", max_bytes, _size),
        ("max_idle_s", "--max-idle", max_idle, _age),
        ("closed_s", "--closed", closed, _age),
    )
    changes = {field: read(text, option) for field, option, text, read in said if text is not None}
    if not changes:
        raise InvalidRequest(
            "Nothing is to be set.", hint="Give --max-age, --max-events, --max-bytes, --max-idle or --closed."
        )
    whose = f"of session {session}" if session else f"of all sessions of tenant {options.tenant}"
    limits = [option for field, option, *_ in said if isinstance(changes.get(field), int)]
    if limits:
        confirm(f"Have what is over {', '.join(limits)} removed, {whose}, for good", yes=yes)
    async with opened(options) as fabric, _of(fabric, session) as of:
        kept = await of.set_retention(**changes)
    _print(options, kept)


@asynccontextmanager
async def _of(fabric: Fabric, name: str | None) -> AsyncIterator[Fabric | Session]:
    """Give the tenant, or the session of this name."""
    if name is None:
        yield fabric
        return
    async with near_names(fabric, name) as session:
        yield session


def _print(options: Options, kept: Kept) -> None:
    plain = kept.retention.model_dump()
    holds = [*kept.holds, *kept.tenant_holds]
    if options.output != "table":
        print_value(
            options.output,
            {
                "retention": plain,
                "session": dict(kept.own),
                "tenant": dict(kept.tenant),
                "holds": [hold.model_dump() for hold in kept.holds],
                "tenant_holds": [hold.model_dump() for hold in kept.tenant_holds],
            },
        )
        return
    facts: dict[str, Any] = {}
    for field, value in plain.items():
        shown = (
            "no limit"
            if value is None
            else span(value)
            if field.endswith("_s")
            else size(value)
            if field == "max_bytes"
            else str(value)
        )
        source = "session" if field in kept.own else "tenant" if field in kept.tenant else ""
        facts[field.removesuffix("_s")] = f"{shown} ({source})" if source else shown
    for hold in holds:
        facts[f"held: {hold.name}"] = _said(hold)
    print_facts(options.output, facts)


def _said(hold: Hold) -> str:
    return f"by {hold.by} since {moment(hold.since)}: {hold.reason}"


@on_broker
async def hold(options: Options, name: NameArgument, reason: ReasonOption, hold: HoldOption = "hold") -> None:
    """Have nothing of a session removed, by anybody, until it is released."""
    async with opened(options) as fabric, near_names(fabric, name) as session:
        try:
            before = (await session.record(create=False)).holds
        except Forbidden:  # who may hold need not be one who may read
            before = ()
        placed = await session.hold(reason, hold)
    _tell_hold(options, placed, made=placed not in before and placed.reason == reason)


@on_broker
async def release(options: Options, name: NameArgument, hold: HoldOption = "hold", yes: YesOption = False) -> None:
    """End a hold on a session."""
    confirm(f"Release session {name} of tenant {options.tenant} from {hold}", yes=yes)
    async with opened(options) as fabric, near_names(fabric, name) as session:
        left = await session.release(hold)
    print_facts(options.output, {"session": name, "released": hold, "held_by": [one.name for one in left]})


@on_broker
async def hold_tenant(options: Options, reason: ReasonOption, hold: HoldOption = "hold") -> None:
    """Have nothing of any session of a tenant removed, by anybody, until it is released."""
    async with opened(options) as fabric:
        before = (await fabric.retention()).tenant_holds
        placed = await fabric.hold(reason, hold)
    _tell_hold(options, placed, made=placed not in before)


def _tell_hold(options: Options, placed: Hold, *, made: bool) -> None:
    """Print a hold; on stderr that it is the first of its name, where it was there already."""
    if options.output != "table":
        print_value(options.output, {**placed.model_dump(), "made": made})
    else:
        print_facts(options.output, {**placed.model_dump(), "since": moment(placed.since)})
    if not made:
        say(
            f"There was a hold {placed.name} already: it stays as it is, and what you gave as a reason is not kept.",
            "Another one beside it: --hold NAME.",
        )


@on_broker
async def release_tenant(options: Options, hold: HoldOption = "hold", yes: YesOption = False) -> None:
    """End a hold on a tenant."""
    confirm(f"Release all sessions of tenant {options.tenant} from {hold}", yes=yes)
    async with opened(options) as fabric:
        left = await fabric.release(hold)
    print_facts(options.output, {"tenant": options.tenant, "released": hold, "held_by": [one.name for one in left]})


@on_broker
async def close(options: Options, name: NameArgument, yes: YesOption = False) -> None:
    """Close a session: it can be read and forked for ever, and takes nothing more."""
    confirm(f"Close session {name} of tenant {options.tenant}", yes=yes)
    async with opened(options) as fabric, near_names(fabric, name) as session:
        await session.record(create=False)
        record = await session.close()
    print_facts(options.output, {"session": name, "state": record.state})


@on_broker
async def delete(
    options: Options,
    name: NameArgument,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why: for the audit.", show_default=False)
    ] = "",
    yes: YesOption = False,
) -> None:
    """Delete a session with all that it holds, and print what there was and what is left."""
    confirm(f"Delete session {name} of tenant {options.tenant}, for good", yes=yes, word=name)
    async with opened(options) as fabric, near_names(fabric, name) as session:
        proof = await session.delete(reason)
    print_proof(options.output, {"session": proof.session}, proof, {"kept for forks": list(proof.forks)})
    if not proof.complete:
        raise typer.Exit(FAILED)

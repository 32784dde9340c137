"""`fabricctl session redact`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import typer
from session_fabric import Redactable
from session_fabric.words.errors import InvalidRequest

from session_fabric_cli.asking import YesOption, confirm
from session_fabric_cli.failing import FAILED
from session_fabric_cli.finding import near_names
from session_fabric_cli.opening import opened
from session_fabric_cli.options import Options, on_broker
from session_fabric_cli.printing import counted, moment, print_facts, print_value, size

_PART: Final = "part of checkpoints", "parts of checkpoints"


@on_broker
async def redact(
    options: Options,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The session.", show_default=False)],
    reason: Annotated[
        str,
        typer.Option("--reason", metavar="TEXT", help="Why: it stands where the content stood.", show_default=False),
    ],
    message: Annotated[
        str | None, typer.Argument(metavar="MESSAGE", help="The message's id.", show_default=False)
    ] = None,
    event: Annotated[
        str | None,
        typer.Option(
            "--event", metavar="OFFSET", help="Not a message but one event: its offset, or its id.", show_default=False
        ),
    ] = None,
    yes: YesOption = False,
) -> None:
    """Remove what a message says, for good: the session goes on, and says that it was removed.

    Shows what would go and asks before. Leaves with 1 when something is left.
    """
    if (message is None) == (event is None):
        raise InvalidRequest("Nothing says what is to be removed.", hint="Name a MESSAGE, or give --event OFFSET.")
    async with opened(options) as fabric, near_names(fabric, name) as session:
        if not yes:
            _show(await session.redactable(message, event=event))
        what = f"message {message}" if event is None else f"event {event}"
        confirm(f"Remove what {what} of session {name}, tenant {options.tenant}, says, for good", yes=yes)
        proof = await session.redact(message, event=event, reason=reason)
    if options.output != "table":
        print_value(options.output, {**proof.model_dump(), "complete": proof.complete})
    else:
        bodies = counted(proof.large_bodies, "large body", "large bodies")
        events, left = proof.remains - proof.checkpoints_left, counted(proof.checkpoints_left, *_PART)
        there_is = [*([counted(events, "event")] if events else []), *([left] if proof.checkpoints_left else [])]
        print_facts(
            options.output,
            {
                "session": proof.session,
                "redacted": proof.target,
                "at": f"{moment(proof.at)} by {proof.by}" + (", again" if proof.again else ""),
                "said at": proof.offset,
                "there was": f"{counted(proof.events, 'event')}, {bodies}",
                "agents forget": counted(proof.checkpoints, *_PART),
                "there is": ", ".join(there_is) or "nothing",
                "waits for": _runs(proof.waits_for),
                "not looked at": counted(proof.documents, "shared document") if proof.documents else "",
                "told to forks": list(proof.forks),
                "sha256": proof.hash,
            },
        )
    if proof.waits_for:
        print(
            "It goes within a minute of the end of those runs. Interrupt them, where that takes too long.",
            file=sys.stderr,
        )
    if not proof.complete:
        raise typer.Exit(FAILED)


def _runs(by_session: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"run {run} of session {session}" for session, runs in by_session.items() for run in runs]


def _show(found: Redactable) -> None:
    """Say what would go, where the question is asked."""
    types = ", ".join(f"{count} {type}" for type, count in sorted(found.types.items())) or "nothing that is left"
    print(f"{counted(found.events, 'event')} ({size(found.bytes)}): {types}", file=sys.stderr)
    if found.checkpoints:
        print(f"All that agents have saved goes too: {counted(found.checkpoints, *_PART)}", file=sys.stderr)
        for run in _runs(found.waits_for):
            print(f"But not before its end: {run}", file=sys.stderr)
    if found.documents:
        print(f"Nobody looks at {counted(found.documents, 'shared document')}.", file=sys.stderr)
    if found.forks:
        print(f"It goes from these forks too: {', '.join(found.forks)}", file=sys.stderr)
    if found.said is not None:
        print(f"It was redacted already, at {found.said}.", file=sys.stderr)

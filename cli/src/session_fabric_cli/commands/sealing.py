"""`fabricctl keys`: under which keys what is sealed is, and wrapping it anew."""

from __future__ import annotations

from collections.abc import Sequence

import typer
from session_fabric.rewrapping import Under
from session_fabric.words.errors import InvalidRequest

from session_fabric_cli.failing import FAILED
from session_fabric_cli.opening import opened
from session_fabric_cli.options import Options, on_broker
from session_fabric_cli.printing import print_rows, print_value
from session_fabric_cli.progress import progress

_COLUMNS = ("tenant", "key", "standing", "sessions")


def _rows(found: Sequence[Under]) -> list[dict[str, object]]:
    return [one._asdict() for one in found]


def _check_keys(options: Options) -> None:
    """Raise `InvalidRequest` where no file of keys was named: without it nothing of them can be said."""
    if options.keys is None:
        raise InvalidRequest(
            "No file of tenants' keys was named.",
            hint="Name it: SESSION_FABRIC_ENCRYPTION_KEYS=FILE, or `fabricctl context set NAME --keys FILE`.",
        )


@on_broker
async def show(options: Options) -> None:
    """Say under which keys of which tenants what is sealed is."""
    _check_keys(options)
    async with opened(options) as fabric:
        found = await fabric.wrapped_under()
    print_rows(options.output, _rows(found), _COLUMNS)


@on_broker
async def rewrap_keys(options: Options) -> None:
    """Wrap the keys of all that is sealed anew, under each tenant's current key. Leaves with 1 when some are left."""
    _check_keys(options)
    async with opened(options) as fabric:
        before = await fabric.wrapped_under()
        with progress("Wrapping", sum(one.sessions for one in before if one.standing == "older")) as shown:
            done = await fabric.rewrap(shown.advance)
        left = [one for one in await fabric.wrapped_under() if one.standing not in ("current", "open")]
    if options.output != "table":
        print_value(options.output, {"wrapped": done, "left": _rows(left)})
    else:
        for one in left:
            print(f"Left: {one.sessions} of tenant {one.tenant} under {one.key}, which is {one.standing}.")
        print(f"Wrapped anew: {done}. Left: {sum(one.sessions for one in left)}.")
    if left:
        raise typer.Exit(FAILED)

"""`fabricctl bench`."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any, Final

import typer
from session_fabric import Fabric
from session_fabric.census import Process
from session_fabric.rules.claims import read_claims
from session_fabric.rules.grants import of_role
from session_fabric.words.errors import (
    BrokerUnavailable,
    FabricError,
    Forbidden,
    InvalidRequest,
    SessionGone,
    SessionHeld,
    SessionNotFound,
)
from session_fabric.words.names import new_id

from session_fabric_cli.benching import load as loads
from session_fabric_cli.benching.driving import Way, drive
from session_fabric_cli.benching.figures import Measured
from session_fabric_cli.benching.load import Load, check
from session_fabric_cli.benching.native import Native
from session_fabric_cli.failing import FAILED, say
from session_fabric_cli.opening import opened, reach, tell
from session_fabric_cli.options import Options, on_broker
from session_fabric_cli.printing import counted, print_rows, print_value
from session_fabric_cli.progress import progress
from session_fabric_cli.versions import of_processes

LABEL: Final = "made-by"
MADE_BY: Final = "fabricctl-bench"
_STEM: Final = "bench-"
_NEEDED: Final = ("read", "append", "create", "erase")


@on_broker
async def bench(
    options: Options,
    sessions: Annotated[
        int, typer.Option(metavar="N", min=1, max=loads.MOST_SESSIONS, help="So many sessions at once.")
    ] = 10,
    seconds: Annotated[
        int, typer.Option(metavar="N", min=1, max=loads.MOST_SECONDS, help="Write for so long, each way through.")
    ] = 10,
    rate: Annotated[
        float, typer.Option(metavar="N", min=0.1, max=1000, help="Events a second in each session.")
    ] = 20.0,
    size: Annotated[
        int, typer.Option(metavar="N", min=1, max=loads.MOST_BYTES, help="Bytes of text in each event.")
    ] = 200,
    gateway: Annotated[
        str | None,
        typer.Option("--gateway", metavar="URL", help="Measure through this gateway too.", show_default=False),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TOKEN",
            envvar="SESSION_FABRIC_TOKEN",
            help="What to show the gateway. Default: $SESSION_FABRIC_TOKEN.",
            show_default=False,
            show_envvar=False,
        ),
    ] = None,
) -> None:
    """Measure appends, live delivery and catch-up of this deployment, in sessions of its own that it erases.

    Leaves with 1 when something that was stored did not come, or a session could not be erased.
    """
    load = check(Load(sessions, seconds, rate, size))
    async with AsyncExitStack() as stack:
        writing = await stack.enter_async_context(opened(options))
        await _may_erase(options, writing)
        ways: list[tuple[Way, Sequence[str]]] = [
            (Native(writing, await stack.enter_async_context(opened(options, again=True))), ())
        ]
        if gateway is not None:
            from session_fabric_cli.benching.gateway import connected

            way, welcome = await stack.enter_async_context(connected(gateway, token, options.timeout_s))
            version = str(welcome.get("server", "")).rpartition("/")[2]
            tell(of_processes([Process(gateway, None, version, None)]))
            _check_welcome(welcome, load, writing.tenant)
            ways.append((way, (welcome["participant"],)))
        measured = [await _measure(options, writing, way, load, participants) for way, participants in ways]
    _print(options, load, measured)
    if any(one.missing for one in measured):
        raise typer.Exit(FAILED)


async def _measure(options: Options, fabric: Fabric, way: Way, load: Load, participants: Sequence[str]) -> Measured:
    async with _made(fabric, load.sessions, participants) as names:
        what = f"Through the {way.through}"
        with progress(what, load.events * load.sessions) as shown:
            return await drive(way, load, names, options.timeout_s, shown.advance)


@asynccontextmanager
async def _made(fabric: Fabric, count: int, participants: Sequence[str]) -> AsyncIterator[list[str]]:
    """Make sessions, and erase them at the end, whatever has happened. Raises the first that could not be."""
    stem = f"{_STEM}{new_id()[:8]}"
    names = [f"{stem}-{number:03}" for number in range(count)]
    print(f"Sessions {names[0]} to {names[-1]} of tenant {fabric.tenant}, to be erased.", file=sys.stderr)
    try:
        for name in names:
            await fabric.session(name).create({LABEL: MADE_BY}, participants)
        yield names
    finally:
        await _erase(fabric, names)


async def _erase(fabric: Fabric, names: Sequence[str]) -> None:
    left: list[str] = []
    why: FabricError | None = None
    with progress("Erasing", len(names)) as shown:
        for number, name in enumerate(names):
            try:
                erasure = await fabric.session(name).delete(reason=MADE_BY)
                if not erasure.complete:
                    left.append(name)
            except (SessionNotFound, SessionGone):
                pass
            except BrokerUnavailable as error:
                left += names[number:]  # each of them would be waited for
                why = error
                break
            except FabricError as error:
                left.append(name)
                why = error
            shown.advance()
    if left:
        some = counted(len(left), "session")
        say(
            f"{some} could not be erased, {left[0]} the first{f': {why.message}' if why else '.'}",
            f"`fabricctl session ls --label {LABEL}={MADE_BY}` lists them, `fabricctl session delete` erases one.",
        )
        raise typer.Exit(FAILED)


async def _may_erase(options: Options, fabric: Fabric) -> None:
    """Raise for whoever could make sessions here and not erase them: `Forbidden`, `SessionHeld`."""
    credentials = reach(options).credentials
    if credentials is not None and credentials.granted is not None:
        from session_fabric_cli.minting import claims_in

        said = read_claims(claims_in(credentials.granted.now()), now_s=time.time())
        grants = said.grants or of_role(said.participant.partition(":")[0])
        lacks = [what for what in _NEEDED if not grants.allows(f"{_STEM}0", what)]
        if lacks:
            raise Forbidden(
                f"{said.participant} may not {', '.join(lacks)} in sessions {_STEM}*.",
                hint=f"`fabricctl agent grant` grants it: --session '{_STEM}*={','.join(_NEEDED)}'.",
            )
    kept = await fabric.retention()
    held = [*kept.holds, *kept.tenant_holds]
    if held:
        raise SessionHeld(
            f"Tenant {fabric.tenant} is held: what would be made here could not be erased.",
            hint="Measure in another one: --tenant NAME.",
        )


def _check_welcome(welcome: dict[str, Any], load: Load, tenant: str) -> None:
    """Raise `InvalidRequest` for a token or a load that this gateway cannot be measured with."""
    if welcome["tenant"] != tenant:
        raise InvalidRequest(
            f"The token is of tenant {welcome['tenant']}, and the sessions would be of tenant {tenant}.",
            hint=f"Give --tenant {welcome['tenant']}, or another token.",
        )
    limits = welcome["limits"]
    rates = limits.get("rates", {})
    whose = f"the gateway lets {welcome['participant']} write"
    if "appends" in rates:
        check(load, rates["appends"]["per_s"], whose=whose)
    if "bytes" in rates and load.per_s * load.size > rates["bytes"]["per_s"]:
        raise InvalidRequest(
            f"That are {load.per_s * load.size:,.0f} bytes a second; {whose} {rates['bytes']['per_s']:,.0f}.",
            hint="Lower --size or --rate.",
        )
    if load.sessions > limits.get("max_subs", load.sessions):
        raise InvalidRequest(
            f"--sessions {load.sessions} is more than the {limits['max_subs']} that a connection may have open there.",
            hint="Lower it.",
        )


def _print(options: Options, load: Load, measured: Sequence[Measured]) -> None:
    for one in measured:
        for doubt in one.doubts():
            say(doubt)
        if one.missing:
            say(f"{counted(one.missing, 'event')} did not come through the {one.through}, though stored.")
    ways = [one.told() for one in measured]
    if options.output != "table":
        print_value(options.output, {"load": load._asdict(), "ways": ways})
        return
    rows = [
        {
            "through": way["through"],
            "events": way["appended"],
            "per second": way["per_s"],
            "append p50": way["append_ms"]["p50"],
            "append p99": way["append_ms"]["p99"],
            "delivery p50": way["delivery_ms"]["p50"],
            "delivery p99": way["delivery_ms"]["p99"],
            "catch-up": way["catch_up"]["per_s"],
        }
        for way in ways
    ]
    units = {"append p50": " ms", "append p99": " ms", "delivery p50": " ms", "delivery p99": " ms", "catch-up": "/s"}
    print_rows("table", rows, {name: f"{name}{units.get(name, '')}" for name in rows[0]})

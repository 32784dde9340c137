"""`fabricctl gateway ls | drain`: asked over the broker, never over HTTP."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
from session_fabric.census import Process
from session_fabric.census import drain as begin_drain
from session_fabric.census import gateways as living
from session_fabric.ports import Broker
from session_fabric.words.errors import FabricError, Unavailable

from session_fabric_cli.asking import YesOption, confirm
from session_fabric_cli.naming import nothing_such
from session_fabric_cli.opening import operated, tell
from session_fabric_cli.options import Options, Output, on_broker
from session_fabric_cli.printing import ago, counted, print_rows, print_value
from session_fabric_cli.progress import progress
from session_fabric_cli.versions import of_processes

_COLUMNS: Final = {
    "gateway": "gateway",
    "version": "version",
    "host": "host",
    "address": "address",
    "workers": "workers",
    "connections": "connections",
    "subscriptions": "subscriptions",
    "up": "up",
    "state": "state",
}
_LOOK_S: Final = 0.2
# After its own clients have gone a gateway ends what is under way: `--drain` and `--stop` of its settings, and some.
_LEAST_S: Final = 30.0


class StillDraining(Unavailable):
    code = "draining"


@on_broker
async def list_gateways(options: Options) -> None:
    """List the gateways that live, with what each says of itself."""
    async with operated(options) as broker:
        found = await living(broker)
    tell(of_processes(found))
    print_gateways(found, time.time(), options.output)


@on_broker
async def drain(
    options: Options,
    gateway: Annotated[
        str,
        typer.Argument(metavar="ID", help="As `gateway ls` names it; its beginning will do.", show_default=False),
    ],
    yes: YesOption = False,
) -> None:
    """Have a gateway send its clients elsewhere; it stays, unready, until it is stopped.

    Its clients are told to move, each at a moment of its own; what is under way ends. Waits until none is left.
    """
    async with operated(options) as broker:
        found = await living(broker)
        chosen = _chosen(found, gateway)
        others = sum(not one.told.get("draining") for one in found if one.holder != chosen.holder)
        where = chosen.told.get("address") or chosen.holder
        taking = counted(others, "other takes", "others take") if others else "no other gateway is there to take"
        confirm(f"Drain gateway {chosen.holder} at {where} ({taking} its clients)", yes=yes)
        if not await begin_drain(broker, chosen.holder):
            raise FabricError(
                f"Gateway {chosen.holder} is of a version that cannot be told to drain.",
                hint="Send it SIGTERM: it drains, and ends.",
            )
        await _gone(broker, chosen, max(options.timeout_s, _LEAST_S))
    if options.output != "table":
        print_value(options.output, {"gateway": chosen.holder, "drained": True})
        return
    print(f"Gateway {chosen.holder} is drained: no client is left, and it takes none.")
    print("Stop it, or start another in its place, when you are ready.", file=sys.stderr)


def _chosen(found: Sequence[Process], name: str) -> Process:
    matching = [one for one in found if one.holder.startswith(name)]
    if len(matching) == 1:
        return matching[0]
    raise nothing_such("gateway", name, [one.holder for one in found], listed_by="fabricctl gateway ls")


async def _gone(broker: Broker, chosen: Process, within_s: float) -> None:
    loop = asyncio.get_running_loop()
    deadline, had = loop.time() + within_s, int(chosen.told.get("connections", 0))
    with progress("Draining", total=had or None) as shown:
        while True:
            now = next((one for one in await living(broker) if one.holder == chosen.holder), None)
            if now is None or now.told.get("drained"):
                return
            left = int(now.told.get("connections", had))
            shown.advance(max(0, had - left))
            had = min(had, left)
            if loop.time() > deadline:
                raise StillDraining(
                    f"Gateway {chosen.holder} still has {counted(left, 'connection')}; it goes on draining.",
                    hint="`fabricctl gateway ls` shows how far it is.",
                )
            await asyncio.sleep(_LOOK_S)


def print_gateways(found: Sequence[Process], now: float, output: Output = "table") -> None:
    """Print a list of gateways. `now`: seconds since 1970."""
    rows = [row(one) for one in found]
    if output == "table":
        rows = [{**one, "up": ago(one["since"], now)} for one in rows]
    spare = ("host", "subscriptions", "workers", "version")
    print_rows(
        output, rows, _COLUMNS, names=("gateway", "address"), spare=spare, empty="No gateway lives at this broker."
    )


def row(one: Process) -> dict[str, Any]:
    told = one.told
    silent = "" if one.version is not None else "does not answer"
    draining = "drained" if told.get("drained") else "draining" if told.get("draining") else ""
    return {
        "gateway": one.holder,
        "version": one.version or ("" if one.version is None else "0.1 or older"),
        **{name: told.get(name) for name in ("host", "pid", "address", "workers", "connections", "subscriptions")},
        "since": told.get("since"),
        "state": silent or draining,
        "draining": bool(told.get("draining")),
        "drained": bool(told.get("drained")),
    }

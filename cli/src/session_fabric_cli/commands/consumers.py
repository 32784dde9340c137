"""`fabricctl consumer ls | lag | drain | resume`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.jetstream.consumers import DurableState, durables, pause, state_of
from session_fabric.words.errors import BrokerUnavailable

from session_fabric_cli.asking import YesOption, confirm
from session_fabric_cli.naming import nothing_such
from session_fabric_cli.opening import operated
from session_fabric_cli.options import Options, Output, on_broker, seconds
from session_fabric_cli.printing import print_rows, print_value, span
from session_fabric_cli.progress import progress

_COLUMNS: Final = {
    "tenant": "tenant",
    "durable": "durable",
    "kind": "kind",
    "session": "session",
    "pending": "pending",
    "in_ack": "in ack",
    "redelivered": "again",
    "oldest": "oldest",
    "pulls": "pulls",
    "state": "state",
}
_LOOK_S: Final = 0.1

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A pool, or a durable subscription.", show_default=False)
]
ForOption = Annotated[
    str, typer.Option("--for", metavar="TIME", help="When it ends by itself, whoever forgets to resume.")
]


@on_broker
async def list_consumers(options: Options) -> None:
    """List every durable subscription of all tenants: pools, deadlines and others, and how far behind each is."""
    async with operated(options) as broker:
        found = await _all(broker)
    empty = "There are no durable subscriptions: nobody has served a pool."
    print_durables(found, time.time(), options.output, empty=empty)


@on_broker
async def lag(
    options: Options,
    over: Annotated[
        str, typer.Option("--over", metavar="TIME", help="Only those whose oldest has waited for longer.")
    ] = "0s",
) -> None:
    """List the durable subscriptions that are behind, the oldest first. Leaves with 1 when there are some."""
    least_s = 0.0 if over in ("0", "0s") else seconds(over, "--over")
    async with operated(options) as broker:
        found = await _all(broker)
    now = time.time()
    behind = sorted(
        (one for one in found if one.oldest_ms is not None and now - one.oldest_ms / 1000 >= least_s),
        key=lambda one: one.oldest_ms or 0,
    )
    print_durables(behind, now, options.output, empty="Nothing is behind.")
    if behind:
        raise typer.Exit(1)


@on_broker
async def drain(
    options: Options,
    name: NameArgument,
    lasts: ForOption = "1h",
    yes: YesOption = False,
) -> None:
    """Hand out nothing more of a pool's inbox, and wait until all that was handed out is acknowledged.

    Runs that are under way go on. What is asked meanwhile waits, and nothing is lost: `consumer resume` hands it out.
    """
    for_s = seconds(lasts, "--for")
    async with operated(options) as broker:
        durable = await _named(broker, options.tenant, name)
        what = f"Hand out nothing more of {durable.name} of tenant {durable.tenant} for {span(for_s)}"
        confirm(what, yes=yes)
        await pause(broker.api, durable, for_s)
        left = await _quiet(broker, durable, options.timeout_s)
    facts = {"tenant": durable.tenant, "durable": durable.name, "paused_s": for_s, "waiting": left.pending}
    facts["given_back"] = left.in_ack
    if options.output != "table":
        print_value(options.output, facts)
        return
    print(f"{durable.name} of tenant {durable.tenant} is drained: nothing is handed out for {span(for_s)}.")
    print(f"Waiting: {left.pending}. Given back, handed out again later: {left.in_ack}.")
    print(f"`fabricctl consumer resume {name} --tenant {durable.tenant}` hands out again.", file=sys.stderr)


@on_broker
async def resume(options: Options, name: NameArgument) -> None:
    """Hand out again what a drain has kept back."""
    async with operated(options) as broker:
        durable = await _named(broker, options.tenant, name)
        await pause(broker.api, durable, 0)
        now = await state_of(broker.api, durable)
    if options.output != "table":
        print_value(options.output, _row(now, time.time()))
        return
    print(f"{durable.name} of tenant {durable.tenant} is handed out again: {now.pending + now.in_ack} wait.")


async def _all(broker: JetStreamBroker) -> list[DurableState]:
    return await durables(broker.api, [stream.name for stream in broker.topology.streams])


async def _named(broker: JetStreamBroker, tenant: str, name: str) -> DurableState:
    found = [one for one in await _all(broker) if one.tenant == tenant]
    for one in found:
        if name in (one.name, one.name.removeprefix("pool-")):
            return one
    names = [one.name.removeprefix("pool-") for one in found]
    place = f"in tenant {tenant}"
    raise nothing_such("pool or durable", name, names, listed_by="fabricctl consumer ls", place=place)


async def _quiet(broker: JetStreamBroker, durable: DurableState, timeout_s: float) -> DurableState:
    """Wait until nothing is in ack; or until what is left was handed out for longer than whoever has it may take.

    What was given back stays in ack while it cannot be handed out again: nobody works on it.
    """
    loop = asyncio.get_running_loop()
    since, least = loop.time(), -1
    deadline = since + max(timeout_s, durable.ack_wait_s + 5.0)
    with progress("Waiting for acknowledgements") as shown:
        while True:
            now = await state_of(broker.api, durable)
            if least == -1 or now.in_ack < least:
                since, least = loop.time(), now.in_ack
            if not now.in_ack or loop.time() - since > now.ack_wait_s:
                return now
            if loop.time() > deadline:
                raise BrokerUnavailable(
                    f"{now.in_ack} are still being worked on; nothing more of {durable.name} is handed out.",
                    hint="Drain again to go on waiting, with a longer --timeout; `fabricctl consumer resume` ends it.",
                )
            shown.now(f"Waiting for {now.in_ack} to be acknowledged")
            await asyncio.sleep(_LOOK_S)


def print_durables(found: Sequence[DurableState], now: float, output: Output = "table", *, empty: str = "") -> None:
    """Print a list of durable subscriptions. `now`: seconds since 1970."""
    rows = [_shown(_row(one, now)) if output == "table" else _row(one, now) for one in found]
    print_rows(
        output,
        rows,
        _COLUMNS,
        names=("tenant", "durable"),
        spare=("kind", "pulls", "redelivered", "in_ack"),
        empty=empty,
    )


def _row(one: DurableState, now: float) -> dict[str, Any]:
    oldest_s = None if one.oldest_ms is None else max(0.0, now - one.oldest_ms / 1000)
    return {
        "tenant": one.tenant,
        "durable": one.name,
        "kind": one.kind,
        "session": one.session,
        "pending": one.pending,
        "in_ack": one.in_ack,
        "redelivered": one.redelivered,
        "oldest_s": oldest_s,
        "pulls": one.pulls,
        "state": "paused" if one.paused_s else "",
        "paused_s": one.paused_s,
        "streams": _by_stream(one),
    }


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as people read it."""
    return {
        **row,
        "tenant": row["tenant"] or "(all)",
        "oldest": "" if row["oldest_s"] is None else span(row["oldest_s"]),
        "state": f"paused for {span(row['paused_s'])}" if row["paused_s"] else "",
    }


def _by_stream(one: DurableState) -> Sequence[dict[str, Any]]:
    return [
        {"stream": share.stream, "pending": share.pending, "in_ack": share.in_ack, "oldest_ms": share.oldest_ms}
        for share in one.shares
        if share.pending or share.in_ack
    ]

"""`fabricctl stream ls`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.table import Table
from session_fabric import Fabric
from session_fabric.words.errors import BrokerIncompatible

from session_fabric_cli.connecting import PARTICIPANT, NatsOption, Output, OutputOption, Reached, broker_at
from session_fabric_cli.printing import one_line, print_json, print_table

app = typer.Typer(no_args_is_help=True)


@app.command("ls")
def list_streams(nats: NatsOption = None, output: OutputOption = "table") -> None:
    """List the streams that keep the sessions, with what they hold."""
    asyncio.run(_list(broker_at(nats), output))


async def _list(at: Reached, output: Output) -> None:
    async with Fabric.connect(at.url, credentials=at.credentials, participant=PARTICIPANT, provision=False) as fabric:
        rows = [_row(info) for info in await fabric.broker.list_streams()]
    if output == "json":
        print_json(rows)
        return
    table = Table(box=None, pad_edge=False)
    for column in rows[0] if rows else ("stream",):
        table.add_column(column.upper().replace("_", " "), justify="left" if column == "stream" else "right")
    for row in rows:
        table.add_row(*(one_line(str(value)) for value in row.values()))
    print_table(table)


def _row(info: Mapping[str, Any]) -> dict[str, Any]:
    config, state = info["config"], info["state"]
    return {
        "stream": config["name"],
        "events": state["messages"],
        "bytes": state["bytes"],
        "subjects": state.get("num_subjects", 0),
        "first": state["first_seq"],
        "last": state["last_seq"],
        "replicas": config.get("num_replicas", 1),
        "consumers": state.get("consumer_count", 0),
        "made": info.get("created", ""),
    }


@app.command("provision")
def provision(
    nats: NatsOption = None,
    streams: Annotated[
        int | None, typer.Option(min=1, max=256, help="How many streams share the sessions: a power of two.")
    ] = None,
) -> None:
    """Make the streams and buckets that are missing; refuse what is there and does not fit."""
    asyncio.run(_provision(broker_at(nats), streams))


async def _provision(at: Reached, streams: int | None) -> None:
    async with Fabric.connect(
        at.url, credentials=at.credentials, participant=PARTICIPANT, provision=True, streams=streams
    ) as fabric:
        names = [info["config"]["name"] for info in map(dict[str, Any], await fabric.broker.list_streams())]
    if streams is not None and streams != len(names):
        raise BrokerIncompatible(
            f"The broker has {len(names)} session streams, not {streams}: their number is chosen when they are made.",
            hint="Use another account or data directory for another number.",
        )
    print(f"Provisioned: {', '.join(names)}.")

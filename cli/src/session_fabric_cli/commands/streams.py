"""`fabricctl stream ls`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from session_fabric.words.errors import BrokerIncompatible

from session_fabric_cli.opening import opened
from session_fabric_cli.options import Options, on_broker
from session_fabric_cli.printing import print_rows, print_value


@on_broker
async def list_streams(options: Options) -> None:
    """List the streams that keep the sessions, with what they hold."""
    async with opened(options) as fabric:
        rows = [_row(info) for info in await fabric.broker.list_streams()]
    print_rows(options.output, rows, list(rows[0]) if rows else [])


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


@on_broker
async def provision(
    options: Options,
    streams: Annotated[
        int | None, typer.Option(min=1, max=256, help="How many streams share the sessions: a power of two.")
    ] = None,
) -> None:
    """Make the streams and buckets that are missing; refuse what is there and does not fit."""
    async with opened(options, provision=True, streams=streams) as fabric:
        names = [info["config"]["name"] for info in map(dict[str, Any], await fabric.broker.list_streams())]
    if streams is not None and streams != len(names):
        raise BrokerIncompatible(
            f"The broker has {len(names)} session streams, not {streams}: their number is chosen when they are made.",
            hint="Use another account or data directory for another number.",
        )
    if options.output == "table":
        print(f"Provisioned: {', '.join(names)}.")
    else:
        print_value(options.output, {"streams": names})

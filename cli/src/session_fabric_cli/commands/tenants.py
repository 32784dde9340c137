"""`fabricctl tenant`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from session_fabric.jetstream.operating import Operator

from session_fabric_cli.commands.stream_settings import (
    ClusterOption,
    MaxBytesOption,
    ReplicasOption,
    TagOption,
    settings_of,
)
from session_fabric_cli.commands.streams import progress
from session_fabric_cli.confirming import YesOption, confirm
from session_fabric_cli.connecting import NatsOption, Reached, broker_at

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _tenant() -> None:
    """What belongs to one tenant."""


@app.command("streams")
def streams(
    tenant: Annotated[str, typer.Argument(help="Whose sessions.")],
    streams: Annotated[
        int | None, typer.Option(min=1, max=256, help="How many.", show_default="as few as can be")
    ] = None,
    nats: NatsOption = None,
    replicas: ReplicasOption = None,
    max_bytes: MaxBytesOption = None,
    placement_tag: TagOption = None,
    placement_cluster: ClusterOption = None,
    yes: YesOption = False,
) -> None:
    """Give a tenant streams of its own, while it is in use; change those that it has."""
    settings = settings_of(replicas, max_bytes, placement_tag, placement_cluster)
    asyncio.run(_streams(broker_at(nats), tenant, streams, settings, yes))


async def _streams(at: Reached, tenant: str, streams: int | None, settings: Any, yes: bool) -> None:
    async with Operator.connected(at.url, credentials=at.credentials, say=progress) as operator:
        if not (await operator.layout()).of(tenant):
            confirm(f"Give tenant {tenant!r} streams of its own? It cannot go back to the shared ones.", yes)
        layout = await operator.tenant(tenant, streams, settings)
    print(f"Tenant {tenant}: {', '.join(lodging.stream for lodging in layout.of(tenant))}.")

"""`fabricctl stream provision`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from session_fabric.jetstream.broker import check_streams
from session_fabric.jetstream.moves.settings import Settings

from session_fabric_cli.asking import YesOption, confirm
from session_fabric_cli.commands.stream_settings import ReplicasOption
from session_fabric_cli.failing import say
from session_fabric_cli.operating import operating
from session_fabric_cli.options import Options, on_broker
from session_fabric_cli.printing import counted, print_value


@on_broker
async def provision(
    options: Options,
    streams: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=256, help="How many streams share the sessions: a power of two."),
    ] = None,
    replicas: ReplicasOption = None,
    yes: YesOption = False,
) -> None:
    """Make what is missing, set what an earlier version set otherwise, divide streams until there are --streams."""
    check_streams(streams)
    async with operating(options) as operator:
        there = await operator.streams()
        if streams is not None and 0 < there < streams:
            confirm(f"Divide {counted(there, 'stream')} into {streams}, for good", yes=yes)
        before = await operator.infos()
        layout = await operator.provision(streams=streams, replicas=replicas, settings=Settings(replicas))
        infos = await operator.infos()
    names = [lodging.stream for lodging in layout.lodgings]
    made = [name for name in names if name not in before]
    if options.output != "table":
        print_value(options.output, {"streams": names, "made": made})
    elif made:
        print(f"Provisioned: {', '.join(names)}.")
    else:
        print(f"No stream was made; these are there: {', '.join(names)}.")
    others = [name for name in names if replicas not in (None, infos[name]["config"].get("num_replicas", 1))]
    if replicas is not None and others:
        say(*other_replicas(replicas, others, infos[others[0]]["config"].get("num_replicas", 1)))


def other_replicas(asked: int, others: Sequence[str], there: int) -> tuple[str, str]:
    """Say that streams were there with other replicas than those asked for, and what changes them."""
    have = f"{others[0]} has" if len(others) == 1 else f"{others[0]} and {len(others) - 1} more have"
    edit = f"`nats stream edit {others[0]} --replicas {asked}`"
    fewer = f"{edit}, of each of them."
    more = f"{edit} in a cluster of {asked} servers or more; then `fabricctl stream repair` sets the others alike."
    return (
        f"{have} {counted(there, 'copy', 'copies')} as before: --replicas is for streams that are made.",
        f"To change what there is: {fewer if asked < there else more}",
    )

"""`fabricctl tenant`: what belongs to one tenant."""

from __future__ import annotations

from typing import Annotated

import typer
from session_fabric.rules import layout as rules
from session_fabric.words.names import check_tenant

from session_fabric_cli.asking import YesOption, confirm
from session_fabric_cli.commands.stream_settings import (
    ClusterOption,
    MaxBytesOption,
    ReplicasOption,
    TagOption,
    settings_of,
)
from session_fabric_cli.failing import say
from session_fabric_cli.operating import operating
from session_fabric_cli.options import Options, on_broker
from session_fabric_cli.printing import print_value


@on_broker
async def own_streams(
    options: Options,
    whose: Annotated[str, typer.Argument(metavar="TENANT", help="Whose sessions.")],
    streams: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=256, help="How many. Default: as few as can be.", show_default=False),
    ] = None,
    replicas: ReplicasOption = None,
    max_bytes: MaxBytesOption = None,
    placement_tag: TagOption = None,
    placement_cluster: ClusterOption = None,
    yes: YesOption = False,
) -> None:
    """Give a tenant streams of its own, while it is in use; change or divide those that it has."""
    check_tenant(whose)
    settings = settings_of(replicas, max_bytes, placement_tag, placement_cluster)
    async with operating(options) as operator:
        layout = await operator.layout()
        there = len(layout.of(whose))
        if not there:
            used = await operator.used(whose)
            if not used:
                say(
                    f"Tenant {whose} has no sessions yet: nobody has used that name.",
                    "Is it spelt as it should be?",
                )
            rules.own_streams(layout, whose, used, streams)  # what cannot be is refused before anybody is asked
            confirm(f"Give tenant {whose!r:.80} streams of its own, for good", yes=yes)
        elif streams is not None and streams > there:
            rules.grow(layout, streams, whose)
            confirm(f"Divide {there} streams of {whose!r:.80} into {streams}, for good", yes=yes)
        layout = await operator.tenant(whose, streams, settings)
    names = [lodging.stream for lodging in layout.of(whose)]
    if options.output == "table":
        print(f"Tenant {whose} has {', '.join(names)}.")
    else:
        print_value(options.output, {"tenant": whose, "streams": names})

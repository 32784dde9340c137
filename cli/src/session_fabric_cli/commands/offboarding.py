"""`fabricctl tenant delete`."""

from __future__ import annotations

from typing import Annotated

import typer
from session_fabric import offboarding
from session_fabric.words.names import check_tenant

from session_fabric_cli.asking import YesOption, confirm
from session_fabric_cli.failing import FAILED, say
from session_fabric_cli.opening import opened
from session_fabric_cli.options import Options, on_broker
from session_fabric_cli.progress import progress
from session_fabric_cli.proofs import print_proof


@on_broker
async def delete_tenant(
    options: Options,
    whose: Annotated[str, typer.Argument(metavar="TENANT", help="Whose sessions, streams and all else.")],
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why: for the audit.", show_default=False)
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also while runs are under way, or records cannot be read.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """Delete a tenant with all that it has, and print what there was and what is left."""
    check_tenant(whose)
    confirm(f"Delete tenant {whose} with all its sessions and streams, for good", yes=yes, word=whose)
    async with opened(options) as fabric:
        with progress("counting what there is") as shown:

            def begin(total: int) -> None:
                shown.now("deleting")
                shown.of(total)

            tenant = fabric.view(tenant=whose)
            proof = await offboarding.delete_tenant(
                tenant, reason, force=force, of=begin, done=lambda _: shown.advance()
            )
    print_proof(options.output, {"tenant": proof.tenant}, proof, {"kept": dict(proof.kept)})
    if not proof.complete:
        say(
            f"Something of tenant {whose} is left: it is not deleted.",
            "Stop what still writes in its name (agents, gateways' clients: revoke their tokens), and do it again. "
            "A record that cannot be read is deleted by the version that wrote it.",
        )
        raise typer.Exit(FAILED)

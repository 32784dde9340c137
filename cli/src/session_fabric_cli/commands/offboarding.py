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
from session_fabric_cli.printing import moment, print_facts, print_value
from session_fabric_cli.progress import progress


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
        with progress("deleting") as shown:
            of = fabric.view(tenant=whose)
            proof = await offboarding.delete_tenant(of, reason, force=force, done=lambda _: shown.advance())
    if options.output != "table":
        print_value(options.output, {**proof.model_dump(), "complete": proof.complete})
    else:
        print_facts(
            options.output,
            {
                "tenant": proof.tenant,
                "deleted": f"{moment(proof.at)} by {proof.by}",
                "there was": dict(proof.before) or "nothing",
                "there is": dict(proof.remains) or "nothing",
                "kept": dict(proof.kept),
                "sha256": proof.hash,
            },
        )
    if not proof.complete:
        say(
            f"Something of tenant {whose} is left: it is not deleted.",
            "Stop what still writes in its name (agents, gateways' clients: revoke their tokens), and do it again. "
            "A record that cannot be read is deleted by the version that wrote it.",
        )
        raise typer.Exit(FAILED)

"""Arguments that several commands have in common."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def complete_sessions(ctx: Any, incomplete: str) -> list[str]:
    from session_fabric_cli.completing import session_names

    return session_names(ctx.params, incomplete)


def complete_documents(ctx: Any, incomplete: str) -> list[str]:
    from session_fabric_cli.completing import document_names

    return document_names(ctx.params, incomplete)


_NAME: Any = typer.Argument(metavar="NAME", help="The session.", show_default=False, autocompletion=complete_sessions)
NameArgument = Annotated[str, _NAME]
AnyNameArgument = Annotated[str | None, _NAME]
DocumentArgument = Annotated[
    str, typer.Argument(metavar="DOCUMENT", help="Its name.", show_default=False, autocompletion=complete_documents)
]

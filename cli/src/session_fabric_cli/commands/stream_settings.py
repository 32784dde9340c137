"""Options of streams that are made: how many copies, where, and how much they hold."""

from __future__ import annotations

import re
from typing import Annotated, Final

import typer
from session_fabric.jetstream.moves.settings import Settings
from session_fabric.words.errors import InvalidRequest

_UNITS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}

ReplicasOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, max=5, help="Copies of each stream. Default: as many as others have.", show_default=False
    ),
]
MaxBytesOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="How much each stream holds, as 500M or 20G; what is full refuses.",
        show_default="no limit",
    ),
]
TagOption = Annotated[
    list[str] | None, typer.Option(metavar="TAG", help="Only on servers with this tag; may be given again.")
]
ClusterOption = Annotated[str | None, typer.Option(metavar="NAME", help="In this cluster.")]


def settings_of(replicas: int | None, max_bytes: str | None, tags: list[str] | None, cluster: str | None) -> Settings:
    """Return what was chosen. Raises `InvalidRequest`."""
    return Settings(replicas, None if max_bytes is None else bytes_of(max_bytes), tuple(tags or ()), cluster)


def bytes_of(text: str) -> int:
    """Read a size, as 1048576, 500M or 20G (of 1024). Raises `InvalidRequest`."""
    found = re.fullmatch(r"([1-9][0-9]{0,17})([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise InvalidRequest(f"{text!r:.40} is not a size.", hint="Write 500M, 20G or a number of bytes.")
    size = int(found[1]) * _UNITS[found[2].upper()]
    if size >= 2**63:
        raise InvalidRequest(f"{text} is more than a broker can hold.", hint="Write 500M, 20G or a number of bytes.")
    return size

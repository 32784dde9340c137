"""How LangGraph's checkpoints are spelled in a session's values, and which of them can go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from session_fabric import Checkpoints

EMPTY: Final = "empty"  # in place of a type: the channel had no value
Name = tuple[str, ...]
# A checkpoint as it was read: its head, itself without the channels' values, its metadata.
Read = tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]


def joined(head: Any, data: bytes) -> bytes:
    """Return a value as it is kept: a line of JSON, and what LangGraph's serializer has made."""
    return orjson.dumps(head) + b"\n" + data


def split(value: bytes) -> tuple[Any, bytes]:
    """Return what `joined` has joined."""
    head, _, data = value.partition(b"\n")
    return orjson.loads(head), data


async def needed(kept: Checkpoints, ns: str, read: Mapping[Name, Read]) -> set[Name]:
    """Return the newest checkpoint of a namespace, and those before it that its delta channels are rebuilt from.

    A delta channel's value is in some checkpoints alone; what came after is in the writes of those between.
    """
    at: Name = max(name for name in read if name[1] == ns)
    staying = {at}
    counters = read[at][2].get("counters_since_delta_snapshot") or {}
    unknown = {channel for channel, (updates, _) in counters.items() if updates}
    while unknown and (parent := ("c", ns, str(read[at][0]["parent"]))) in read:
        staying.add(parent)
        versions = read[parent][1]["channel_versions"]
        for channel in unknown & versions.keys():
            blob = await kept.get("b", ns, channel, str(versions[channel]))
            if blob is not None and split(blob)[0][0] != EMPTY:
                unknown = unknown - {channel}
        at = parent
    return staying


async def remove(kept: Checkpoints, gone: set[Name], staying: Mapping[Name, Mapping[str, Any]]) -> None:
    """Remove checkpoints, their writes, and the channels' values that none of those that stay has."""
    used = {
        ("b", name[1], channel, str(version))
        for name, checkpoint in staying.items()
        for channel, version in checkpoint["channel_versions"].items()
    }
    writes = [each.name for each in await kept.entries("w") if ("c", *each.name[1:3]) in gone]
    blobs = [each.name for each in await kept.entries("b") if each.name not in used]
    await kept.remove([*gone, *writes, *blobs])

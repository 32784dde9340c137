"""Everything that a broker holds, as its disk has it: every message of every stream, buckets and large bodies too."""

from __future__ import annotations

import base64
from typing import Any

from session_fabric import Fabric
from session_fabric.jetstream.api import ApiError

from tests.support.sessions import api


async def held(fabric: Fabric) -> dict[str, bytes]:
    """Return subjects, headers and payloads of all that is stored, by stream. For a server of one's own."""
    broker = api(fabric)
    streams: list[dict[str, Any]] = []
    while True:
        page = await broker.api.call("STREAM.LIST", {"offset": len(streams)})
        streams += page["streams"]
        if len(streams) >= page["total"]:
            break
    return {info["config"]["name"]: await _all(fabric, info["config"]["name"]) for info in streams}


async def _all(fabric: Fabric, stream: str) -> bytes:
    found, sequence = bytearray(), 1
    while True:
        try:
            ask = {"seq": sequence, "next_by_subj": ">"}
            message = (await api(fabric).api.call(f"STREAM.MSG.GET.{stream}", ask))["message"]
        except ApiError:
            return bytes(found)  # there is none behind the last one
        found += message["subject"].encode() + b"\n"
        found += base64.b64decode(message.get("hdrs", "")) + base64.b64decode(message.get("data", "")) + b"\n"
        sequence = message["seq"] + 1

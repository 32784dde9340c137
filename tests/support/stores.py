"""Everything that a broker holds, as its disk has it: every message of every stream, buckets and large bodies too."""

from __future__ import annotations

import base64

from session_fabric import Fabric
from session_fabric.jetstream.api import ApiError
from session_fabric.jetstream.topology import all_infos

from tests.support.sessions import api


async def held(fabric: Fabric) -> dict[str, bytes]:
    """Return subjects, headers and payloads of all that is stored, by stream. For a server of one's own."""
    names = [info["config"]["name"] for info in await all_infos(api(fabric).api)]
    return {name: await _all(fabric, name) for name in names}


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

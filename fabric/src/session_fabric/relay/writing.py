"""What remote brokers write to logs and blobs, and take away."""

from __future__ import annotations

from session_fabric.ports import Broker, Wanted
from session_fabric.relay.asked import Asked, kinds_of
from session_fabric.relay.uploads import Uploads
from session_fabric.spelling import read_draft, read_guard, read_place, read_stretch, read_wanted
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.names import check_id
from session_fabric.words.packing import MOST_BYTES, pack


class Writing:
    """`instance` names the process that has what was brought in pieces."""

    def __init__(self, broker: Broker, instance: str) -> None:
        self._broker = broker
        self._instance = instance
        self._uploads = Uploads()

    async def on_publish(self, asked: Asked) -> bytes:
        to = read_stretch(asked.head.get("to"))
        upload = asked.head.get("upload")
        body = asked.blob if upload is None else self._uploads.take(asked.rights.owner, str(upload))
        draft = read_draft(asked.head.get("draft"), body)
        guard = read_guard(asked.head.get("guard"))
        ttl_s = asked.maybe("ttl_s")
        await asked.rights.publish(to, draft, guard)
        ack = await self._broker.log.publish(to, draft, guard=guard, timeout_s=asked.seconds(), ttl_s=ttl_s)
        return pack(list(ack))

    async def on_upload(self, asked: Asked) -> bytes:
        self._uploads.add(
            asked.rights.owner, asked.text("upload"), asked.number("at"), asked.number("size"), asked.blob
        )
        return pack(self._instance)

    async def on_purge(self, asked: Asked) -> bytes:
        to = read_stretch(asked.head.get("to"))
        told = asked.head.get("wanted")
        wanted: Wanted | None = None if told is None else read_wanted(told)[0]
        await asked.rights.purge(to, wanted)
        return pack(await self._broker.log.purge(to, wanted=wanted, upto=asked.maybe("upto")))

    async def on_subjects(self, asked: Asked) -> bytes:
        to, kinds = read_stretch(asked.head.get("to")), kinds_of(asked)
        await asked.rights.purge(to, None)  # for who erases, and counts what there is
        return pack(dict(await self._broker.log.subjects(to, kinds[0] if kinds else None)))

    async def on_erase(self, asked: Asked) -> bytes:
        to, sequences = read_stretch(asked.head.get("to")), asked.head.get("sequences")
        if not isinstance(sequences, list) or not all(type(one) is int for one in sequences) or len(sequences) > 1000:
            raise InvalidRequest("These are no sequences.", hint="Use the SDK.")
        await asked.rights.redact(to)
        return pack(await self._broker.log.erase(to, sequences))

    async def on_blob_put(self, asked: Asked) -> bytes:
        place = read_place(asked.head.get("place"))
        asked.rights.erase(place)  # nobody but the log itself, and whoever may do everything
        body = self._uploads.take(asked.rights.owner, asked.text("upload"))
        await self._broker.put_blob(place, check_id(asked.text("name"), "blob"), body)
        return pack(None)

    async def on_blob_get(self, asked: Asked) -> bytes:
        place, at = read_place(asked.head.get("place")), asked.number("at")
        asked.rights.enter(place)
        body = await self._broker.get_blob(place, check_id(asked.text("name"), "blob"))
        return pack(None) if body is None else pack(len(body), [body[at : at + MOST_BYTES]])

    async def on_blobs(self, asked: Asked) -> bytes:
        place = read_place(asked.head.get("place"))
        asked.rights.erase(place)
        return pack(list(await self._broker.blobs(place)))

    async def on_blobs_delete(self, asked: Asked) -> bytes:
        place, names = read_place(asked.head.get("place")), asked.head.get("names")
        asked.rights.erase(place)
        names = names and [check_id(name, "blob") for name in names]
        return pack(await self._broker.delete_blobs(place, names))

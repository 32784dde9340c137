"""What the fabric keeps at the broker: streams and buckets; made when missing, checked when there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from session_fabric.jetstream.api import NOT_FOUND, Api, ApiError
from session_fabric.ports import BUCKETS, Home
from session_fabric.rules.versions import FORMAT, Mark, newest_mark, readable
from session_fabric.words.errors import BrokerIncompatible, BrokerTooOld, BrokerUnavailable, FormatTooNew
from session_fabric.words.logs import log
from session_fabric.words.subjects import (
    REPUBLISH_SOURCE,
    REPUBLISH_TARGET,
    SHARDS,
    Place,
    bucket_live,
    shard,
    stream_subjects,
)
from session_fabric.words.version import VERSION

# Atomic batches and per-message TTL together: nats-server 2.12 (ADR-50, ADR-43).
OLDEST_BROKER: Final = (2, 12, 0)
_SECOND: Final = 1_000_000_000
DUPLICATE_WINDOW_S: Final = 120
# nats-server 2.15 refuses the 1001st consumer of a stream unless this is a positive number.
MAX_CONSUMERS: Final = 100_000
BLOB_STREAM: Final = "SF-BLOBS"
STREAM_PREFIX: Final = "SESSIONS-"

STREAMS: Final = "session-fabric-streams"

Config = dict[str, Any]


def log_stream(number: int, streams: int, replicas: int) -> Config:
    return {
        "name": f"{STREAM_PREFIX}{number:02d}",
        "description": "Session Fabric: sessions' events",
        "subjects": stream_subjects(number, streams),
        "storage": "file",
        "num_replicas": replicas,
        "max_consumers": MAX_CONSUMERS,
        "duplicate_window": DUPLICATE_WINDOW_S * _SECOND,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "allow_atomic": True,
        "allow_rollup_hdrs": False,
        "max_age": 0,
        "republish": {"src": REPUBLISH_SOURCE, "dest": REPUBLISH_TARGET},
        "metadata": {"session-fabric": "log", STREAMS: str(streams), **Mark(version=VERSION).spelled()},
    }


def blob_stream(replicas: int) -> Config:
    return {
        "name": BLOB_STREAM,
        "description": "Session Fabric: bodies over the inline limit",
        "subjects": ["sf-blob.*.*.*"],
        "storage": "file",
        "num_replicas": replicas,
        "allow_direct": True,
        "allow_rollup_hdrs": False,
        "max_age": 0,
        "metadata": {"session-fabric": "blobs"},
    }


def bucket_stream(bucket: str, replicas: int) -> Config:
    """Return a bucket's stream, as ADR-8 of nats-architecture-and-design lays a KV bucket out."""
    return {
        "name": f"KV_{bucket}",
        "description": "Session Fabric",
        "subjects": [f"$KV.{bucket}.>"],
        "storage": "file",
        "num_replicas": replicas,
        "max_msgs_per_subject": BUCKETS[bucket],
        "discard": "new",
        "allow_direct": True,
        "allow_msg_ttl": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "subject_delete_marker_ttl": _SECOND,
        "republish": {"src": f"$KV.{bucket}.>", "dest": f"{bucket_live(bucket)}.>"},
        "metadata": {"session-fabric": "bucket"},
    }


# What must be as we need it, whoever made the stream; the rest (replicas, limits on bytes, tags) is the operator's.
_NEEDED: Final = (
    "subjects",
    "allow_direct",
    "allow_msg_ttl",
    "allow_atomic",
    "allow_rollup_hdrs",
    "max_age",
    "max_msgs_per_subject",
    "republish",
    "retention",
)
_DEFAULTS: Final[Config] = {"retention": "limits", "max_msgs_per_subject": -1, "max_age": 0}


def differences(found: Config, needed: Config) -> list[str]:
    """Name each setting of a stream that the fabric cannot work with, as `setting is X, must be Y`."""
    out = []
    for key in _NEEDED:
        must = needed.get(key, _DEFAULTS.get(key, False))
        got = found.get(key, _DEFAULTS.get(key, False))
        if key == "subjects":
            must, got = sorted(must or ()), sorted(got or ())
        if must != got:
            out.append(f"{key} is {got!r}, must be {must!r}")
    if needed["name"].startswith(STREAM_PREFIX) and found.get("max_consumers", -1) <= 0:
        out.append(f"max_consumers is {found.get('max_consumers', -1)}, must be a positive number")
    return out


def check_version(version: str, url: str) -> None:
    """Raise `BrokerTooOld` for a broker that lacks what the fabric uses."""
    digits = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if digits < OLDEST_BROKER:
        raise BrokerTooOld(
            f"The broker at {url} is nats-server {version}; Session Fabric needs 2.12 or newer.",
            hint="Upgrade nats-server (message TTL and atomic batches come with 2.11 and 2.12).",
            version=version,
        )


def check_format(metadata: Sequence[Mapping[str, str]]) -> None:
    """Raise `FormatTooNew` for streams whose events this version would not understand."""
    mark = newest_mark(metadata)
    if not readable(mark):
        by = f"Session Fabric {mark.version}" if mark.version else "a later Session Fabric"
        raise FormatTooNew(
            f"What is stored at the broker is of format {mark.format}, by {by}; this is Session Fabric {VERSION}, "
            f"which knows formats up to {FORMAT}, and it takes {mark.min_reader}.",
            hint=f"Upgrade this process to {mark.version or 'that version'} or newer (docs/upgrading.md).",
            format=mark.format,
            min_reader=mark.min_reader,
            version=mark.version,
        )


class Found(NamedTuple):
    """A stream as it is: name, creation time (its epoch)."""

    name: str
    created: str


class Topology:
    """The streams that keep sessions, by shard. Made once at connection; `refresh` looks anew."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._streams: list[Found] = []
        self.replicated = False

    def home(self, place: Place) -> Home:
        streams = len(self._streams)
        found = self._streams[shard(*place) * streams // SHARDS]
        return Home(found.name, found.created)

    @property
    def streams(self) -> list[Found]:
        return self._streams

    async def infos(self, *, mine: str) -> list[dict[str, Any]]:
        """Return every stream's info whose metadata says that it is ours and what for."""
        out: list[dict[str, Any]] = []
        while True:
            page = await self._api.call("STREAM.LIST", {"offset": len(out)})
            out += page.get("streams") or []
            if len(out) >= page.get("total", 0) or not page.get("streams"):
                break
        return [i for i in out if (i["config"].get("metadata") or {}).get("session-fabric") == mine]

    async def open(self, *, provision: bool, streams: int, replicas: int | None) -> None:
        """Find our streams, make what is missing if allowed, refuse what does not fit."""
        infos = await self.infos(mine="log")
        check_format([info["config"]["metadata"] for info in infos])
        # Whoever made the first said how many there are: another may be making the rest just now, or have died at it.
        count = int(infos[0]["config"]["metadata"].get(STREAMS, len(infos))) if infos else streams
        if not infos and not provision:
            raise BrokerIncompatible(
                "The broker has no session streams.",
                hint="Run `fabricctl stream provision`, or connect with provision=True.",
            )
        peers = await self._replicas(replicas) if provision else 1
        if infos:
            peers = infos[0]["config"].get("num_replicas", 1)
        self._streams = []
        self.replicated = peers > 1
        for number in range(count):
            needed = log_stream(number, count, peers)
            self._streams.append(await self._ensure(needed, provision))
        await self._ensure(blob_stream(peers), provision)
        for bucket in BUCKETS:
            await self._ensure(bucket_stream(bucket, peers), provision)

    async def _replicas(self, asked: int | None) -> int:
        """Return three in a cluster that can hold three, else one."""
        if asked is not None:
            return asked
        try:
            probe = dict(bucket_stream("sf-sessions", 3), name="KV_sf-sessions")
            info = await self._api.call("STREAM.INFO.KV_sf-sessions")
            return int(info["config"].get("num_replicas", 1))
        except ApiError:
            pass
        try:
            await self._api.call("STREAM.CREATE.KV_sf-sessions", probe, timeout_s=10.0)
        except (ApiError, BrokerUnavailable):
            return 1  # 10074: replicas > 1 not supported in non-clustered mode; or fewer than three peers
        return 3

    async def _ensure(self, needed: Config, provision: bool) -> Found:
        name = needed["name"]
        try:
            info = await self._api.call(f"STREAM.INFO.{name}")
        except ApiError as error:
            if error.number not in NOT_FOUND:
                raise
            if not provision:
                raise BrokerIncompatible(
                    f"The broker lacks the stream {name}.",
                    hint="Run `fabricctl stream provision`.",
                    stream=name,
                ) from error
            try:
                # Creating what another process has just made the same way answers as if we had.
                info = await self._api.call(f"STREAM.CREATE.{name}", needed, timeout_s=15.0)
                log.info("stream_made", stream=name, replicas=needed["num_replicas"])
            except ApiError as clash:
                info = await self._api.call(f"STREAM.INFO.{name}") if clash.number == 10058 else {}
                if not info:
                    raise BrokerIncompatible(
                        f"The broker cannot make the stream {name}: {clash.description}.",
                        hint="Another stream may have its subjects, or the account may not allow it.",
                        stream=name,
                    ) from clash
        wrong = differences(info["config"], needed)
        if wrong:
            raise BrokerIncompatible(
                f"The stream {name} is not as the fabric needs it: {'; '.join(wrong)}.",
                hint=f"Change it back (`nats stream edit {name}`), or point the fabric at another account.",
                stream=name,
            )
        return Found(name, info["created"])

"""How the fabric's streams and buckets are set at the broker, and what is wrong with one that is set otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from session_fabric.ports import BUCKETS
from session_fabric.rules.layout import STREAM_PREFIX, Lodging
from session_fabric.rules.versions import FORMAT, Mark, newest_mark, readable
from session_fabric.words.errors import BrokerTooOld, FormatTooNew
from session_fabric.words.subjects import bucket_live, republish, subjects_of_shards
from session_fabric.words.version import VERSION

# Atomic batches and per-message TTL together: nats-server 2.12 (ADR-50, ADR-43).
OLDEST_BROKER: Final = (2, 12, 0)
_SECOND: Final = 1_000_000_000
DUPLICATE_WINDOW_S: Final = 120
# nats-server 2.15 refuses the 1001st consumer of a stream unless this is a positive number.
MAX_CONSUMERS: Final = 100_000
# A message with a chunk of a large body, or a piece of a checkpoint, in it; what max_payload is by default, too.
LEAST_MESSAGE: Final = 1024 * 1024
BLOB_STREAM: Final = "SF-BLOBS"
STREAMS: Final = "session-fabric-streams"

Config = dict[str, Any]


# Whose sequences a stream goes on with, and since when they count: it was divided off from a stream of that name.
LINE: Final = "session-fabric-line"
EPOCH: Final = "session-fabric-epoch"
TENANT: Final = "session-fabric-tenant"


def log_stream(lodging: Lodging, streams: int, replicas: int) -> Config:
    """Return the stream that keeps a lodging's sessions, one of `streams` that were made together."""
    own = lodging.tenant is not None
    return {
        "name": lodging.stream,
        "description": "Session Fabric: sessions' events",
        "subjects": subjects_of_shards(lodging.shards, lodging.tenant),
        "storage": "file",
        "num_replicas": replicas,
        "max_consumers": MAX_CONSUMERS,
        "duplicate_window": DUPLICATE_WINDOW_S * _SECOND,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "allow_atomic": True,
        "allow_rollup_hdrs": False,
        "max_age": 0,
        "discard": "new",
        "republish": republish(own=own),
        "metadata": {
            "session-fabric": "log",
            STREAMS: str(streams),
            **Mark(version=VERSION).spelled(),
            **({TENANT: lodging.tenant} if lodging.tenant is not None else {}),
        },
    }


def blob_stream(replicas: int) -> Config:
    return {
        "name": BLOB_STREAM,
        "description": "Session Fabric: bodies over the inline limit",
        "subjects": ["sf-blob.*.*.*"],
        "storage": "file",
        "num_replicas": replicas,
        "duplicate_window": DUPLICATE_WINDOW_S * _SECOND,
        "allow_direct": True,
        "allow_rollup_hdrs": False,
        "max_age": 0,
        "discard": "new",
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
    "discard_new_per_subject",
    "no_ack",
    "sealed",
    "subject_transform",
)
# With another one of these a stream works, and not all that is promised is kept: what expires is told to nobody,
# durable consumers are refused or go by themselves, nothing can be deleted.
_KEPT_BY: Final = ("subject_delete_marker_ttl", "consumer_limits", "deny_delete", "deny_purge")
_DEFAULTS: Final[Config] = {
    "retention": "limits",
    "max_msgs_per_subject": -1,
    "max_age": 0,
    "max_msg_size": -1,
    "subject_delete_marker_ttl": 0,
    "consumer_limits": {},
    "subject_transform": None,
}


def needs(needed: Config, key: str) -> Any:
    """Return how a setting of a stream has to be."""
    return needed.get(key, _DEFAULTS.get(key, False))


def differences(found: Config, needed: Config, *, without: Sequence[str] = ()) -> list[str]:
    """Name each setting of a stream that the fabric cannot work with, as `setting is X, must be Y`."""
    out = _unlike([key for key in _NEEDED if key not in without], found, needed)
    if needed["name"].startswith(STREAM_PREFIX) and found.get("max_consumers", -1) <= 0:
        out.append(f"max_consumers is {found.get('max_consumers', -1)}, must be a positive number")
    return out


def breaches(found: Config, needed: Config) -> list[str]:
    """Name each setting of a stream with which not all that is promised is kept, as `differences` does.

    It is told, and mended, and nobody is kept from working for it.
    """
    # A bucket need not be laid out so that nothing in it can be deleted one by one.
    out = _unlike([key for key in _KEPT_BY if key != "deny_delete" or not needed.get(key)], found, needed)
    window, least = found.get("duplicate_window", 0), needed.get("duplicate_window", 0)
    if window < least:  # what is tried again later than that is stored twice
        out.append(f"duplicate_window is {window}, must be {least} or more")
    if 0 <= found.get("max_msg_size", -1) < LEAST_MESSAGE:
        out.append(f"max_msg_size is {found['max_msg_size']}, must be -1, or {LEAST_MESSAGE} or more")
    return out


def _unlike(keys: Sequence[str], found: Config, needed: Config) -> list[str]:
    out = []
    for key in keys:
        must, got = needs(needed, key), found.get(key, _DEFAULTS.get(key, False))
        if key == "subjects":
            must, got = sorted(must or ()), sorted(got or ())
        if must != got:
            out.append(f"{key} is {got!r}, must be {must!r}")
    return out


def strangers(found: Config, needed: Config) -> str:
    """Say what somebody else keeps in a stream of a name of ours; empty where it is ours, or may be meant for us.

    Ours are marked. Whoever made one for us, by other tools, has given it our subjects.
    """
    if is_marked(found):
        return ""
    ours = {subject.partition(".")[0] for subject in needed["subjects"]}
    strange = [subject for subject in found.get("subjects") or () if subject.partition(".")[0] not in ours]
    if strange:
        return f"it keeps {', '.join(strange[:3])}"
    return "it is a copy of other streams" if found.get("mirror") or found.get("sources") else ""


def is_marked(found: Config) -> bool:
    """Say whether the fabric has made a stream."""
    return "session-fabric" in (found.get("metadata") or {})


def keeps_sessions(found: Config) -> bool:
    """Say whether a stream keeps sessions: it is marked so, or it has lost its mark, and has our name and subjects."""
    if is_marked(found):
        return bool(found["metadata"]["session-fabric"] == "log")
    subjects = found.get("subjects") or ()
    return found["name"].startswith(STREAM_PREFIX) and bool(subjects) and all(s.startswith("sf.") for s in subjects)


def drops(found: Config) -> str:
    """Name the limit for which a stream drops the oldest that it holds, confirmed or not; empty where it drops nothing.

    It is told, and mended, and nobody is kept from working for it: limits are the operator's.
    """
    if found.get("discard", "old") == "new":
        return ""
    limits = [f"{key} is {found[key]}" for key in ("max_bytes", "max_msgs") if found.get(key, -1) > 0]
    said = f"{' and '.join(limits)}, what is over it is dropped, oldest first: discard is 'old', must be 'new'"
    return said if limits else ""


def check_version(version: str, url: str) -> None:
    """Raise `BrokerTooOld` for a broker that lacks what the fabric uses."""
    digits = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if digits < OLDEST_BROKER:
        raise BrokerTooOld(
            f"The broker at {url} is nats-server {version}; Session Fabric needs 2.12 or newer.",
            hint="Upgrade nats-server (message TTL and atomic batches come with 2.11 and 2.12).",
            version=version,
        )


def check_format(metadata: Sequence[Mapping[str, str]]) -> Mark:
    """Return in which format events are. Raises `FormatTooNew` for one that this version would not understand."""
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
    return mark

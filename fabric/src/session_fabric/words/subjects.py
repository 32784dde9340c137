"""The only room that knows how subjects are spelled.

sf.<kind>.<shard>.<tenant>.<session>.<name>.<writer>          stored
sf-of.<kind>.<shard>.<tenant>.<session>.<name>.<writer>       stored in streams of the tenant's own
sf-live.<tenant>.<session>.<kind>.<name>.<writer>             the same, republished after storing
sf-sig.<tenant>.<session>                                     ambient signals, never stored
sf-call.<stamp>.<holder>.<name>                               requests to a process that lives
sf-answer.<stamp>.<token>                                     where such a request is answered, once
sf-svc.<tenant>.<writer>.<op>                                 what those ask of the fabric who may not ask the broker
_INBOX_.<tenant>.<writer>.>                                   where they are answered
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Final, Literal, NamedTuple

from session_fabric.words.names import escape, new_id, unescape

# `ds`: what durable streams hold; the others are sessions' alone.
Kind = Literal["ev", "in", "tok", "own", "ds"]
KINDS: Final[tuple[Kind, ...]] = ("ev", "in", "tok", "own", "ds")

SHARDS: Final = 256
NO_NAME: Final = "_"
GATEWAY_WRITER: Final = "gw"
# Who makes a session of an export: it says who wrote each event and when, and only the fabric's own rights let it.
IMPORT_WRITER: Final = "im"


def shard(tenant: str, session: str) -> int:
    """Return the virtual shard of a session: FNV-1a-32 of the escaped names modulo 256, fixed for ever.

    The same as the broker's own `partition(256, …)` of the two tokens (server/subject_transform.go).
    """
    value = 2166136261
    for byte in (escape(tenant) + escape(session)).encode("ascii"):
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return value % SHARDS


class Place(NamedTuple):
    """A session's place among subjects; sessions of forks point at their source's."""

    tenant: str
    session: str

    def stored(self, kind: Kind, name: str, writer: str) -> str:
        return _stored(self, kind, name, writer)

    def stored_filter(self, kind: Kind | None = None, name: str | None = None) -> str:
        """Match every stored subject of the session, of one kind, or of one name within a kind."""
        if name is None:
            return f"sf.{kind or '*'}.{_head(self)}.>"
        return f"sf.{kind or '*'}.{_head(self)}.{escape(name)}.*"

    def live_filter(self, kind: Kind | None = None) -> str:
        head = f"sf-live.{escape(self.tenant)}.{escape(self.session)}"
        return f"{head}.>" if kind is None else f"{head}.{kind}.>"

    def blobs(self, name: str | None = None) -> str:
        """Match the chunks of the session's large bodies, or name those of one."""
        return f"sf-blob.{escape(self.tenant)}.{escape(self.session)}.{'*' if name is None else escape(name)}"

    def signals(self) -> str:
        return f"sf-sig.{escape(self.tenant)}.{escape(self.session)}"

    def key(self) -> str:
        """The session's key in KV buckets."""
        return f"{escape(self.tenant)}.{escape(self.session)}"


# Asked for with each event that is stored.
@lru_cache(maxsize=16_384)
def _stored(place: Place, kind: Kind, name: str, writer: str) -> str:
    return f"sf.{kind}.{_head(place)}.{escape(name)}.{escape(writer)}"


@lru_cache(maxsize=16_384)
def _head(place: Place) -> str:
    return f"{shard(*place)}.{escape(place.tenant)}.{escape(place.session)}"


class Subject(NamedTuple):
    kind: Kind
    tenant: str
    session: str
    name: str
    writer: str


def parse_stored(subject: str) -> Subject:
    """Take a stored subject apart; raise `ValueError` for anything else."""
    _, kind, _, tenant, session, name, writer = subject.split(".")
    if kind not in KINDS:
        raise ValueError(subject)
    return Subject(kind, unescape(tenant), unescape(session), unescape(name), unescape(writer))


def writer_of(subject: str) -> str:
    """Return the writer that a stored subject names."""
    return _participant(subject[subject.rindex(".") + 1 :])


_participant = lru_cache(maxsize=4096)(unescape)


def tenant_filter(tenant: str | None, kind: Kind | None = None, name: str | None = None) -> str:
    """Match what every session of a tenant stores (None: of every tenant)."""
    return f"sf.{kind or '*'}.*.{'*' if tenant is None else escape(tenant)}.*.{'*' if name is None else escape(name)}.*"


def stored_of(tenant: str) -> list[str]:
    """Match all that is stored of a tenant, in streams that all share and in those of its own."""
    return [respelled(tenant_filter(tenant), own=own) for own in (False, True)]


def blobs_of(tenant: str) -> str:
    """Match the chunks of all large bodies of a tenant."""
    return f"sf-blob.{escape(tenant)}.>"


def place_of_blob(subject: str) -> Place:
    """Return whose large body a subject has."""
    return place_of_key(subject.split(".", 1)[1])


def place_of_key(key: str) -> Place:
    """Turn a bucket key `<tenant>.<session>` back into names."""
    tenant, session = key.split(".")[:2]
    return Place(unescape(tenant), unescape(session))


# --- streams ---------------------------------------------------------------------------------------

# In a tenant's own streams its events go by this word: a subject can be in one stream only.
OWN: Final = "sf-of."
# The last that a stream takes of what moves to another: of no session, of no kind that is read.
CUT: Final = "cut"
NOBODY: Final = "="


class OwnPlace(Place):
    """A session's place in streams of its tenant's own."""

    __slots__ = ()

    def stored(self, kind: Kind, name: str, writer: str) -> str:
        return respelled(super().stored(kind, name, writer), own=True)

    def stored_filter(self, kind: Kind | None = None, name: str | None = None) -> str:
        return respelled(super().stored_filter(kind, name), own=True)


def respelled(subject: str, *, own: bool) -> str:
    """Spell a stored subject, or a filter over them, for a tenant's own streams, or for those that all share."""
    return (OWN if own else "sf.") + subject.split(".", 1)[1]


def plain(subject: str) -> str:
    """Return a stored subject as it is spelled everywhere above the broker, whichever stream it is in."""
    return "sf." + subject[len(OWN) :] if subject.startswith(OWN) else subject


@lru_cache(maxsize=16_384)
def shard_of(place: Place) -> int:
    return shard(*place)


def subjects_of_shards(shards: Sequence[int], tenant: str | None = None) -> list[str]:
    """Return what a stream of these shards takes: what all share, or what one tenant has of its own."""
    head, whose = ("sf.", "*") if tenant is None else (OWN, escape(tenant))
    if len(shards) == SHARDS:
        return [f"{head}*.*.{whose}.*.*.*"]
    return [f"{head}*.{number}.{whose}.*.*.*" for number in sorted(shards)]


def of_shard(number: int, tenant: str | None, *, own: bool) -> str:
    """Match what is stored of one shard, of one tenant or of all, in a tenant's own stream or in a shared one."""
    return f"{OWN if own else 'sf.'}*.{number}.{'*' if tenant is None else escape(tenant)}.*.*.*"


def copying(number: int, tenant: str | None, *, source_own: bool, target_own: bool) -> dict[str, str]:
    """Return the rule by which a stream copies a shard, of one tenant or of all, from another one."""
    head, whose = (OWN if target_own else "sf."), ("*" if tenant is None else escape(tenant))
    w = iter(range(1, 6))
    tokens = [_wild(w), str(number), _wild(w) if whose == "*" else whose, _wild(w), _wild(w), _wild(w)]
    return {"src": of_shard(number, tenant, own=source_own), "dest": head + ".".join(tokens)}


def _wild(numbers: Iterator[int]) -> str:
    return f"{{{{wildcard({next(numbers)})}}}}"


def cut_subject(number: int, tenant: str | None, *, own: bool) -> str:
    """Where the last event is stored that a stream takes of a shard, of one tenant or of all, that moves."""
    whose = NOBODY if tenant is None else escape(tenant)
    return f"{OWN if own else 'sf.'}{CUT}.{number}.{whose}.{NOBODY}.{NOBODY}.{NOBODY}"


def is_cut(subject: str) -> bool:
    """Say whether what is stored under a subject marks the end of what has moved, and is no event."""
    return plain(subject).startswith(f"sf.{CUT}.")


# One rule a stream: wildcards 1-6 are kind, shard, tenant, session, name, writer.
_ALL: Final = "*.*.*.*.*.*"
_TARGET: Final = "sf-live.{{wildcard(3)}}.{{wildcard(4)}}.{{wildcard(1)}}.{{wildcard(5)}}.{{wildcard(6)}}"


def republish(*, own: bool) -> dict[str, str]:
    """Return the rule by which a stream tells at once what it has stored: the same for all."""
    return {"src": (OWN if own else "sf.") + _ALL, "dest": _TARGET}


# --- processes that live -------------------------------------------------------------------------

# How much of a holder's name says whose process it is.
STAMP: Final = 8
_STAMPS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZabcdefghjkmnpqrstvwxyz"


def stamp_of(tenant: str, participant: str) -> str:
    """Return how the holders of a participant begin whose rights at the broker are its own alone.

    So that its processes can answer to their own names, and to nobody else's.
    """
    value = int.from_bytes(sha256(f"{tenant} {participant}".encode()).digest())
    return "".join(_STAMPS[value // len(_STAMPS) ** n % len(_STAMPS)] for n in range(STAMP))


def holder_of(tenant: str, participant: str) -> str:
    """Return a new holder under a participant's stamp; as long as any other."""
    return stamp_of(tenant, participant) + new_id()[STAMP:]


def call_of(holder: str, name: str) -> str:
    """Name what a process answers to, as in `call_of(holder, "alive")`."""
    return f"{holder[:STAMP]}.{holder}.{name}"


def call_subject(name: str) -> str:
    """Where a process is asked by a dotted name (`call_of`)."""
    return "sf-call." + ".".join(escape(part) for part in name.split("."))


ANSWERS: Final = "sf-answer."


def answers_prefix(holder: str) -> str:
    """Where the requests of a process are answered; a token that is used once follows behind a dot."""
    return f"{ANSWERS}{holder[:STAMP]}"


def calls_to(stamp: str, holder: str | None = None) -> str:
    """Match all that the processes under a stamp, or one of them, are asked."""
    return f"sf-call.{stamp}.{holder or '*'}.>"


def calls_among(tenant: str) -> str:
    """Match what the workers of a tenant's pools ask each other."""
    return f"sf-call.*.*.pool.{escape(tenant)}.>"


# --- those who may not ask the broker --------------------------------------------------------------


def services_at(instance: str | None) -> str:
    """Match what is asked of any process that answers (None), or of one."""
    return "sf-svc.*.*.*" if instance is None else f"sf-svc.*.*.*.{instance}"


def service_subject(tenant: str, participant: str, op: str, instance: str | None = None) -> str:
    """Where a participant asks the fabric; the broker lets it publish under its own name only."""
    subject = f"sf-svc.{escape(tenant)}.{escape(participant)}.{op}"
    return subject if instance is None else f"{subject}.{instance}"


def parse_service(subject: str) -> tuple[str, str, str]:
    """Return who asks (tenant, participant) and for what."""
    _, tenant, participant, op = subject.split(".")[:4]
    return unescape(tenant), unescape(participant), op


def inbox_prefix(tenant: str, participant: str) -> str:
    """Under which inboxes a participant is answered, and nobody else may listen."""
    return f"_INBOX_.{escape(tenant)}.{escape(participant)}"


def heard_of_tenant(tenant: str, buckets: Sequence[str]) -> list[str]:
    """Match what is told at once of every session of a tenant: events, signals, entries of buckets."""
    token = escape(tenant)
    return [f"sf-live.{token}.>", f"sf-sig.{token}.*", *(f"{bucket_live(bucket)}.{token}.>" for bucket in buckets)]


def heard_of_session(place: Place, buckets: Sequence[str]) -> list[str]:
    """Match what is told at once of one session."""
    keys = [f"{bucket_live(bucket)}.{place.key()}" for bucket in buckets]
    return [place.live_filter(), place.signals(), *keys, *(f"{key}.>" for key in keys)]


def bucket_live(bucket: str) -> str:
    """Where a bucket's writes are republished; a key follows behind a dot."""
    return f"sf-kv.{bucket}"

"""Stream records: what a durable stream is and where its entries are; kept in the bucket `sf-streams`.

A stream is kept as a session is, under a name that no session can have: its path with a slash before it.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

from pydantic import ConfigDict

from session_fabric.keyring import Keyring
from session_fabric.ports import Broker
from session_fabric.records import Directory, SessionRecord
from session_fabric.words.errors import FabricError, InvalidName, StreamGone, StreamNotFound
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import Place

BUCKET: Final = "sf-streams"
MOST_PATH_BYTES: Final = 512
RESERVED: Final = "__ds"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def check_path(path: str) -> str:
    """Return a stream's path, or raise `InvalidName`."""
    said = f"{path!r:.80}".encode("ascii", "backslashreplace").decode()
    if not path or _CONTROL.search(path) is not None:
        raise InvalidName(f"{said} is not a stream's path.", hint="A path is not empty and has no control characters.")
    if len(path.encode()) > MOST_PATH_BYTES:
        raise InvalidName(f"{said} is too long for a path.", hint=f"{MOST_PATH_BYTES} bytes is the most.")
    parts = path.split("/")
    if "." in parts or ".." in parts:
        # Clients and proxies take them out of a URL: what is so named is asked for by none, or for another's.
        raise InvalidName(f"{said} has a part that is a dot, or two.", hint="Name the parts of a path otherwise.")
    if parts[0] == RESERVED:
        raise InvalidName(f"{said} is reserved.", hint=f"Paths do not begin with {RESERVED}.")
    return path


def place_of(tenant: str, path: str) -> Place:
    """Return where a stream is kept. Raises `InvalidName`."""
    return Place(tenant, f"/{check_path(path)}")


def is_stream(place: Place) -> bool:
    """Say whether what is kept here is a durable stream, and no session."""
    return place.session.startswith("/")


def path_of(place: Place) -> str:
    return place.session[1:]


class StreamRecord(SessionRecord):
    """A durable stream as the bucket keeps it.

    `ttl_s` slides: each read and append moves `ends_ms` (milliseconds since 1970) on; `expires_ms`, as it was
    asked for in `expires_at`, is for good.
    `forked_at` and `forked_sub`: what a fork of `source` was asked to begin with. `ended`: it was made closed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    content_type: str
    ttl_s: int | None = None
    expires_ms: int | None = None
    expires_at: str | None = None
    ends_ms: int | None = None
    forked_at: str | None = None
    forked_sub: int = 0

    @property
    def arriving(self) -> bool:
        """Say whether it is being made of a backup: it is there for nobody until all of it is."""
        return self.imported is not None and not self.imported.done

    @property
    def path(self) -> str:
        return path_of(self.place)

    @property
    def life(self) -> int:
        """Name this life of the path: one that was deleted and made anew is another."""
        return next(segment.id for segment in self.segments if self._is_own(segment.tenant, segment.session))

    @property
    def beginning(self) -> Offset:
        """The offset behind what it has inherited, its own beginning where that is nothing."""
        inherited = [s for s in self.segments if not self._is_own(s.tenant, s.session)]
        if inherited and self.forked_at is not None:
            return Offset.parse(self.forked_at)
        first = next(s for s in self.segments if self._is_own(s.tenant, s.session))
        return Offset(first.id, first.after)

    def _is_own(self, tenant: str, session: str) -> bool:
        return (tenant, session) == (self.tenant, self.session)

    @property
    def end_ms(self) -> int | None:
        """When its time has passed, as it is now; None: never."""
        return min((end for end in (self.ends_ms, self.expires_ms) if end is not None), default=None)

    def over(self, now_ms: int) -> bool:
        """Say whether its time has passed."""
        return self.end_ms is not None and now_ms >= self.end_ms


def fork_name(fork: StreamRecord) -> str:
    """Name a fork as what it is of knows it: in this life of its path."""
    return f"{fork.life} {fork.session}"


class StreamDirectory(Directory):
    """The records of durable streams."""

    bucket: ClassVar[str] = BUCKET
    model: ClassVar[type[SessionRecord]] = StreamRecord

    def __init__(self, broker: Broker, keys: Keyring | None = None, sessions: Directory | None = None) -> None:
        """`sessions`: the tenants' sessions, beside which a stream must not lie open either."""
        super().__init__(broker, keys)
        self._sessions = sessions

    async def check_open(self, tenant: str) -> None:
        await super().check_open(tenant)
        if self._sessions is not None:
            await self._sessions.check_open(tenant)

    def not_found(self, place: Place) -> FabricError:
        return StreamNotFound(
            f"There is no stream {path_of(place)!r:.200}.", hint="Make it with PUT.", path=path_of(place)
        )

    def gone(self, record: SessionRecord) -> FabricError:
        return StreamGone(
            f"Stream {path_of(record.place)!r:.200} was deleted.",
            hint="Its path is free again when its last fork is gone.",
            path=path_of(record.place),
        )

    async def load(self, place: Place, *, fresh: bool = False) -> SessionRecord:
        record = await super().load(place, fresh=fresh)
        if isinstance(record, StreamRecord) and record.arriving:
            raise self.not_found(place)
        return record

    async def stream(self, place: Place, *, fresh: bool = False) -> StreamRecord:
        """Return a stream's record. Raises `StreamNotFound`, `StreamGone`."""
        record = await self.load(place, fresh=fresh)
        assert isinstance(record, StreamRecord)
        return record

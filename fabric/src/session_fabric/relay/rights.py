"""What whoever asks the relay may have done: one question for each kind of thing. Raises where the answer is no."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

from session_fabric.ports import Guard, Stretch, Wanted
from session_fabric.words.events import Draft
from session_fabric.words.subjects import Place


class Span(NamedTuple):
    """How much of a stretch is part of a session: `(after, upto]`; `upto` None is the session's own open end."""

    after: int
    upto: int | None


class Rights(Protocol):
    """Each call returns when it is allowed. Raises `Forbidden`, and `InvalidRequest` for what is no name."""

    @property
    def owner(self) -> str:
        """Whose the things are that one holds at the relay."""

    @property
    def participant(self) -> str: ...
    @property
    def tenant(self) -> str: ...
    @property
    def inbox(self) -> str:
        """Where one hears what is sent to one, and nobody else does."""

    async def renew(self) -> Self:
        """Return what one may do now. Raises `Denied` when that is nothing any more."""

    async def read(self, to: Stretch, via: str) -> Span:
        """Return how much of a stretch one may read, as part of the session `via`: a fork has its source's, up to
        the fork's point. Raises `SessionGone` for what is kept for forks alone."""

    async def publish(self, to: Stretch, draft: Draft, guard: Guard | None) -> None: ...
    async def purge(self, to: Stretch, wanted: Wanted | None) -> None: ...
    async def redact(self, to: Stretch) -> None:
        """Make away with single events of one's own choice."""

    def enter(self, place: Place) -> None:
        """Learn where a session's events go."""

    def erase(self, place: Place) -> None: ...
    def signal(self, place: Place, data: bytes) -> None: ...
    def work(self, tenant: str, name: str, place: Place | None) -> None:
        """Open a durable subscription on a session, or on all of a tenant's."""

    def look(self, bucket: str, key: str) -> None: ...
    def sees(self, bucket: str, key: str) -> bool:
        """Say whether an entry is among those that one may know of."""

    def within(self, bucket: str, prefix: str) -> Sequence[str]:
        """Return under which prefixes to look for what one sees of a bucket, for a prefix that was asked for."""

    async def write(self, bucket: str, key: str, value: bytes, revision: int | None) -> None:
        """Put a value (`revision` None), or swap it for what is at this revision."""

    def remove(self, bucket: str, key: str) -> None: ...

"""Rights at the relay for tests that are about something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import orjson
from session_fabric.ports import Guard, Stretch, Wanted
from session_fabric.relay.own import Own
from session_fabric.relay.rights import Span
from session_fabric.words.events import Draft
from session_fabric.words.names import unescape
from session_fabric.words.subjects import Place


class Crowd(Own):
    """The rights of whoever a view of the connection stands for, as far as the process is its own."""

    async def publish(self, to: Stretch, draft: Draft, guard: Guard | None) -> None:
        await Own(self._tenant, draft.actor, self._grants, self._directory).publish(to, draft, guard)

    async def write(self, bucket: str, key: str, value: bytes, revision: int | None) -> None:
        who = self._participant
        if bucket == "sf-cursors":
            who = unescape(key.split(".")[2])
        elif bucket == "sf-audit" or (bucket == "sf-state" and value[:1] == b"{"):
            who = orjson.loads(value)["by"]
        elif bucket in ("sf-claims", "sf-presence"):
            return  # shown by this process for them: only a gateway does that
        await Own(self._tenant, who, self._grants, self._directory).write(bucket, key, value, revision) if (
            who != self._participant
        ) else await super().write(bucket, key, value, revision)


@dataclass(frozen=True)
class Anything:
    """The rights to everything: what the relay does is tested, not for whom."""

    owner: str
    tenant: str = ""
    inbox: str = ""
    participant: str = ""

    async def renew(self) -> Self:
        return self

    async def read(self, to: Stretch, via: str) -> Span:
        return Span(0, None)

    async def publish(self, to: Stretch, draft: Draft, guard: Guard | None) -> None: ...
    async def purge(self, to: Stretch, wanted: Wanted | None) -> None: ...
    async def redact(self, to: Stretch) -> None: ...
    def enter(self, place: Place) -> None: ...
    def erase(self, place: Place) -> None: ...
    def signal(self, place: Place, data: bytes) -> None: ...
    def work(self, tenant: str, name: str, place: Place | None) -> None: ...
    def look(self, bucket: str, key: str) -> None: ...
    def sees(self, bucket: str, key: str) -> bool:
        return True

    def within(self, bucket: str, prefix: str) -> Sequence[str]:
        return (prefix,)

    async def write(self, bucket: str, key: str, value: bytes, revision: int | None) -> None: ...
    def remove(self, bucket: str, key: str) -> None: ...

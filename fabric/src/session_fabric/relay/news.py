"""What is told live, passed on to those whom the broker cannot be told to let hear it: names that begin so."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Final, Protocol

from session_fabric.relay.rights import Rights
from session_fabric.rules.permissions import BUCKETS
from session_fabric.words.errors import FabricError, Forbidden, InvalidRequest, RateLimited, Unavailable
from session_fabric.words.names import check_id, escape
from session_fabric.words.subjects import Place, bucket_live

# Who asks says every two seconds that it is there still; it is looked at then whether it may hear it still.
LEASE_S: Final = 10.0
_SWEEP_S: Final = 2.0
_MOST_OF_ONE: Final = 2000
_MOST_SUBJECTS: Final = 16
_SUBJECT: Final = re.compile(r"[!-~]{1,400}")


class Passed(Protocol):
    whole: bool

    async def open(self, subjects: Sequence[str]) -> None: ...
    async def close(self) -> None: ...


# to which inbox, and which subjects (None: all that come)
Passes = Callable[[str, Callable[[bytes], bool] | None], Passed]


class _Held:
    def __init__(self, rights: Rights, place: Place | None, passed: Passed) -> None:
        self.rights = rights
        self.place = place
        self.passed = passed
        self.until = time.monotonic() + LEASE_S


class News:
    """All that one process passes on. What was passed on with a gap is let go: who asked finds that, and looks anew."""

    def __init__(self, passes: Passes) -> None:
        self._passes = passes
        self._held: dict[tuple[str, str], _Held] = {}
        self._sweeping: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        for key in list(self._held):
            await self._let_go(key)

    async def open(self, rights: Rights, id: str, place: Place | None, subjects: object) -> None:
        """Begin to pass on what is told of a session, or of all that one may see (`place` None)."""
        key = (rights.owner, check_id(id, "id"))
        if not isinstance(subjects, list) or not 1 <= len(subjects) <= _MOST_SUBJECTS:
            raise InvalidRequest(f"1 to {_MOST_SUBJECTS} subjects can be heard at once.", hint="Use the SDK.")
        if place is not None:
            rights.enter(place)
        for subject in subjects:
            _check(subject, rights.tenant, place)
        if key not in self._held and sum(owner == rights.owner for owner, _ in self._held) >= _MOST_OF_ONE:
            raise RateLimited(
                f"{_MOST_OF_ONE} sessions are heard of already.", hint="Follow fewer at once.", limit=_MOST_OF_ONE
            )
        await self._let_go(key)

        def sees(subject: bytes) -> bool:
            bucket, _, entry = subject.decode()[len("sf-kv.") :].partition(".")
            held = self._held.get(key)
            return held is not None and held.rights.sees(bucket, entry)

        passed = self._passes(f"{rights.inbox}.news-{id}", sees if place is None else None)
        self._held[key] = _Held(rights, place, passed)
        try:
            await passed.open(subjects)
        except BaseException:
            self._held.pop(key, None)
            raise
        # What was revoked while this was being opened was looked for among what there was before.
        after = await _renewed(rights)
        if after is None or not _may(after, place):
            await self._let_go(key)
            raise Forbidden("What was to be heard is not granted any more.", hint="Ask again with a new token.")
        if self._sweeping is None:
            self._sweeping = asyncio.create_task(self._sweep(), name="news", context=Context())

    async def keep(self, rights: Rights, ids: object) -> list[str]:
        """Go on with these; return those that are not passed on, or not without a gap."""
        if not isinstance(ids, list) or len(ids) > _MOST_OF_ONE:
            raise InvalidRequest("These are no names of what is heard.", hint="Use the SDK.")
        lost: list[str] = []
        for id in ids:
            held = self._held.get((rights.owner, id)) if isinstance(id, str) else None
            if held is None:
                lost.append(str(id)[:60])
                continue
            try:
                if held.place is not None:
                    rights.enter(held.place)
            except BaseException:
                await self._let_go((rights.owner, id))
                raise
            held.rights, held.until = rights, time.monotonic() + LEASE_S
            if not held.passed.whole:
                await self._let_go((rights.owner, id))
                lost.append(id)
        return lost

    async def look_again(self) -> None:
        """End what is not granted any more. Who asked for it hears so when it says that it is there still."""
        renewed: dict[int, Rights | None] = {}
        for key, held in list(self._held.items()):
            before = held.rights
            if id(before) not in renewed:
                renewed[id(before)] = await _renewed(before)
            after = renewed[id(before)]
            if self._held.get(key) is not held or held.rights is not before:
                continue  # it was asked for anew meanwhile, and looked at then
            if after is None or not _may(after, held.place):
                await self._let_go(key)
            else:
                held.rights = after

    async def leave(self, rights: Rights, id: str) -> None:
        await self._let_go((rights.owner, id))

    def gap(self) -> None:
        """Our own connection was lost: nothing of it is whole."""
        for held in self._held.values():
            held.passed.whole = False

    async def _let_go(self, key: tuple[str, str]) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            await held.passed.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = time.monotonic()
            for key in [key for key, held in self._held.items() if held.until < now]:
                await self._let_go(key)


async def _renewed(rights: Rights) -> Rights | None:
    """Return rights as they are now, None where there are none. While that cannot be said, they are as they were."""
    try:
        return await rights.renew()
    except Unavailable:
        return rights
    except FabricError:
        return None


def _may(rights: Rights, place: Place | None) -> bool:
    try:
        if place is not None:
            rights.enter(place)
    except FabricError:
        return False
    return True


def _check(subject: object, tenant: str, place: Place | None) -> None:
    """Raise `InvalidRequest` for what is not told of this session, or no bucket's changes in this tenant."""
    if isinstance(subject, str) and _SUBJECT.fullmatch(subject):
        if place is None:
            if subject in [f"{bucket_live(bucket)}.{escape(tenant)}.>" for bucket in BUCKETS]:
                return
        else:
            live = place.live_filter().removesuffix(">")
            keys = [f"{bucket_live(bucket)}.{place.key()}" for bucket in BUCKETS]
            if subject.startswith((live, *(f"{key}." for key in keys))) or subject in (place.signals(), *keys):
                return
    raise InvalidRequest(f"{subject!r:.80} is nothing that is told of it.", hint="Use the SDK.")

"""Sessions' logs as the relay reads and writes them for us; what is live comes from the broker itself."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Final

from session_fabric.jetstream.live import Tapped, live_subjects, takes_records
from session_fabric.ports import Ack, Guard, Home, Stretch, Wanted
from session_fabric.remote.homes import Homes
from session_fabric.remote.link import PIECE, Link
from session_fabric.remote.news import Heard, News
from session_fabric.remote.records import Known
from session_fabric.rules.newest import Newest
from session_fabric.spelling import read_record, spell_draft, spell_stretch, spell_wanted
from session_fabric.words.events import Draft
from session_fabric.words.subjects import Kind, Place
from session_fabric.words.wire import Record

_ERASED_AT_ONCE: Final = 200


class RemoteLog:
    def __init__(self, link: Link, news: News, known: Known) -> None:
        self._link = link
        self._news = news
        self._known = known
        self.homes = Homes()

    def _of(self, to: Stretch) -> dict[str, Any]:
        """Name a stretch, and the session as part of which it is asked for: a fork reads its source's."""
        return {"to": spell_stretch(to), "via": self._known.session_of(to)}

    async def home(self, place: Place) -> Home:
        asked = time.monotonic()
        told, _ = await self._link.ask("home", {"place": list(place)})
        home = Home(*told)
        self.homes.keep(place, home, asked)
        return home

    def home_at_hand(self, place: Place) -> Home | None:
        return self.homes.at_hand(place, time.monotonic())

    async def publish(
        self,
        to: Stretch,
        draft: Draft,
        *,
        guard: Guard | None = None,
        timeout_s: float = 5.0,
        ttl_s: int | None = None,
    ) -> Ack:
        asked = {**self._of(to), "draft": spell_draft(draft), "guard": guard and _guard(guard), "ttl_s": ttl_s}
        asked["timeout_s"] = timeout_s
        if len(draft.body) <= PIECE:
            told, _ = await self._link.ask("publish", asked, [draft.body], timeout_s=timeout_s)
        else:
            asked["upload"], at = await self._link.upload(draft.body, timeout_s=timeout_s)
            told, _ = await self._link.ask("publish", asked, timeout_s=timeout_s, at=at)
        return Ack(*told)

    async def head(self, to: Stretch, *, kinds: Sequence[Kind] = ()) -> int:
        told, _ = await self._link.ask("head", {**self._of(to), "kinds": list(kinds)})
        return int(told)

    async def end(self, to: Stretch) -> int:
        told, _ = await self._link.ask("end", self._of(to))
        return int(told)

    async def newest(self, to: Stretch, wanted: Wanted) -> Record | None:
        told, blobs = await self._link.ask("newest", {**self._of(to), "wanted": spell_wanted([wanted])})
        return (await self._records(to, told["records"], blobs))[0] if told["records"] else None

    async def lasts(self, to: Stretch, after: int, upto: int, *, kinds: Sequence[Kind] = ()) -> Mapping[str, int]:
        asked = {**self._of(to), "after": after, "upto": upto, "kinds": list(kinds)}
        told, _ = await self._link.ask("lasts", asked, timeout_s=10.0)
        return {str(subject): int(sequence) for subject, sequence in told.items()}

    async def read(
        self, to: Stretch, *, after: int, upto: int, wanted: Sequence[Wanted] = ()
    ) -> AsyncGenerator[Sequence[Record], None]:
        while after < upto:
            asked = {**self._of(to), "after": after, "upto": upto, "wanted": spell_wanted(wanted)}
            told, blobs = await self._link.ask("read", asked, timeout_s=15.0)
            if told["records"]:
                yield await self._records(to, told["records"], blobs)
            after = upto if told["next"] is None else int(told["next"])

    async def read_back(
        self,
        to: Stretch,
        *,
        before: int,
        limit: int,
        most_bytes: int | None = None,
        wanted: Sequence[Wanted] = (),
    ) -> AsyncGenerator[Sequence[Record], None]:
        pages: list[list[Record]] = []
        newest = Newest(limit, most_bytes)
        while not newest.full:
            asked = {**self._of(to), "before": before, "limit": limit, "wanted": spell_wanted(wanted)}
            told, blobs = await self._link.ask("read_back", asked, timeout_s=15.0)
            page = await self._records(to, told["records"], blobs)
            if not page:
                break
            limit, newest = limit - len(page), Newest(limit, newest.left_bytes)
            for record in page:
                newest.take(record, len(record.payload))
            pages.append(list(newest.records))
            if not told["more"]:
                break
            before = page[0].sequence
        for page in reversed(pages):
            yield page

    async def _records(self, to: Stretch, told: Sequence[Any], blobs: Sequence[bytes]) -> list[Record]:
        found = [read_record(each[:5], blobs[2 * n], blobs[2 * n + 1]) for n, each in enumerate(told)]
        for record, each in zip(found, told, strict=True):
            if each[5]:  # too large to come with others: in pieces
                record.payload = await self._pieces(to, record.sequence, each[5])
        return found

    async def _pieces(self, to: Stretch, sequence: int, size: int) -> bytes:
        body = b""
        while len(body) < size:
            asked = {**self._of(to), "sequence": sequence, "at": len(body)}
            _, blobs = await self._link.ask("piece", asked, timeout_s=15.0)
            if not blobs or not blobs[0]:
                break
            body += blobs[0]
        return body

    async def whole(self, place: Place, record: Record) -> None:
        """The relay hands over deliveries whole."""

    async def runs_with_deltas(self, to: Stretch) -> Mapping[str, int]:
        told, _ = await self._link.ask("runs", self._of(to))
        return {str(run): int(count) for run, count in told.items()}

    async def listen(
        self, to: Stretch, sink: Callable[[Record], None], *, kinds: Sequence[Kind] = ()
    ) -> Tapped | Heard:
        return await self._news.hear(to.place, live_subjects(to, kinds), takes_records(to, sink))

    async def subjects(self, to: Stretch, kind: Kind | None = None) -> Mapping[str, int]:
        told, _ = await self._link.ask("subjects", {**self._of(to), "kinds": [] if kind is None else [kind]})
        return {str(subject): int(count) for subject, count in told.items()}

    async def erase(self, to: Stretch, sequences: Sequence[int]) -> int:
        erased = 0
        for at in range(0, len(sequences), _ERASED_AT_ONCE):
            asked = {**self._of(to), "sequences": list(sequences[at : at + _ERASED_AT_ONCE])}
            told, _ = await self._link.ask("erase", asked, timeout_s=15.0)
            erased += int(told)
        return erased

    async def purge(self, to: Stretch, *, wanted: Wanted | None = None, upto: int | None = None) -> int:
        asked = {**self._of(to), "wanted": None if wanted is None else spell_wanted([wanted]), "upto": upto}
        told, _ = await self._link.ask("purge", asked)
        return int(told)


def _guard(guard: Guard) -> list[Any]:
    return [guard.kind, guard.name, guard.sequence]

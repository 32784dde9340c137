"""What is kept in memory of durable streams is what the log holds, whoever appends, removes and reads where."""

from __future__ import annotations

import random
from typing import Any

import pytest
from session_fabric.rules.appends import Asked
from session_fabric.streams import recent
from session_fabric.streams.recent import Recent
from session_fabric.streams.records import place_of
from session_fabric.streams.streams import Streams
from session_fabric.streams.wishes import Wish
from session_fabric.words.positions import ZERO, Offset
from session_fabric.words.subjects import Place

from tests.support.sessions import Fabrics

pytestmark = pytest.mark.needs_rights

_TEXT = "text/plain"
_ACTOR = "service:test"


@pytest.fixture
async def two(fabrics: Fabrics) -> list[Streams]:
    """The streams of one broker as two processes have them."""
    return [await (await fabrics.open()).durable_streams() for _ in range(2)]


async def read(streams: Streams, place: Place, after: Offset = ZERO) -> list[tuple[Offset, bytes]]:
    page, found = await streams.look(place), []
    while True:
        chunk = await streams.read(page, after, most_bytes=300)
        found += [(one.offset, one.payload) for one in chunk.entries]
        if chunk.end:
            return found
        after = chunk.next


def here(streams: Streams, page: Any) -> bool:
    segment = page.record.segments[-1]
    return streams._recent.find(page.record.place, segment.id, segment.after, page.standing.guard) is not None


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_read_is_what_was_appended_whoever_did_it(
    two: list[Streams], tenant: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "MOST_OF_ONE", 2_000)  # eight entries or so
    for streams in two:
        streams._recent = Recent(4_000)
    dice = random.Random(seed)
    model: dict[Place, list[tuple[Offset, bytes]]] = {place_of(tenant, path): [] for path in "abc"}
    for place in model:
        await two[0].make(place, Wish(content_type=_TEXT), _ACTOR)
    for number in range(200):
        streams, place = dice.choice(two), dice.choice(list(model))
        held = model[place]
        roll = dice.random()
        if roll < 0.03:
            await streams.delete(place, "operator:ann")
            page, _ = await dice.choice(two).make(place, Wish(content_type=_TEXT, body=b"first"), _ACTOR)
            model[place] = [(page.standing.tail, b"first")]
        elif roll < 0.6:
            body = b"%d " % number * dice.choice((1, 1, 30))
            done = await streams.append(place, Asked(body, _TEXT), _ACTOR)
            held.append((done.standing.tail, body))
        else:
            start = dice.randrange(-1, len(held)) if held else -1
            after = ZERO if start < 0 else held[start][0]
            assert await read(streams, place, after) == held[start + 1 :]
        assert all(one._recent._weight <= 4_000 for one in two)
    for place, held in model.items():
        assert [await read(one, place) for one in two] == [held, held]


async def test_who_appended_or_has_read_asks_for_nothing_but_the_end(two: list[Streams], tenant: str) -> None:
    one, other = two
    place = place_of(tenant, "kept")
    await one.make(place, Wish(content_type=_TEXT, body=b"a"), _ACTOR)
    for body in (b"b", b"c"):
        await one.append(place, Asked(body, _TEXT), _ACTOR)
    # Of a tenant whose bodies are sealed nothing readable stays: who throws its key away relies on that.
    kept = one._keys is None or one._keys.current(tenant) is None
    page = await one.look(place)
    assert here(one, page) == kept
    assert not here(other, page)
    assert [payload for _, payload in await read(other, place)] == [b"a", b"b", b"c"]
    assert here(other, page) == kept
    await other.append(place, Asked(b"d", _TEXT), _ACTOR)
    assert [payload for _, payload in await read(one, place)] == [b"a", b"b", b"c", b"d"]
    await one.delete(place, "operator:ann")
    await other.make(place, Wish(content_type=_TEXT, body=b"anew"), _ACTOR)
    assert [payload for _, payload in await read(one, place)] == [b"anew"]

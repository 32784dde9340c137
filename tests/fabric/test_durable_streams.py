"""Durable streams that many make, fork and remove at once, through several processes."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import orjson
import pytest
from session_fabric.rules.appends import Asked
from session_fabric.streams.records import place_of
from session_fabric.streams.streams import Streams
from session_fabric.streams.wishes import Fork, Wish
from session_fabric.words.errors import Conflict, StreamClosed, StreamExists, StreamGone, StreamNotFound
from session_fabric.words.positions import ZERO
from session_fabric.words.subjects import Place

from tests.support.sessions import Fabrics

pytestmark = pytest.mark.needs_rights

_JSON = "application/json"
_ACTOR = "service:test"


@pytest.fixture
async def two(fabrics: Fabrics) -> list[Streams]:
    """The streams of one broker as two processes have them."""
    return [await (await fabrics.open()).durable_streams() for _ in range(2)]


@pytest.fixture
def at(tenant: str) -> Any:
    return lambda path: place_of(tenant, path)


def plain(body: bytes | None = None, fork: Place | None = None) -> Wish:
    return Wish(content_type=_JSON, body=body, fork=None if fork is None else Fork(fork))


async def read(streams: Streams, place: Place) -> list[Any]:
    page, after, found = await streams.look(place), ZERO, []
    while True:
        chunk = await streams.read(page, after)
        found += [value for one in chunk.entries for value in orjson.loads(b"[%b]" % one.payload)]
        if chunk.end:
            return found
        after = chunk.next


async def gone(streams: Streams, place: Place) -> bool:
    return await streams.directory.find(place, fresh=True) is None


async def test_a_stream_is_no_fork_of_itself(two: list[Streams], at: Any) -> None:
    place = at("self")
    with pytest.raises(StreamNotFound):
        await two[0].make(place, plain(fork=place), _ACTOR)
    wishes = [plain(fork=place) if n % 2 else plain() for n in range(16)]
    done = await asyncio.gather(
        *(two[n % 2].make(place, wish, _ACTOR) for n, wish in enumerate(wishes)), return_exceptions=True
    )
    made = [one for one in done if not isinstance(one, BaseException) and one[1]]
    assert len(made) == 1
    assert {type(one) for one in done if isinstance(one, BaseException)} <= {StreamNotFound, StreamExists}
    await two[0].delete(place, _ACTOR)
    assert await gone(two[1], place)


async def test_who_was_not_first_to_make_a_fork_keeps_nothing(two: list[Streams], at: Any) -> None:
    source, fork = at("source"), at("fork")
    await two[0].make(source, plain(b"1"), _ACTOR)
    await asyncio.gather(
        *(two[n % 2].make(fork, plain(fork=source if n % 2 else None), _ACTOR) for n in range(12)),
        return_exceptions=True,
    )
    for place in (fork, source):
        await two[0].delete(place, _ACTOR)
    assert await gone(two[1], source)
    assert await gone(two[1], fork)


async def test_a_fork_that_was_never_made_does_not_keep_a_deleted_source(two: list[Streams], at: Any) -> None:
    source, fork = at("source"), at("fork")
    await two[0].make(source, plain(b"1"), _ACTOR)
    await two[0].make(fork, plain(fork=source), _ACTOR)
    # Who was to make another one has died behind telling its source.
    await two[0].directory.change(source, lambda r: r.model_copy(update={"forks": (*r.forks, "17 /another")}))
    await two[0].delete(source, _ACTOR)
    with pytest.raises(StreamGone):
        await two[1].look(source)
    assert await read(two[1], fork) == [1]
    await two[1].delete(fork, _ACTOR)
    assert await gone(two[0], source)


async def test_what_a_deletion_that_was_cut_off_has_left_is_found_and_removed(two: list[Streams], at: Any) -> None:
    source = at("source")
    await two[0].make(source, plain(b"1"), _ACTOR)
    await two[0].directory.change(source, lambda r: r.model_copy(update={"state": "deleted", "forks": ("17 /b",)}))
    await two[1].note_all()
    assert await gone(two[0], source)


async def test_a_deletion_that_comes_late_leaves_the_next_life_alone(two: list[Streams], at: Any) -> None:
    place = at("again")
    await two[0].make(place, plain(b"1"), _ACTOR)
    found = await two[1].directory.find(place, fresh=True)
    assert found is not None
    earlier = found[0]
    await two[0].delete(place, _ACTOR)
    await two[0].make(place, plain(b"2"), _ACTOR)
    with pytest.raises(StreamNotFound):
        await two[1]._removers.end(earlier, _ACTOR, "")  # type: ignore[arg-type]
    await two[1]._removers.cleared(earlier)  # type: ignore[arg-type]
    assert await read(two[1], place) == [2]


async def test_chains_of_forks_are_removed_with_their_last(two: list[Streams], at: Any) -> None:
    """At its beginning a fork has none of its source's segments: only its name."""
    count = 400
    await two[0].make(at("0"), plain(b"1"), _ACTOR)
    for n in range(1, count):
        await two[0].make(at(str(n)), Wish(content_type=_JSON, fork=Fork(at(str(n - 1)), ZERO)), _ACTOR)
        await two[0].delete(at(str(n - 1)), _ACTOR)
    await two[0].delete(at(str(count - 1)), _ACTOR)
    assert all([await gone(two[1], at(str(n))) for n in range(count)])


async def test_whatever_many_do_at_once_no_path_is_blocked_for_ever_and_nothing_accepted_is_lost(
    two: list[Streams], at: Any
) -> None:
    paths, numbers = [at(f"mixed/{n}") for n in range(4)], iter(range(10_000))
    accepted: dict[tuple[Place, int], list[int]] = {}
    dice = random.Random(8)

    async def one(streams: Streams) -> None:
        place, other, what = dice.choice(paths), dice.choice(paths), dice.random()
        try:
            if what < 0.2:
                await streams.make(place, plain(), _ACTOR)
            elif what < 0.35:
                await streams.make(place, plain(fork=other), _ACTOR)
            elif what < 0.5:
                await streams.delete(place, _ACTOR)
            elif what < 0.53:
                await streams.append(place, Asked(None, close=True), _ACTOR)
            elif what < 0.65:
                await read(streams, place)
            else:
                number = next(numbers)
                done = await streams.append(place, Asked(b"%d" % number, _JSON), _ACTOR)
                accepted.setdefault((place, done.standing.tail.segment), []).append(number)
        except (StreamNotFound, StreamGone, StreamExists, StreamClosed):
            pass

    async def many(streams: Streams) -> None:
        for _ in range(60):
            await one(streams)

    await asyncio.gather(*(many(two[n % 2]) for n in range(12)))
    for place in paths:
        try:
            life = (await two[0].look(place)).record.life
        except (StreamNotFound, StreamGone):
            continue
        found = [await read(streams, place) for streams in two]
        assert found[0] == found[1]
        assert len(set(found[0])) == len(found[0])
        assert set(accepted.get((place, life), [])) <= set(found[0])
    for place in paths:
        try:
            await two[0].delete(place, _ACTOR)
        except (StreamNotFound, StreamGone, Conflict):
            continue
    assert [place for place in paths if not await gone(two[1], place)] == []


async def test_who_takes_a_maker_for_dead_leaves_the_next_life_of_its_path_alone(two: list[Streams], at: Any) -> None:
    place = at("reborn")
    page, _ = await two[0].make(place, plain(b"1"), _ACTOR)
    await two[0].delete(place, _ACTOR)
    await two[0].make(place, plain(b"2"), _ACTOR)
    await two[0].append(place, Asked(b"3", _JSON), _ACTOR)
    with pytest.raises(StreamNotFound):
        await two[1].ledger._born(page.record)
    for streams in two:
        assert await read(streams, place) == [2, 3]
    await two[1].append(place, Asked(b"4", _JSON), _ACTOR)
    assert await read(two[0], place) == [2, 3, 4]

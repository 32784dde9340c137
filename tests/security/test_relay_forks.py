"""Who may read a fork, and not its source, has of the source what was said until the fork, and nothing after."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson
import pytest
from session_fabric import Session
from session_fabric.ports import Stretch, Wanted
from session_fabric.records import stretch_of
from session_fabric.rules.segments import Segment
from session_fabric.spelling import spell_stretch, spell_wanted
from session_fabric.words.errors import Forbidden, SessionGone
from session_fabric.words.subjects import Place

from tests.security.attacks import runs
from tests.security.relay_world import World

LATER = "what was said later is 0815"
EARLIER = "this was said earlier"


def said(text: str, id: str) -> dict[str, Any]:
    return {"type": "message.user", "message": {"id": id, "role": "user", "content": text}}


class Spelled(NamedTuple):
    """A segment as a record has it."""

    id: int
    stream: str
    epoch: str
    tenant: str
    session: str
    after: int
    upto: int | None


def spelled(segment: Segment) -> Spelled:
    return Spelled(*(getattr(segment, name) for name in Spelled._fields))


class Forked(NamedTuple):
    source: Session
    past: Stretch
    upto: int


async def forked(relayed_world: World, name: str = "mine-fork") -> Forked:
    """Make `mine-fork`, which eve may read, of `source`, which she may not, and go on in the source."""
    source = relayed_world.full.session("source")
    at = (await source.append(said(EARLIER, "e1"))).offset
    fork = await source.fork(at, name)
    for number in range(3):
        await source.append(said(LATER, f"l{number}"))
    past = (await fork.record()).segments[0]
    assert past.upto == at.sequence
    return Forked(source, stretch_of(past), at.sequence)


async def told(relayed_world: World, op: str, head: dict[str, Any]) -> str:
    answer, blobs = await relayed_world.eve._link.ask(op, head, [], timeout_s=3.0)
    return f"{answer} {blobs}"


@runs("Q10")
async def test_what_its_source_says_after_the_fork_is_not_read_as_part_of_the_fork(relayed_world: World) -> None:
    one = await forked(relayed_world)
    of = {"to": spell_stretch(one.past), "via": "mine-fork"}
    everything = {"after": 0, "upto": 10**9, "wanted": []}
    for op, more in (
        ("read", everything),
        ("read", {**everything, "after": one.upto}),
        ("read_back", {"before": 10**9, "limit": 100, "wanted": []}),
        *(("piece", {"sequence": one.upto + n, "at": 0}) for n in range(1, 6)),
    ):
        assert LATER not in await told(relayed_world, op, {**of, **more}), op
    for op, more in (
        ("head", {}),
        ("end", {}),
        ("newest", {"wanted": spell_wanted([Wanted("in")])}),
        ("lasts", {"after": 0, "upto": 10**9}),
        ("runs", {}),
    ):
        with pytest.raises(Forbidden):
            await told(relayed_world, op, {**of, **more})


async def test_what_was_said_until_the_fork_is_read_as_part_of_it(relayed_world: World) -> None:
    one = await forked(relayed_world)
    of = {"to": spell_stretch(one.past), "via": "mine-fork"}
    assert EARLIER in await told(relayed_world, "read", {**of, "after": 0, "upto": one.upto, "wanted": []})
    assert EARLIER in await told(relayed_world, "read_back", {**of, "before": one.upto + 1, "limit": 9, "wanted": []})
    assert EARLIER in await told(relayed_world, "piece", {**of, "sequence": one.upto, "at": 0})


async def test_no_fork_is_made_of_more_than_its_source_has(relayed_world: World) -> None:
    one = await forked(relayed_world)
    fork = await relayed_world.full.session("mine-fork").record()
    place = Place(relayed_world.a, "mine-second")
    home = await relayed_world.full.broker.log.home(place)
    first, last = (segment._asdict() for segment in map(spelled, fork.segments))
    own = Spelled(1 << 52, *home, *place, 0, None)._asdict()
    record = {"tenant": relayed_world.a, "session": place.session, "created": 1, "source": "mine-fork"}
    end = await relayed_world.full.broker.log.head(fork.stretch)
    head = {"bucket": "sf-sessions", "key": place.key(), "revision": 0}

    async def make(*past: dict[str, Any]) -> None:
        value = orjson.dumps({**record, "segments": [*past, own]})
        await relayed_world.eve._link.ask("bucket_swap", head, [value], timeout_s=3.0)

    for past in (
        [{**first, "upto": one.upto + 3}],
        [{**first, "upto": None}],
        [first, {**last, "upto": end + 50}],
        [{**first, "upto": 0}, {**last, "upto": end}],
        [{**first, "after": 0, "upto": one.upto, "session": "mine"}],
    ):
        with pytest.raises(Forbidden):
            await make(*past)
    await make(first, {**last, "upto": end})


async def test_a_session_that_is_kept_for_its_forks_alone_is_not_read_by_its_own_name(relayed_world: World) -> None:
    mine = relayed_world.full.session("mine")
    at = (await mine.append(said(EARLIER, "e1"))).offset
    fork = await mine.fork(at, "mine-fork")
    past = stretch_of((await fork.record()).segments[0])
    await mine.delete()
    reading = {"to": spell_stretch(past), "after": 0, "upto": 10**9, "wanted": []}
    with pytest.raises(SessionGone):
        await told(relayed_world, "read", {**reading, "via": "mine"})
    assert EARLIER in await told(relayed_world, "read", {**reading, "via": "mine-fork"})

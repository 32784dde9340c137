"""Reading what is stored: heads, stretches of it, filters, backwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from session_fabric.ports import Broker, Stretch, Wanted
from session_fabric.words.events import Draft
from session_fabric.words.subjects import Place

from tests.support.brokers import Brokers
from tests.support.events import claim, collect, delta, everything, milestone, stretch, value
from tests.support.waiting import eventually


async def fill(broker: Broker, to: Stretch, count: int = 40) -> list[int]:
    """Store events of several kinds and names by turns; return their sequences."""
    makers: list[Callable[[], Draft]] = [
        lambda: milestone("ev"),
        lambda: delta("1", run="r1"),
        lambda: delta("2", run="r2"),
        lambda: claim("r1"),
        lambda: milestone("in", kind="in", name="pool"),
    ]
    return [(await broker.log.publish(to, makers[n % 5]())).sequence for n in range(count)]


async def test_an_empty_session_has_no_head_and_nothing_to_read(broker: Broker, to: Stretch) -> None:
    assert await broker.log.head(to) == 0
    assert await broker.log.head(to, kinds=("ev",)) == 0
    assert await broker.log.newest(to, Wanted("ev")) is None
    assert await broker.log.lasts(to, 0, 0) == {}
    assert await broker.log.runs_with_deltas(to) == {}
    assert await everything(broker, to) == []
    assert await collect(broker.log.read_back(to, before=1, limit=10)) == []


async def test_the_head_is_the_newest_acknowledged_event_whoever_asks(
    broker: Broker, connections: Brokers, to: Stretch
) -> None:
    other = await connections.open()
    for n in range(20):
        ack = await broker.log.publish(to, milestone(n, kind=("ev", "in", "own", "tok")[n % 4], name="n"))
        assert await other.log.head(to) == ack.sequence


async def test_the_head_of_a_kind_is_its_newest_event(broker: Broker, to: Stretch) -> None:
    ev = await broker.log.publish(to, milestone("x"))
    own = await broker.log.publish(to, claim("r1"))
    tok = await broker.log.publish(to, delta("x", run="r1"))
    heads = [await broker.log.head(to, kinds=(kind,)) for kind in ("ev", "own", "tok", "in")]
    assert heads == [ev.sequence, own.sequence, tok.sequence, 0]
    assert await broker.log.head(to) == tok.sequence


async def test_the_head_does_not_see_other_sessions(broker: Broker, to: Stretch, tenant: str) -> None:
    ack = await broker.log.publish(to, milestone("mine"))
    await broker.log.publish(await stretch(broker, tenant, "chat-2"), milestone("theirs"))
    await broker.log.publish(await stretch(broker, tenant + "x", to.place.session), milestone("theirs"))
    assert await broker.log.head(to) == ack.sequence


async def test_newest_is_the_last_event_of_a_kind_or_name_by_any_writer(broker: Broker, to: Stretch) -> None:
    await broker.log.publish(to, claim("r1", writer="agent:one"))
    await broker.log.publish(to, claim("r1", writer="agent:two"))
    await broker.log.publish(to, claim("r2", writer="agent:three"))
    await broker.log.publish(to, milestone("x"))
    of_run = await broker.log.newest(to, Wanted("own", "r1"))
    of_kind = await broker.log.newest(to, Wanted("own"))
    assert of_run is not None
    assert of_kind is not None
    assert (of_run.actor, of_kind.actor) == ("agent:two", "agent:three")
    assert of_run.id
    assert of_run.type == "run.claimed"
    assert of_run.ts > 0
    assert of_run.parts.name == "r1"
    assert of_run.offset.segment == to.segment
    assert await broker.log.newest(to, Wanted("own", "r3")) is None


async def test_lasts_names_the_last_sequence_of_each_subject_in_the_range(broker: Broker, to: Stretch) -> None:
    s = await fill(broker, to)
    one, two = to.place.stored("tok", "r1", "agent:writer"), to.place.stored("tok", "r2", "agent:writer")
    whole = await broker.log.lasts(to, 0, s[-1])
    assert len(whole) == 5
    assert (whole[one], whole[two]) == (s[36], s[37])
    # Above s[31] and up to s[37] there is no event of `ev` but s[35], and one of each run.
    part = await broker.log.lasts(to, s[31], s[37])
    assert (part[one], part[two]) == (s[36], s[37])
    assert set(part.values()) == {s[33], s[34], s[35], s[36], s[37]}
    assert await broker.log.lasts(to, s[35], s[36]) == {one: s[36]}
    assert await broker.log.lasts(to, s[-1], s[-1]) == {}


async def test_lasts_of_a_kind_names_no_other(broker: Broker, to: Stretch) -> None:
    s = await fill(broker, to)
    head = await broker.log.head(to, kinds=("tok",))
    assert head == s[37]
    assert sorted((await broker.log.lasts(to, 0, head, kinds=("tok",))).values()) == [s[36], s[37]]


async def test_the_head_of_several_kinds_is_the_newest_of_any(broker: Broker, to: Stretch) -> None:
    s = await fill(broker, to, 10)
    assert await broker.log.head(to, kinds=("ev", "own")) == s[8]
    assert await broker.log.head(to, kinds=("tok", "ev")) == s[7]
    assert await broker.log.head(to, kinds=("ev", "in", "tok", "own")) == await broker.log.head(to) == s[9]


async def test_lasts_of_several_kinds_names_each_subject_of_theirs(broker: Broker, to: Stretch) -> None:
    s = await fill(broker, to)
    head = await broker.log.head(to, kinds=("own", "ev"))
    assert head == s[38]
    assert sorted((await broker.log.lasts(to, 0, head, kinds=("own", "ev"))).values()) == [s[35], s[38]]
    assert sorted((await broker.log.lasts(to, s[35], head, kinds=("own", "ev"))).values()) == [s[38]]


async def test_a_session_may_have_thousands_of_subjects(broker: Broker, to: Stretch) -> None:
    s: dict[str, int] = {}
    for start in range(0, 1100, 50):
        acks = await asyncio.gather(*(broker.log.publish(to, claim(f"r{n}")) for n in range(start, start + 50)))
        s |= {to.place.stored("own", f"r{start + n}", "agent:writer"): ack.sequence for n, ack in enumerate(acks)}
    head = await broker.log.head(to)
    assert await broker.log.lasts(to, 0, head) == s
    assert await broker.log.lasts(to, head - 3, head, kinds=("ev", "own")) == {
        subject: sequence for subject, sequence in s.items() if sequence > head - 3
    }


@pytest.mark.parametrize(("after", "upto"), [(0, 39), (0, 0), (5, 39), (38, 39), (10, 20), (39, 39)])
async def test_a_read_gives_what_is_above_after_and_up_to_upto(
    broker: Broker, to: Stretch, after: int, upto: int
) -> None:
    s = await fill(broker, to)
    records = await collect(broker.log.read(to, after=s[after], upto=s[upto]))
    assert [r.sequence for r in records] == s[after + 1 : upto + 1]
    assert all(r.segment == to.segment for r in records)


async def test_a_read_of_several_kinds_and_names_is_merged_in_order(broker: Broker, to: Stretch) -> None:
    s = await fill(broker, to)
    records = await collect(
        broker.log.read(to, after=0, upto=s[-1], wanted=[Wanted("ev"), Wanted("tok", "r2"), Wanted("in")])
    )
    assert [r.sequence for r in records] == [q for i, q in enumerate(s) if i % 5 in (0, 2, 4)]
    records = await collect(broker.log.read(to, after=s[3], upto=s[20], wanted=[Wanted("tok")]))
    assert [r.sequence for r in records] == [q for i, q in enumerate(s) if i % 5 in (1, 2) and 3 < i <= 20]


async def test_what_is_wanted_may_begin_at_its_own_sequence(broker: Broker, to: Stretch) -> None:
    s = await fill(broker, to)
    wanted = [Wanted("ev", after=s[9]), Wanted("tok", "r1", after=s[29]), Wanted("in")]
    records = await collect(broker.log.read(to, after=s[4], upto=s[-1], wanted=wanted))
    assert [r.sequence for r in records] == [
        q for i, q in enumerate(s) if (i % 5 == 0 and i > 9) or (i % 5 == 1 and i > 29) or (i % 5 == 4 and i > 4)
    ]


async def test_wanting_what_is_not_there_gives_nothing(broker: Broker, to: Stretch) -> None:
    s = await fill(broker, to, 10)
    assert await collect(broker.log.read(to, after=0, upto=s[-1], wanted=[Wanted("tok", "r9")])) == []


async def test_a_read_goes_across_what_was_purged(broker: Broker, to: Stretch) -> None:
    s = await fill(broker, to)
    await broker.log.purge(to, wanted=Wanted("tok", "r1"))

    async def only_the_rest() -> bool:
        records = await collect(broker.log.read(to, after=0, upto=s[-1]))
        return [r.sequence for r in records] == [q for i, q in enumerate(s) if i % 5 != 1]

    await eventually(only_the_rest)  # a replica may show the purged ones for a moment longer


async def test_a_read_up_to_an_event_that_was_purged_meanwhile_ends(broker: Broker, to: Stretch) -> None:
    s = await fill(broker, to, 20)
    head = await broker.log.head(to)
    await broker.log.purge(to, wanted=Wanted("in"))
    assert head == s[19]

    async def only_the_rest() -> bool:
        records = await collect(broker.log.read(to, after=0, upto=head))
        return [r.sequence for r in records] == [q for i, q in enumerate(s) if i % 5 != 4]

    await eventually(only_the_rest)


async def test_lasts_up_to_an_event_that_was_purged_meanwhile_names_what_is_left(broker: Broker, to: Stretch) -> None:
    s = await fill(broker, to, 20)
    await broker.log.purge(to, wanted=Wanted("in"))

    async def only_the_rest() -> bool:
        lasts = await broker.log.lasts(to, s[10], s[19])
        return sorted(lasts.values()) == [s[15], s[16], s[17], s[18]]

    await eventually(only_the_rest)


async def test_lasts_up_to_a_purged_event_with_later_ones_behind_it_misses_no_subject(
    broker: Broker, to: Stretch
) -> None:
    """A later last of a subject may be named then: what is missing is found all the same."""
    s = await fill(broker, to, 20)
    await broker.log.purge(to, wanted=Wanted("in"))
    later = await broker.log.publish(to, delta("later", run="r1"))

    async def misses_none() -> bool:
        lasts = await broker.log.lasts(to, s[10], s[19])
        return sorted(lasts.values()) in ([s[15], s[16], s[17], s[18]], [s[15], s[17], s[18], later.sequence])

    await eventually(misses_none)


async def test_reading_goes_over_more_subjects_than_one_answer_can_name(broker: Broker, to: Stretch) -> None:
    s = [
        a.sequence
        for start in range(0, 1100, 50)
        for a in await asyncio.gather(
            *(broker.log.publish(to, delta("x", run=f"r{n}")) for n in range(start, start + 50))
        )
    ]
    assert [r.sequence for r in await everything(broker, to)] == sorted(s)
    page = await collect(broker.log.read_back(to, before=max(s) + 1, limit=1100))
    assert len(page) == 1100
    assert len(await broker.log.runs_with_deltas(to)) == 1100


async def test_a_long_read_comes_in_batches_and_leaves_out_nothing(broker: Broker, to: Stretch, tenant: str) -> None:
    elsewhere = await stretch(broker, tenant, "chat-2")
    s: list[int] = []
    for n in range(1500):
        s.append((await broker.log.publish(to, milestone(n, id=f"e{n}"))).sequence)
        if n % 10 == 0:
            await broker.log.publish(elsewhere, milestone(n))
    batches = [batch async for batch in broker.log.read(to, after=0, upto=s[-1])]
    assert len(batches) > 1
    assert [(r.sequence, value(r)) for batch in batches for r in batch] == list(zip(s, range(1500), strict=True))
    tail = await collect(broker.log.read(to, after=s[99], upto=s[1399], wanted=[Wanted("ev"), Wanted("tok")]))
    assert [r.sequence for r in tail] == s[100:1400]
    assert [r.ts for r in tail] == sorted(r.ts for r in tail)
    assert tail[0].id == "e100"


async def test_a_read_that_is_given_up_leaves_the_broker_as_it_was(broker: Broker, to: Stretch) -> None:
    s = await fill(broker, to)
    reading = broker.log.read(to, after=0, upto=s[-1])
    async for _ in reading:
        break
    await reading.aclose()
    assert [r.sequence for r in await everything(broker, to)] == s


async def test_reading_back_gives_the_newest_events_below_a_sequence_oldest_first(broker: Broker, to: Stretch) -> None:
    s = await fill(broker, to)
    page = await collect(broker.log.read_back(to, before=s[-1] + 1, limit=7))
    assert [r.sequence for r in page] == s[-7:]
    page = await collect(broker.log.read_back(to, before=s[10], limit=100))
    assert [r.sequence for r in page] == s[:10]
    assert await collect(broker.log.read_back(to, before=s[0], limit=10)) == []


async def test_paging_back_meets_every_event_once(broker: Broker, to: Stretch) -> None:
    s = await fill(broker, to)
    wanted = [Wanted("ev"), Wanted("tok", "r1")]
    seen: list[int] = []
    before = s[-1] + 1
    while page := await collect(broker.log.read_back(to, before=before, limit=5, wanted=wanted)):
        assert len(page) <= 5
        seen[:0] = [r.sequence for r in page]
        before = page[0].sequence
    assert seen == [q for i, q in enumerate(s) if i % 5 in (0, 1)]


async def test_reading_back_finds_a_few_events_among_many_others(broker: Broker, to: Stretch, tenant: str) -> None:
    first = await broker.log.publish(to, milestone("first"))
    elsewhere = await stretch(broker, tenant, "chat-2")
    for n in range(300):
        await broker.log.publish(elsewhere, milestone(n))
    last = await broker.log.publish(to, milestone("last"))
    page = await collect(broker.log.read_back(to, before=last.sequence + 1, limit=2))
    assert [r.sequence for r in page] == [first.sequence, last.sequence]


@pytest.mark.parametrize("size", [1_000, 300_000])
async def test_reading_back_ends_with_the_event_with_which_there_are_bytes_enough(
    broker: Broker, to: Stretch, size: int
) -> None:
    """Large bodies count as what they are, not as the claim checks that stand for them."""
    s = [(await broker.log.publish(to, milestone(f"{n}" + "x" * size))).sequence for n in range(6)]
    for most_bytes, there in ((1, 1), (2 * size, 2), (5 * size // 2, 3), (20 * size, 6)):
        back = broker.log.read_back(to, before=s[-1] + 1, limit=100, most_bytes=most_bytes)
        assert [r.sequence for r in await collect(back)] == s[-there:]
    back = broker.log.read_back(to, before=s[3], limit=2, most_bytes=20 * size)
    assert [r.sequence for r in await collect(back)] == s[1:3]


async def test_bytes_are_counted_over_all_that_is_looked_through(broker: Broker, to: Stretch, tenant: str) -> None:
    first = await broker.log.publish(to, milestone("1" * 1_000))
    second = await broker.log.publish(to, milestone("2" * 1_000))
    elsewhere = await stretch(broker, tenant, "chat-2")
    for n in range(300):
        await broker.log.publish(elsewhere, milestone(n))
    last = await broker.log.publish(to, milestone("3" * 1_000))
    back = broker.log.read_back(to, before=last.sequence + 1, limit=9, most_bytes=2_000)
    assert [r.sequence for r in await collect(back)] == [second.sequence, last.sequence]
    back = broker.log.read_back(to, before=last.sequence + 1, limit=9, most_bytes=3_000)
    assert [r.sequence for r in await collect(back)] == [first.sequence, second.sequence, last.sequence]


async def test_runs_with_deltas_are_those_that_still_have_some(broker: Broker, to: Stretch) -> None:
    for n in range(5):
        await broker.log.publish(to, delta("x", run="run one/ü", at=n, writer=f"agent:{n % 2}"))
    for n in range(3):
        await broker.log.publish(to, delta("x", run="r2", at=n))
    await broker.log.publish(to, claim("r3"))
    assert await broker.log.runs_with_deltas(to) == {"run one/ü": 5, "r2": 3}
    await broker.log.purge(to, wanted=Wanted("tok", "r2"))

    async def only_the_other() -> bool:
        return await broker.log.runs_with_deltas(to) == {"run one/ü": 5}

    await eventually(only_the_other)


async def test_home_is_the_same_for_a_session_whoever_asks(broker: Broker, connections: Brokers, to: Stretch) -> None:
    other = await connections.open()
    assert await other.log.home(to.place) == to.home
    assert to.home.epoch
    assert await broker.log.home(Place(to.place.tenant, "another")) is not None


async def test_the_stream_s_end_stays_where_events_have_been_removed(broker: Broker, to: Stretch) -> None:
    ack = await broker.log.publish(to, milestone(1))
    await broker.log.purge(to)
    assert await broker.log.head(to) == 0
    assert await broker.log.end(to) >= ack.sequence

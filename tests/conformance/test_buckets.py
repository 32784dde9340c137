"""Buckets: current values by key."""

from __future__ import annotations

import asyncio
import time

import pytest
from session_fabric.ports import BUCKETS, Broker, Bucket, Dated, Entry
from session_fabric.words.errors import Conflict

from tests.support.brokers import Brokers
from tests.support.waiting import eventually

BUCKET = "sf-sessions"


@pytest.fixture
def bucket(broker: Broker) -> Bucket:
    return broker.bucket(BUCKET)


async def test_what_was_put_is_got_by_everyone_at_once(bucket: Bucket, connections: Brokers, tenant: str) -> None:
    other = (await connections.open()).bucket(BUCKET)
    for n in range(20):
        revision = await bucket.put(f"{tenant}.a", b"%d" % n)
        assert await other.get(f"{tenant}.a") == Entry(f"{tenant}.a", b"%d" % n, revision)


async def test_a_key_that_was_never_written_has_no_entry(bucket: Bucket, tenant: str) -> None:
    assert await bucket.get(f"{tenant}.a") is None


async def test_revisions_rise(bucket: Bucket, tenant: str) -> None:
    revisions = [await bucket.put(f"{tenant}.{n % 2}", b"x") for n in range(6)]
    assert revisions == sorted(set(revisions))


async def test_a_swap_at_the_newest_revision_writes(bucket: Bucket, tenant: str) -> None:
    first = await bucket.swap(f"{tenant}.a", b"1", revision=0)
    second = await bucket.swap(f"{tenant}.a", b"2", revision=first)
    assert await bucket.get(f"{tenant}.a") == (f"{tenant}.a", b"2", second)


async def test_a_swap_at_another_revision_is_refused_with_what_is_there(bucket: Bucket, tenant: str) -> None:
    first = await bucket.put(f"{tenant}.a", b"1")
    second = await bucket.put(f"{tenant}.a", b"2")
    for stale in (0, first, second + 1):
        with pytest.raises(Conflict) as refused:
            await bucket.swap(f"{tenant}.a", b"3", revision=stale)
        assert refused.value.facts["revision"] == second
    assert await bucket.get(f"{tenant}.a") == (f"{tenant}.a", b"2", second)


async def test_a_swap_of_what_is_not_there_is_refused_with_zero(bucket: Bucket, tenant: str) -> None:
    with pytest.raises(Conflict) as refused:
        await bucket.swap(f"{tenant}.a", b"1", revision=77)
    assert refused.value.facts["revision"] == 0
    assert await bucket.get(f"{tenant}.a") is None


async def test_of_racing_swaps_one_wins(bucket: Bucket, connections: Brokers, tenant: str) -> None:
    buckets = [bucket, (await connections.open()).bucket(BUCKET)]

    async def race(number: int, revision: int) -> int | None:
        try:
            return await buckets[number % 2].swap(f"{tenant}.a", b"%d" % number, revision=revision)
        except Conflict:
            return None

    revision = 0
    for _ in range(5):
        won = [r for r in await asyncio.gather(*(race(n, revision) for n in range(10))) if r is not None]
        assert len(won) == 1
        revision = won[0]


async def test_a_deleted_key_has_no_value_and_is_not_listed(bucket: Bucket, tenant: str) -> None:
    await bucket.put(f"{tenant}.a", b"1")
    await bucket.delete(f"{tenant}.a")
    assert await bucket.get(f"{tenant}.a") is None
    await eventually(lambda: nothing_under(bucket, tenant))


async def test_a_deletion_at_a_revision_that_is_not_the_newest_is_refused(bucket: Bucket, tenant: str) -> None:
    first = await bucket.put(f"{tenant}.a", b"1")
    second = await bucket.put(f"{tenant}.a", b"2")
    with pytest.raises(Conflict) as refused:
        await bucket.delete(f"{tenant}.a", revision=first)
    assert refused.value.facts["revision"] == second
    await bucket.delete(f"{tenant}.a", revision=second)
    assert await bucket.get(f"{tenant}.a") is None


async def test_deleting_what_is_not_there_does_no_harm(bucket: Bucket, tenant: str) -> None:
    await bucket.delete(f"{tenant}.a")
    assert await bucket.get(f"{tenant}.a") is None


async def test_a_deleted_key_can_be_made_anew(bucket: Bucket, tenant: str) -> None:
    first = await bucket.swap(f"{tenant}.a", b"1", revision=0)
    await bucket.delete(f"{tenant}.a")
    with pytest.raises(Conflict) as refused:
        await bucket.swap(f"{tenant}.a", b"2", revision=first)
    assert refused.value.facts["revision"] == 0
    second = await bucket.swap(f"{tenant}.a", b"3", revision=0)
    assert second > first
    assert await bucket.get(f"{tenant}.a") == (f"{tenant}.a", b"3", second)


async def test_a_value_with_a_ttl_goes_and_the_key_can_be_made_anew(bucket: Bucket, tenant: str) -> None:
    await bucket.put(f"{tenant}.a", b"1", ttl_s=1)
    assert await bucket.get(f"{tenant}.a") is not None

    async def gone() -> bool:
        return await bucket.get(f"{tenant}.a") is None

    await eventually(gone)
    await eventually(lambda: nothing_under(bucket, tenant))
    await bucket.swap(f"{tenant}.a", b"2", revision=0)
    entry = await bucket.get(f"{tenant}.a")
    assert entry is not None
    assert entry.value == b"2"


async def test_renewing_a_value_begins_its_ttl_anew(bucket: Bucket, tenant: str) -> None:
    held, control = f"{tenant}.held", f"{tenant}.control"
    revision = await bucket.put(held, b"0", ttl_s=1)
    await bucket.put(control, b"x", ttl_s=1)

    async def control_gone() -> bool:
        nonlocal revision
        revision = await bucket.swap(held, b"1", revision=revision, ttl_s=1)
        return await bucket.get(control) is None

    await eventually(control_gone, every_s=0.1)
    assert await bucket.get(held) is not None


async def test_a_write_without_ttl_makes_a_value_permanent(bucket: Bucket, tenant: str) -> None:
    await bucket.put(f"{tenant}.a", b"1", ttl_s=1)
    await bucket.put(f"{tenant}.a", b"2")
    await bucket.put(f"{tenant}.control", b"x", ttl_s=1)

    async def control_gone() -> bool:
        return await bucket.get(f"{tenant}.control") is None

    await eventually(control_gone)
    entry = await bucket.get(f"{tenant}.a")
    assert entry is not None
    assert entry.value == b"2"


async def test_entries_are_what_lives_under_a_dotted_prefix_by_last_change(bucket: Bucket, tenant: str) -> None:
    revisions = {
        key: await bucket.put(f"{tenant}.{key}", key.encode()) for key in ("a", "a.b", "a.c.d", "ab", "b=2E", "a.e")
    }
    revisions["a.b"] = await bucket.put(f"{tenant}.a.b", b"again")
    await bucket.delete(f"{tenant}.a.e")
    expected = [
        (f"{tenant}.a.c.d", b"a.c.d", revisions["a.c.d"]),
        (f"{tenant}.a.b", b"again", revisions["a.b"]),
    ]

    async def listed() -> bool:
        assert await bucket.entries(f"{tenant}.a") == expected
        return True

    # A replica may answer, and be behind.
    await eventually(listed)
    assert len(await bucket.entries(tenant)) == 5
    assert {f"{tenant}.a", f"{tenant}.ab"} <= {entry.key for entry in await bucket.entries()}


async def test_a_star_in_a_prefix_stands_for_any_one_word(bucket: Bucket, tenant: str) -> None:
    for key in ("a.b.c", "d.b.e", "a.b", "b.c", "a.a.b.c", "a.bb.c"):
        await bucket.put(f"{tenant}.{key}", key.encode())

    async def found() -> bool:
        return [entry.value for entry in await bucket.entries(f"{tenant}.*.b")] == [b"a.b.c", b"d.b.e"]

    await eventually(found)


async def test_what_was_written_is_among_the_entries_at_once(connections: Brokers, tenant: str) -> None:
    buckets = [(await connections.open()).bucket(BUCKET) for _ in range(3)]
    for n in range(60):
        await buckets[n % 3].put(f"{tenant}.k{n % 7}", b"%d" % n)
        assert (await buckets[(n + 1) % 3].entries(tenant))[-1].value == b"%d" % n


async def test_many_entries_are_all_returned(bucket: Bucket, tenant: str) -> None:
    for start in range(0, 1200, 50):
        await asyncio.gather(*(bucket.put(f"{tenant}.k{n}", b"%d" % n) for n in range(start, start + 50)))

    async def all_there() -> bool:
        return {e.value for e in await bucket.entries(tenant)} == {b"%d" % n for n in range(1200)}

    await eventually(all_there)


async def test_entries_are_dated_by_the_broker_in_the_order_of_their_last_change(bucket: Bucket, tenant: str) -> None:
    before = time.time() * 1000
    for n in range(1050):
        await bucket.put(f"{tenant}.k{n % 1040}", b"%d" % n)
    await bucket.delete(f"{tenant}.k20")
    await bucket.put(f"{tenant}x.other", b"another's")
    found = await bucket.dated(tenant)
    assert [dated.entry for dated in found] == await bucket.entries(tenant)
    assert [dated.entry.value for dated in found] == [b"%d" % n for n in range(10, 1050) if n != 20]
    assert [dated.ts for dated in found] == sorted(dated.ts for dated in found)
    assert abs(found[0].ts - before) < 60_000
    assert await bucket.dated(f"{tenant}.nothing") == []


async def test_the_latest_changes_come_in_pages_the_newest_first(bucket: Bucket, tenant: str) -> None:
    for n in range(0, 600, 50):
        await asyncio.gather(*(bucket.put(f"{tenant}.k{m}", b"%d" % m) for m in range(n, n + 50)))
    await bucket.put(f"{tenant}.k7", b"again")
    await bucket.delete(f"{tenant}.k8")
    await bucket.put(f"{tenant}x.other", b"another's")
    expected = list(reversed(await bucket.entries(tenant)))
    for limit in (1, 7, 250, 1000):
        pages: list[list[Dated]] = [await bucket.latest(tenant, limit=limit)]
        while len(pages[-1]) == limit and len(pages) < 30:
            pages.append(await bucket.latest(tenant, limit=limit, before=pages[-1][-1].entry.revision))
        read = [dated.entry for page in pages for dated in page]
        assert read == expected[: len(read)]
        assert len(read) == min(len(expected), 30 * limit)
    newest = (await bucket.latest(tenant, limit=1))[0]
    assert newest.entry.key == f"{tenant}.k7"
    assert abs(newest.ts - time.time() * 1000) < 60_000
    assert await bucket.latest(f"{tenant}.nothing", limit=5) == []


async def test_what_was_written_is_the_latest_at_once(connections: Brokers, tenant: str) -> None:
    buckets = [(await connections.open()).bucket(BUCKET) for _ in range(3)]
    for n in range(60):
        await buckets[n % 3].put(f"{tenant}.k{n % 7}", b"%d" % n)
        (newest,) = await buckets[(n + 1) % 3].latest(tenant, limit=1)
        assert newest.entry.value == b"%d" % n


async def test_a_watcher_hears_later_changes_at_and_under_its_prefix(
    bucket: Bucket, connections: Brokers, tenant: str
) -> None:
    other = (await connections.open()).bucket(BUCKET)
    await bucket.put(f"{tenant}.a", b"before")
    seen: list[Entry] = []
    watching = await other.watch(f"{tenant}.a", seen.append)
    await other.get(f"{tenant}.a")
    first = await bucket.put(f"{tenant}.a", b"1")
    await bucket.put(f"{tenant}.b", b"elsewhere")
    await bucket.put(f"{tenant}.ab", b"elsewhere")
    second = await bucket.swap(f"{tenant}.a.b.c", b"2", revision=0)
    await bucket.delete(f"{tenant}.a")
    await eventually(lambda: len(seen) == 3)
    assert seen[:2] == [(f"{tenant}.a", b"1", first), (f"{tenant}.a.b.c", b"2", second)]
    assert seen[2][:2] == (f"{tenant}.a", None)
    assert seen[2].revision > second
    await watching.close()
    await bucket.put(f"{tenant}.a", b"3")
    await bucket.put(f"{tenant}.end", b"3")
    assert len(seen) == 3


async def test_a_watcher_hears_when_a_value_expires(bucket: Bucket, tenant: str) -> None:
    seen: list[Entry] = []
    watching = await bucket.watch(f"{tenant}.s", seen.append)
    await bucket.put(f"{tenant}.s.a", b"1", ttl_s=1)
    await eventually(lambda: len(seen) == 2)
    assert [entry.value for entry in seen] == [b"1", None]
    assert seen[1].key == f"{tenant}.s.a"
    await watching.close()


@pytest.mark.needs_rights
async def test_a_watcher_of_everything_hears_every_key(bucket: Bucket, tenant: str) -> None:
    seen: list[Entry] = []
    watching = await bucket.watch("", seen.append)
    await bucket.put(f"{tenant}.a.b", b"1")
    await eventually(lambda: any(entry.key == f"{tenant}.a.b" for entry in seen))
    await watching.close()


async def test_buckets_do_not_share_keys(broker: Broker, tenant: str) -> None:
    await broker.bucket("sf-sessions").put(f"{tenant}.a", b"1")
    assert await broker.bucket("sf-cursors").get(f"{tenant}.a") is None


async def nothing_under(bucket: Bucket, prefix: str) -> bool:
    return await bucket.entries(prefix) == []


async def test_a_buckets_history_holds_the_newest_versions_oldest_first(broker: Broker, tenant: str) -> None:
    for name in ("sf-state", "sf-sessions", "sf-cursors"):
        kept = BUCKETS[name]
        bucket = broker.bucket(name)
        assert await bucket.history(f"{tenant}.a") == []
        revisions = [await bucket.put(f"{tenant}.a", b"%d" % n) for n in range(10)]
        await bucket.put(f"{tenant}.b", b"another")
        await bucket.put(f"{tenant}.a.c", b"below")
        expected = [Entry(f"{tenant}.a", b"%d" % n, revision) for n, revision in enumerate(revisions)]
        assert await bucket.history(f"{tenant}.a") == expected[-kept:]


async def test_a_deletion_takes_a_keys_history_with_it(broker: Broker, tenant: str) -> None:
    bucket = broker.bucket("sf-state")
    for n in range(3):
        await bucket.put(f"{tenant}.a", b"%d" % n)
    await bucket.delete(f"{tenant}.a")
    assert [entry for entry in await bucket.history(f"{tenant}.a") if entry.value is not None] == []
    revision = await bucket.swap(f"{tenant}.a", b"new", revision=0)
    assert [e for e in await bucket.history(f"{tenant}.a") if e.value is not None] == [
        Entry(f"{tenant}.a", b"new", revision)
    ]


async def test_whatever_is_written_after_a_watcher_has_read_is_heard(connections: Brokers, tenant: str) -> None:
    watchers = [(await connections.open()).bucket(BUCKET) for _ in range(3)]
    writer = (await connections.open()).bucket(BUCKET)
    for n in range(20):
        heard: list[bytes | None] = []
        bucket = watchers[n % 3]
        watching = await bucket.watch(f"{tenant}.{n}", lambda entry, to=heard: to.append(entry.value))  # type: ignore[misc]
        assert await bucket.get(f"{tenant}.{n}.a") is None
        await writer.put(f"{tenant}.{n}.a", b"x")
        await eventually(lambda to=heard: to == [b"x"])  # type: ignore[misc]
        await watching.close()

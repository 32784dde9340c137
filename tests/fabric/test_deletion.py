"""Deleting a session leaves nothing of it at the broker: every stream and bucket is looked into by JetStream's API."""

from __future__ import annotations

from contextlib import aclosing

import pytest
from session_fabric import Fabric, RunFailed, Session, lifecycle

from tests.support.sessions import follow_until, has, leftovers, note, said, stored, values


async def lively(fabric: Fabric, session: Session) -> None:
    """Do with a session everything that leaves something at the broker."""
    await session.append(said("Hello"))
    await session.append(note("x" * 700_000))
    async with session.run("r1") as run:
        await run.reasoning("Hm.")
        await run.text("y" * 20_000)
        await (await run.tool("search", {"q": "z"})).result("z" * 300_000)
    with pytest.raises(RunFailed):
        async with session.run("r2"):
            raise RunFailed("no")
    async with session.run("r3"):
        await session.control("steer", run="r3", body={"text": "x"})
        await follow_until(session, has("control.rejected"))
    for bucket in ("sf-presence", "sf-cursors", "sf-state", "sf-checkpoints", "sf-dead"):
        await fabric.broker.bucket(bucket).put(f"{session.place.key()}.user=3Aada.device", b"{}")
    await session.signal({"type": "typing"})


async def test_a_deleted_session_leaves_nothing_at_the_broker(real: Fabric) -> None:
    session = real.session("chat-1")
    await lively(real, session)
    other = real.session("chat-2")
    await other.append(note("stays"))
    assert len(await leftovers(real, "chat-1")) > 10
    await session.delete()
    assert await leftovers(real, "chat-1") == {}
    assert values(await stored(other)) == ["stays"]


async def test_the_last_fork_takes_a_deleted_source_with_it(real: Fabric) -> None:
    session = real.session("chat-1")
    await lively(real, session)
    fork = await session.fork(await session.head(), "fork-1")
    await fork.append(note("f" * 600_000))
    await session.delete()
    assert await leftovers(real, "chat-1")
    await fork.delete()
    assert await leftovers(real, "chat-1") == {}
    assert await leftovers(real, "fork-1") == {}


async def test_a_forks_large_bodies_of_the_past_stay_readable_when_the_source_is_deleted(real: Fabric) -> None:
    session = real.session("chat-1")
    await session.append(note("x" * 700_000))
    fork = await session.fork(await session.head(), "fork-1")
    await session.delete()
    assert values(await stored(fork)) == ["x" * 700_000]


async def test_a_subscription_on_a_session_goes_with_it(real: Fabric) -> None:
    session = real.session("chat-1")
    await session.append(note(1))
    async with real.subscribe(durable="indexer", session="chat-1") as work:
        (item, *_) = await work.fetch(1)
        await item.ack()
    await session.delete()
    assert await leftovers(real, "chat-1") == {}


async def test_a_deletion_that_was_cut_off_is_finished_by_the_next(real: Fabric) -> None:
    session = real.session("chat-1")
    await lively(real, session)
    record = await session.record()
    # As far as a deletion comes whose process dies after its first step.
    await real._shared.directory.change(record.place, lambda r: r.model_copy(update={"state": "deleted"}))
    await session.delete()
    assert await leftovers(real, "chat-1") == {}


async def test_a_reader_among_what_is_being_deleted_is_told(real: Fabric) -> None:
    session = real.session("chat-1")
    for n in range(600):
        await session.append(note(n))
    first = (await session.history(limit=600)).events[0].offset
    with pytest.raises(Exception, match=r"deleted|no session") as refused:
        async with aclosing(session.read(first)) as batches:
            await anext(batches)
            await session.delete()
            async for _ in batches:
                pass
    assert getattr(refused.value, "code", "") in ("session_gone", "session_not_found")


async def test_whoever_deletes_late_takes_nothing_of_the_names_next_life(fabric: Fabric) -> None:
    session = fabric.session("again")
    await session.append(note("before"))
    await session.state("plan").put({"before": True})
    found = await session._parts.directory.find(session.place, fresh=True)
    assert found is not None
    deleted = found[0].model_copy(update={"state": "deleted"})
    await session.delete()
    await session.append(note("after"))
    await session.append(note("x" * 700_000))
    await session.state("plan").put({"after": True})
    await lifecycle._erase(session._parts, deleted)  # another process, which was held up since it read the record
    assert values(await stored(session)) == ["after", "x" * 700_000]
    plan = await session.state("plan").get()
    assert plan is not None
    assert plan.body == {"after": True}
    assert (await session.record(create=False)).state == "open"

"""What agents have saved of a session goes with what is redacted in it, in forks too, and never under a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from session_fabric import Fabric, Session, audit
from session_fabric.checkpoints import PIECE_BYTES
from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.jetstream.contents import stored_message
from session_fabric.redacting import forgetting
from session_fabric.redacting.removing import finish
from session_fabric.rules.redactions import PENDING_MS
from session_fabric.trimmer import Trimmer
from session_fabric.words.errors import BrokerUnavailable, SessionHeld

from tests.fabric.test_redaction import begun
from tests.support.sessions import Fabrics, said

SECRET = b"4111-1111"
STATE = ("langgraph", "", "c", "", "1")


async def save(session: Session) -> None:
    """Save what an agent knows: small, in pieces, and written over."""
    for value in (b"before " + SECRET, SECRET + b"x" * PIECE_BYTES):
        await session.checkpoints.put({STATE: value, ("plan",): SECRET})


async def left_in(session: Session) -> list[str]:
    """Return the names of what agents have saved."""
    return ["/".join(kept.name) for kept in await session.checkpoints.entries()]


async def forgetting_in(session: Session) -> bool:
    return (await session._parts.directory.load(session.place, fresh=True)).forgetting is not None


async def raw(session: Session) -> list[bytes]:
    """Return all that the stream behind the bucket has of a session, older versions and marks of removal too."""
    broker = session._parts.broker
    assert isinstance(broker, JetStreamBroker)
    found = list[bytes]()
    asked: dict[str, Any] = {"seq": 1, "next_by_subj": f"$KV.sf-checkpoints.{session.place.key()}.>"}
    while (record := await stored_message(broker.api, "KV_sf-checkpoints", asked)) is not None:
        found.append(record.payload)
        asked["seq"] = record.sequence + 1
    return found


@asynccontextmanager
async def waiting(session: Session, run: str = "r1") -> AsyncGenerator[asyncio.Event]:
    """Have a run under way until the block ends, or the event is set."""
    begun, ends = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with session.run(run):
            begun.set()
            await ends.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        await begun.wait()
        yield ends
        ends.set()


async def test_all_that_agents_have_saved_goes_and_is_counted(session: Session) -> None:
    await session.append(said("Mine is 4111-1111."))
    await save(session)
    found = await session.redactable("m1")
    assert (found.checkpoints, found.waits_for) == (4, {})  # two pieces, what names them, and the plan
    proof = await session.redact("m1", reason="A card number.")
    assert (proof.complete, proof.checkpoints, proof.checkpoints_left, proof.waits_for) == (True, 4, 0, {})
    assert await left_in(session) == []
    assert not await forgetting_in(session)
    await session.checkpoints.put({("plan",): b"anew"})  # whoever saves something afterwards knows what is left
    assert await left_in(session) == ["plan"]


async def test_the_broker_holds_no_version_of_it(real: Fabric) -> None:
    session = real.session("chat-1")
    await session.append(said("Mine is 4111-1111."))
    await save(session)
    assert any(SECRET in value for value in await raw(session))
    assert (await session.redact("m1", reason="A card number.")).complete
    assert set(await raw(session)) <= {b""}  # a mark that something was removed goes within a minute


async def test_forks_that_share_what_was_said_forget_it_too_and_others_do_not(session: Session) -> None:
    first = await session.append({"type": "app.note", "value": 1})
    await session.append(said("Mine is 4111-1111."))
    shares = await session.fork(await session.head(), "fork-1")
    beyond = await shares.fork(await shares.head(), "fork-2")
    early = await session.fork(first.offset, "fork-0")
    for one in (session, shares, beyond, early):
        await one.checkpoints.put({STATE: SECRET})
    proof = await session.redact("m1", reason="x")
    assert (proof.complete, proof.checkpoints) == (True, 3)
    assert [await left_in(one) for one in (session, shares, beyond)] == [[], [], []]
    assert len(await left_in(early)) == 1


async def test_one_event_that_is_redacted_is_forgotten_too(session: Session) -> None:
    noted = await session.append({"type": "app.note", "text": "4111-1111"})
    await save(session)
    proof = await session.redact(event=noted.offset, reason="x")
    assert (proof.complete, proof.checkpoints) == (True, 4)
    assert await left_in(session) == []


async def test_under_a_run_it_stays_and_the_redaction_says_that_it_is_not_complete(session: Session) -> None:
    await session.append(said("Mine is 4111-1111."))
    await save(session)
    async with waiting(session):
        assert (await session.redactable("m1")).waits_for == {"chat-1": ("r1",)}
        proof = await session.redact("m1", reason="x")
        assert (proof.complete, proof.remains, proof.checkpoints, proof.checkpoints_left) == (False, 4, 0, 4)
        assert proof.waits_for == {"chat-1": ("r1",)}
        assert (await session.messages()).messages[0].content == ""  # of the log nothing has to wait
        assert len(await left_in(session)) == 2  # the run has what it needs
        assert await forgetting_in(session)
    again = await session.redact("m1", reason="x")
    assert (again.complete, again.again, again.checkpoints_left, again.waits_for) == (True, True, 0, {})
    assert await left_in(session) == []
    assert not await forgetting_in(session)


async def test_a_run_under_way_that_has_saved_nothing_yet_is_waited_for_too(session: Session) -> None:
    await session.append(said("Mine is 4111-1111."))
    async with waiting(session):
        proof = await session.redact("m1", reason="x")
        assert (proof.complete, proof.waits_for) == (True, {})  # nothing is there
        assert await forgetting_in(session)
        await save(session)  # out of its memory
        assert len(await left_in(session)) == 2
    async with session.run("r2"):
        assert await left_in(session) == []


async def test_the_next_run_begins_without_it_however_soon(session: Session) -> None:
    await session.append(said("Mine is 4111-1111."))
    await save(session)
    async with waiting(session, "r1") as first_ends, waiting(session, "r2"):
        await session.redact("m1", reason="x")
        first_ends.set()
        async with session.run("r3"):
            assert await left_in(session) != []  # r2 may go on from it
    async with session.run("r4"):
        assert await left_in(session) == []
        await session.checkpoints.put({("plan",): b"anew"})
    assert not await forgetting_in(session)
    async with session.run("r5"):
        assert await session.checkpoints.get("plan") == b"anew"


async def test_a_run_that_waits_for_people_in_a_fork_is_named_with_it(session: Session) -> None:
    await session.append(said("Mine is 4111-1111."))
    fork = await session.fork(await session.head(), "fork-1")
    for one in (session, fork):
        await one.checkpoints.put({STATE: SECRET})
    async with waiting(fork, "r9"):
        proof = await session.redact("m1", reason="x")
        assert (proof.complete, proof.checkpoints, proof.checkpoints_left) == (False, 1, 1)
        assert proof.waits_for == {"fork-1": ("r9",)}


async def test_shared_documents_are_counted_and_not_looked_at(session: Session) -> None:
    await session.append(said("Mine is 4111-1111."))
    await session.state("plan").put({"card": "4111-1111"})
    proof = await session.redact("m1", reason="x")
    assert (proof.complete, proof.documents) == (True, 1)
    assert (await session.state("plan").get()) is not None


async def test_under_a_hold_that_came_meanwhile_it_stays_until_that_is_released(session: Session) -> None:
    await session.append(said("Mine is 4111-1111."))
    async with waiting(session):
        await save(session)
        await session.redact("m1", reason="x")
        await session.hold("A case.")
    with pytest.raises(SessionHeld):
        await session.redact("m1", reason="x")
    async with session.run("r2"):
        assert len(await left_in(session)) == 2
    await session.release()
    async with session.run("r3"):
        assert await left_in(session) == []


@pytest.mark.needs_rights
async def test_the_audit_says_how_much_there_was(fabric: Fabric, session: Session) -> None:
    await session.append(said("Mine is 4111-1111."))
    await save(session)
    await session.redact("m1", reason="x")
    (acted,) = [one for one in await audit.acts(fabric.broker, fabric.tenant) if one.act == "session.redacted"]
    assert acted.facts["checkpoints"] == 4


@pytest.mark.needs_rights
async def test_what_a_killed_process_has_not_come_to_is_finished_by_the_trimmer(session: Session) -> None:
    first = await session.append({"type": "app.note", "value": 1})
    await session.append(said("Mine is 4111-1111."))
    shares = await session.fork(await session.head(), "fork-1")
    early = await session.fork(first.offset, "fork-0")
    for one in (session, shares, early):
        await one.checkpoints.put({STATE: SECRET})
    pending = await begun(session, "m1")
    parts = session._parts
    record = await parts.directory.load(session.place, fresh=True)
    assert await finish(parts.broker, parts.directory, record, pending.since + PENDING_MS) is None
    assert [await left_in(one) for one in (session, shares)] == [[], []]
    assert len(await left_in(early)) == 1


@pytest.mark.needs_rights
async def test_who_asks_again_finishes_what_was_cut_off_between_two_removals(
    fabrics: Fabrics, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    await session.append(said("Mine is 4111-1111."))
    await save(session)
    removed: list[str] = []
    bucket = type(forgetting.as_stored(session._parts.broker).bucket(forgetting.BUCKET))
    delete = bucket.delete

    async def dies(self: object, key: str, **more: object) -> None:
        if removed:
            raise BrokerUnavailable("It has gone.")
        removed.append(key)
        await delete(self, key, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(bucket, "delete", dies)
        with pytest.raises(BrokerUnavailable):
            await session.redact("m1", reason="x")
    assert await forgetting_in(session)
    assert (await session._parts.directory.load(session.place, fresh=True)).redacting != ()
    other = (await fabrics.open("operator:ann")).session(session.name)
    proof = await other.redact("m1", reason="x")
    assert (proof.complete, proof.again, proof.checkpoints) == (True, True, 3)
    assert await left_in(session) == []
    assert not await forgetting_in(session)
    assert (await session._parts.directory.load(session.place, fresh=True)).redacting == ()


@pytest.mark.needs_rights
async def test_the_trimmer_removes_it_when_the_last_run_has_ended(fabric: Fabric, session: Session) -> None:
    await session.append(said("Mine is 4111-1111."))
    await save(session)
    trimmer = Trimmer(fabric._shared.common, fabric._shared._below, turn_s=2)
    async with waiting(session):
        await session.redact("m1", reason="x")
        await trimmer._list()
        known = trimmer._known[session.place]
        outcome, due_ms = await trimmer._look(known)
        assert (outcome, due_ms is not None) == ("waits", True)
        assert len(await left_in(session)) == 2
    await trimmer._look(known)
    assert await left_in(session) == []
    assert not await forgetting_in(session)
    assert await trimmer._look(known) == ("kept", None)

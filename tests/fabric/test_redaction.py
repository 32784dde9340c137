"""What a message says is taken out of a session that goes on, wherever it may be."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress

import orjson
import pytest
from session_fabric import Fabric, Run, Session, audit
from session_fabric.importing import verify
from session_fabric.redacting import redaction, removing
from session_fabric.redacting.removing import finish
from session_fabric.rules.asked import RequestFold
from session_fabric.rules.fold import Fold
from session_fabric.rules.redactions import PENDING_MS, Redacting
from session_fabric.words.errors import (
    EventNotFound,
    Forbidden,
    InvalidRequest,
    MessageNotFound,
    MessageOpen,
    SessionHeld,
)
from session_fabric.words.events import MESSAGE_REDACTED

from tests.fabric.test_agents import served
from tests.support.servers import NatsNode
from tests.support.sessions import Fabrics, note, said, stored, types, values
from tests.support.stores import held
from tests.support.waiting import eventually

SECRET = "4111-1111"


async def talk(session: Session) -> str:
    """Say something secret, and have it answered with it in text, reasoning and tools; return the answer's id."""
    await session.append(said(f"Mine is {SECRET}."), id="e1")
    async with session.run("r1") as run:
        await run.reasoning(f"They gave {SECRET}.")
        await run.text(f"Noted: {SECRET}. ")
        await (await run.tool("charge", {"card": SECRET})).result(f"charged {SECRET} " + "z" * 300_000)
        await run.text("Done.")
    await session.append(said("Thanks.", "m2"))
    answers = [m for m in (await session.messages()).messages if m.run == "r1" and m.role == "assistant"]
    return answers[-1].id


async def first_of(run: str, session: Session) -> str | None:
    return next((m.id for m in (await session.messages()).messages if m.run == run), None)


async def raw(session: Session) -> bytes:
    """All that the log has of a session, deltas too."""
    found = []
    async with aclosing(session.read(deltas="all")) as batches:
        async for records in batches:
            found += [record.head + record.payload for record in records]
    return b"".join(found)


async def test_a_redacted_message_keeps_its_place_and_says_nothing(session: Session) -> None:
    await talk(session)
    before = (await session.messages()).messages
    proof = await session.redact("m1", reason="A card number.")
    assert (proof.complete, proof.events, proof.again) == (True, 1, False)
    after = (await session.messages()).messages
    assert [m.id for m in after] == [m.id for m in before]
    first = after[0]
    assert (first.redacted, first.role, first.actor, first.content) == (True, "user", "agent:writer", "")
    assert (first.first, first.parent, first.status) == (before[0].first, None, "completed")
    assert [m.plain() for m in after[1:]] == [m.plain() for m in before[1:]]


async def test_of_a_redacted_answer_nothing_is_left_in_the_log(session: Session) -> None:
    answer = await talk(session)
    assert SECRET.encode() in await raw(session)
    runs = {m.id for m in (await session.messages()).messages if m.run == "r1"}
    for message in [*sorted(runs), "m1"]:
        assert (await session.redact(message, reason="A card number.")).complete
    assert SECRET.encode() not in await raw(session)
    shown = {m.id: m for m in (await session.messages()).messages}
    assert shown[answer].redacted
    assert (shown[answer].content, shown[answer].reasoning, shown[answer].tool_calls) == ("", "", ())
    assert not shown["m2"].redacted


async def test_of_a_redacted_answer_nothing_is_left_in_any_stream_of_the_broker(own_server: NatsNode) -> None:
    async with Fabric.connect(own_server.url, participant="agent:writer", streams=1) as fabric:
        session, secret = fabric.session("chat"), SECRET.encode()
        await talk(session)
        before = [name for name, data in (await held(fabric)).items() if secret in data]
        assert len(before) >= 2, "the log, and what is stored apart"
        runs = {m.id for m in (await session.messages()).messages if m.run == "r1"}
        for message in [*sorted(runs), "m1"]:
            assert (await session.redact(message, reason="A card number.")).complete
        assert [name for name, data in (await held(fabric)).items() if secret in data] == []


async def test_who_has_followed_and_who_reads_it_anew_see_the_same(session: Session) -> None:
    answer = await talk(session)
    live = Fold()
    for event in await stored(session, deltas="all"):
        live.add(event)
    head = await session.head()
    await session.redact(answer, reason="x")
    for event in await stored(session, head):
        live.add(event)
    anew = await session._parts.history.folded()
    assert [m.plain() for m in live.messages()] == [m.plain() for m in anew.messages()]
    assert live.message(answer) == anew.message(answer)


async def test_the_event_says_who_when_and_why_and_nothing_of_the_content(fabrics: Fabrics, session: Session) -> None:
    answer = await talk(session)
    officer = (await fabrics.open("operator:ann")).session(session.name)
    proof = await officer.redact(answer, reason="Asked for by its owner.")
    event = (await stored(session))[-1]
    assert (event.type, event.actor, str(event.offset)) == (MESSAGE_REDACTED, "operator:ann", proof.offset)
    body = event.body
    assert (body["message"], body["reason"], body["left"]["actor"]) == (
        answer,
        "Asked for by its owner.",
        "agent:writer",
    )
    assert body["events"] == proof.events > 3
    assert SECRET not in event.raw.decode()


async def begun(session: Session, message: str) -> Redacting:
    """Come as far as a redaction does whose process dies when it has been said; return what its record says."""
    parts = session._parts
    await redaction._say(parts, await session.record(), await session.redactable(message), "x")
    (pending,) = (await parts.directory.load(session.place, fresh=True)).redacting
    return pending


async def test_again_nothing_is_changed_and_what_was_cut_off_is_finished(fabrics: Fabrics, session: Session) -> None:
    await talk(session)
    await begun(session, "m1")
    assert types(await stored(session)).count(MESSAGE_REDACTED) == 1
    assert SECRET.encode() in await raw(session)
    assert (await session.messages()).messages[0].redacted
    other = (await fabrics.open("operator:ann")).session(session.name)
    proof = await other.redact("m1", reason="Another reason.")
    assert (proof.again, proof.events, proof.remains, proof.reason) == (True, 1, 0, "x")
    assert (await session._parts.directory.load(session.place, fresh=True)).redacting == ()
    again = await session.redact("m1", reason="x")
    assert (again.again, again.events, again.offset) == (True, 0, proof.offset)
    assert types(await stored(session)).count(MESSAGE_REDACTED) == 1


async def test_what_is_left_of_tool_calls_is_found_though_what_named_them_has_gone(session: Session) -> None:
    answer = await talk(session)
    await begun(session, answer)
    found, record = await session.redactable(answer), await session.record()
    ((segment, sequences),) = found.milestones.items()
    for gone in range(1, len(sequences)):
        await removing.erase(session._parts.broker, record, {segment: sequences[gone - 1 : gone]})
        assert (await session.redactable(answer)).events == found.events - gone
    assert (await session.redact(answer, reason="x")).complete
    assert f"charged {SECRET}".encode() not in await raw(session)


async def test_two_who_redact_at_the_same_time_say_it_once(fabrics: Fabrics, session: Session) -> None:
    await talk(session)
    others = [(await fabrics.open(f"operator:{name}")).session(session.name) for name in ("ann", "bob")]
    proofs = await asyncio.gather(*(one.redact("m1", reason=str(n)) for n, one in enumerate(others)))
    assert all(proof.complete for proof in proofs)
    assert len({proof.offset for proof in proofs}) == 1
    assert types(await stored(session)).count(MESSAGE_REDACTED) == 1


async def test_a_message_that_is_being_written_or_answered_is_not_redacted(session: Session) -> None:
    await session.append(said("Hello"))
    with suppress(KeyError):
        async with session.run("r1") as run:
            await run.text("So far")
            open_one = await eventually(lambda: first_of("r1", session))
            with pytest.raises(MessageOpen, match="r1"):
                await session.redact(open_one, reason="x")
            raise KeyError
    assert (await session.redact(open_one, reason="x")).complete
    assert "message.redacted" in types(await stored(session))


async def test_nothing_is_redacted_under_a_hold_on_it_or_on_a_fork_of_it(session: Session) -> None:
    await talk(session)
    fork = await session.fork(await session.head(), "fork-1")
    for one in (session, fork):
        await one.hold("A case.")
        with pytest.raises(SessionHeld):
            await session.redact("m1", reason="x")
        await one.release()
    assert MESSAGE_REDACTED not in types(await stored(session))
    assert (await session.redact("m1", reason="x")).complete


async def test_forks_show_what_they_share_as_redacted(session: Session) -> None:
    await talk(session)
    fork = await session.fork(await session.head(), "fork-1")
    beyond = await fork.fork(await fork.head(), "fork-2")
    early = await session.fork((await stored(session))[0].offset, "fork-0")
    await fork.append(said("On its own.", "m3"))
    with pytest.raises(InvalidRequest, match="fork"):
        await fork.redact("m1", reason="x")
    proof = await session.redact("m1", reason="x")
    assert set(proof.forks) == {"fork-1", "fork-2"}
    for one in (fork, beyond):
        messages = (await one.messages()).messages
        assert (messages[0].redacted, messages[0].id) == (True, "m1")
        assert f"Mine is {SECRET}".encode() not in await raw(one)
    assert MESSAGE_REDACTED not in types(await stored(early))
    assert (await fork.redact("m3", reason="x")).complete


async def test_a_closed_session_can_be_redacted(session: Session) -> None:
    await talk(session)
    await session.close()
    assert (await session.redact("m1", reason="x")).complete
    assert (await session.messages()).messages[0].redacted


async def test_one_event_is_redacted_by_its_offset_or_its_id(session: Session) -> None:
    kept = await session.append(note("kept"))
    first = await session.append(note("one"), id="n1")
    second = await session.append(note("two"), id="n2")
    proof = await session.redact(event=first.offset, reason="x")
    assert (proof.target, proof.complete) == (str(first.offset), True)
    assert (await session.redact(event="n2", reason="x")).target == str(second.offset)
    assert (await session.redact(event="n2", reason="x")).again
    assert values(await stored(session)) == ["kept"]
    told = [event.body for event in await stored(session) if event.type == "event.redacted"]
    assert [(body["event"], body["of"]) for body in told] == [("n1", "app.note"), ("n2", "app.note")]
    assert kept.offset < first.offset


async def test_what_others_rely_on_cannot_go_by_itself(session: Session) -> None:
    await talk(session)
    events = await stored(session)
    for type in ("message.user", "RUN_STARTED", "RUN_FINISHED", "session.created", "message.completed"):
        one = next(event for event in events if event.type == type)
        with pytest.raises(InvalidRequest):
            await session.redact(event=one.offset, reason="x")
    with pytest.raises(MessageNotFound, match="no message"):
        await session.redact("nobody", reason="x")
    with pytest.raises(EventNotFound, match="no event"):
        await session.redact(event="nothing", reason="x")
    with pytest.raises(InvalidRequest, match="reason"):
        await session.redact("m1", reason=" ")
    assert len(await stored(session)) == len(events)


async def test_a_user_redacts_nothing_and_nobody_says_it_without_doing_it(fabrics: Fabrics, session: Session) -> None:
    await talk(session)
    user = (await fabrics.open("user:ada")).session(session.name)
    with pytest.raises(Forbidden):
        await user.redact("m1", reason="x")
    for type in ("message.redacted", "event.redacted"):
        with pytest.raises(Forbidden):
            await user.append({"type": type, "message": "m1"})
        with pytest.raises(Forbidden):
            await session.append({"type": type, "message": "m1"})
        service = (await fabrics.open("service:shop")).session(session.name)
        with pytest.raises(Forbidden):
            await service.append({"type": type, "message": "m1"})


async def test_an_id_that_was_redacted_says_nothing_more(session: Session) -> None:
    await talk(session)
    await session.redact("m1", reason="x")
    await session.append(said("Once more", "m1"))
    first = (await session.messages()).messages[0]
    assert (first.id, first.content, first.redacted) == ("m1", "", True)


async def test_what_was_asked_of_participants_for_a_tool_goes_with_it(fabrics: Fabrics, session: Session) -> None:
    await session.append(said("Which?"))
    ada = (await fabrics.open("user:ada")).session(session.name)

    async def ask() -> None:
        async with session.run("r1") as run:
            await run.text("Let me look. ")
            await run.client_tool("read_card", {"hint": SECRET}, to="user:ada")

    async with asyncio.TaskGroup() as group:
        group.create_task(ask())
        (request,) = await eventually(ada.requests)
        await ada.answer(request.request, {"card": SECRET})
    call = str(request.body["call"])
    message = next(m.id for m in (await session.messages()).messages if any(one.id == call for one in m.tool_calls))
    assert {"tool.requested", "tool.answered"} <= (await session.redactable(message)).types.keys()
    assert (await session.redact(message, reason="x")).complete
    assert SECRET.encode() not in await raw(session)
    requests = RequestFold()
    for event in await stored(session):
        requests.add(event)
    assert requests.all() == []


async def test_an_export_afterwards_verifies_and_says_what_was_redacted(session: Session) -> None:
    answer = await talk(session)
    await session.redact("m1", reason="x")
    await session.redact(answer, reason="Asked for.")
    lines = [line async for line in session.export()]
    verified = verify(lines)
    assert SECRET.encode() not in b"".join(lines).replace(b"They gave " + SECRET.encode(), b"")
    told = [orjson.loads(line)["data"] for line in lines]
    assert [one["body"]["message"] for one in told if one.get("event") == MESSAGE_REDACTED] == ["m1", answer]
    assert [(one.target, one.by, one.reason) for one in verified.redacted] == [
        ("m1", "agent:writer", "x"),
        (answer, "agent:writer", "Asked for."),
    ]


@pytest.mark.needs_rights
async def test_a_session_made_of_such_an_export_shows_it_as_redacted(fabric: Fabric, session: Session) -> None:
    await talk(session)
    await session.redact("m1", reason="x")
    lines = [line async for line in session.export()]
    await fabric.import_session("chat-2", lambda: lines)
    again = (await fabric.session("chat-2").messages()).messages
    assert [m.plain() for m in again] == [m.plain() for m in (await session.messages()).messages]
    assert [line async for line in fabric.session("chat-2").export()]


@pytest.mark.needs_rights
async def test_the_audit_has_it_without_the_content(fabric: Fabric, session: Session) -> None:
    await talk(session)
    await session.redact("m1", reason="A card number.")
    counts = {"events": 1, "large_bodies": 0, "checkpoints": 0}
    found = [one for one in await audit.acts(fabric.broker, fabric.tenant) if one.act == "session.redacted"]
    assert [(one.session, one.by, dict(one.facts)) for one in found] == [
        ("chat-1", "agent:writer", {"message": "m1", "reason": "A card number.", **counts})
    ]


async def test_an_input_that_waits_for_an_agent_and_is_redacted_is_not_answered(
    fabrics: Fabrics, session: Session
) -> None:
    asked: list[str] = []
    fabric = await fabrics.open("agent:writer")
    free = asyncio.Event()

    @fabric.agent(concurrency=1)
    async def answer(run: Run) -> None:
        asked.append(run.input.text)
        await free.wait()

    async with served(answer):
        await session.append(said("First", "m1"))
        await eventually(lambda: asked)
        await session.append(said(SECRET, "m2"))
        await session.append(said("Third", "m3"))
        with pytest.raises(MessageOpen):
            await session.redact("m1", reason="x")
        assert (await session.redact("m2", reason="x")).complete
        free.set()
        await eventually(lambda: len(asked) == 2)
    assert asked == ["First", "Third"]


@pytest.mark.needs_rights
async def test_the_trimmer_finishes_what_was_said_and_not_done(session: Session) -> None:
    answer = await talk(session)
    pending = await begun(session, answer)
    parts = session._parts
    record = await parts.directory.load(session.place, fresh=True)
    assert await finish(parts.broker, parts.directory, record, pending.since) == pending.since + PENDING_MS
    assert (await session.redactable(answer)).events > 3
    assert await finish(parts.broker, parts.directory, record, pending.since + PENDING_MS) is None
    assert (await session.redactable(answer)).events == 0
    assert (await parts.directory.load(session.place, fresh=True)).redacting == ()


@pytest.mark.needs_rights
async def test_what_was_never_said_is_forgotten_and_not_removed(session: Session) -> None:
    await talk(session)
    parts, found = session._parts, await session.redactable("m1")
    pending = Redacting(
        target="m1", event="redacted-x", since=0, milestones=tuple((id, tuple(s)) for id, s in found.milestones.items())
    )
    record = await parts.directory.change(session.place, lambda r: r.model_copy(update={"redacting": (pending,)}))
    await finish(parts.broker, parts.directory, record, PENDING_MS)
    assert (await parts.directory.load(session.place, fresh=True)).redacting == ()
    assert not (await session.messages()).messages[0].redacted
    assert (await session.redactable("m1")).events == 1

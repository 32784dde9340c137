"""Bodies that the broker never sees: sealed on the way there, opened on the way back, lost with their key."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import aclosing
from pathlib import Path

import pytest
from session_fabric import AgentRun, Fabric, Keys, Session
from session_fabric.keyring import OTHERS, TenantKey
from session_fabric.streams.making import Wish
from session_fabric.streams.records import place_of
from session_fabric.words.errors import FabricError, InvalidRequest, KeyMissing
from session_fabric.words.wire import SEALED, Record
from session_fabric.writer import Parsed

from tests.support.servers import NatsNode
from tests.support.sessions import said, types
from tests.support.stores import held
from tests.support.waiting import eventually

SECRET = "the treasure is under the oak"
K1, K2 = TenantKey("k1", b"1" * 32), TenantKey("k2", b"2" * 32)


async def opened(real: Fabric, keys: Keys | None, participant: str = "agent:writer") -> Fabric:
    """Connect beside `real`, with other keys."""
    return await Fabric.over(real.broker, tenant=real.identity.tenant, participant=participant, keys=keys)


async def raw(real: Fabric, session: Session) -> list[Record]:
    """Return what the broker has of a session."""
    record = await session.record()
    log, to = real.broker.log, record.stretch
    async with aclosing(log.read(to, after=0, upto=await log.head(to))) as batches:
        return [r async for records in batches for r in records]


async def test_what_is_said_is_nowhere_at_the_broker(real: Fabric) -> None:
    fabric = await opened(real, Keys({OTHERS: [K1]}))
    session = fabric.session("chat")
    await session.append(said(SECRET))
    async with session.run("r1") as run:
        await run.text(SECRET)
        tool = await run.tool("dig", {"where": SECRET})
        await tool.result(SECRET)
    await session.append({"type": "app.large", "text": SECRET * 20_000})
    await session.state("map").put({"where": SECRET})
    await session.state("map").patch({"x": SECRET})
    records = await raw(real, session)
    assert len(records) > 8
    assert all(record.sealed for record in records)
    stored = b"".join(record.head + record.payload for record in records)
    documents = real.broker.bucket("sf-state")
    stored += b"".join(e.value or b"" for e in await documents.history(f"{session.place.key()}.map"))
    assert SECRET.encode() not in stored
    assert b"dig" not in stored
    # Who has the key reads all of it.
    messages = (await session.messages()).messages
    assert [m.content for m in messages if m.content] == [SECRET, SECRET]
    assert (await session.history()).events[-1].body["text"] == SECRET * 20_000
    assert (await session.state("map").get()).body == {"where": SECRET, "x": SECRET}


async def test_nothing_of_what_is_said_is_in_any_stream_of_the_broker(own_server: NatsNode) -> None:
    async with Fabric.connect(own_server.url, participant="agent:writer", streams=1) as below:
        fabric = await opened(below, Keys({OTHERS: [K1]}))
        session, secret = fabric.session("chat"), SECRET.encode()
        eve = fabric.view(participant="operator:eve").session("chat")
        await session.append(said(SECRET))
        await eve.whisper(SECRET)
        await session.append({"type": "app.large", "text": SECRET * 20_000})
        await session.state("map").put({"where": SECRET})
        await session.checkpoints.put({("plan", "1"): secret, ("plan", "2"): secret * 20_000})
        async with session.run("r1") as run, asyncio.TaskGroup() as group:
            await run.reasoning(SECRET)
            await run.text(SECRET)
            await (await run.tool("dig", {"where": SECRET})).result(SECRET)
            assert run.steers() is not None
            await session.control("steer", run="r1", body={"text": SECRET})
            for asked in (run.client_tool("dig", {"where": SECRET}), run.ask(SECRET), run.approve(SECRET)):
                task = group.create_task(asked)
                (request,) = await eventually(eve.requests)
                if request.kind == "approval":
                    await eve.answer(request.request, {"approved": True, "comment": SECRET})
                else:
                    await eve.answer(request.request, SECRET)
                await task

        @fabric.agent(pool="fails", retries=1)
        async def fails(run: AgentRun) -> None:
            raise RuntimeError(SECRET)

        await session.append({**said(SECRET, "m2"), "pool": "fails"}, id="e2")
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(fails.serve())
            await eventually(fabric.dead_letters)
            serving.cancel()
        kept = await held(below)
        assert sum(map(len, kept.values())) > 2 * len(SECRET) * 20_000  # it was looked into
        assert [name for name, data in kept.items() if secret in data] == []
        # And that it would be found: what another tenant says without a key.
        plain = await Fabric.over(below.broker, tenant="plain", participant="agent:writer")
        await plain.session("plain").append(said(SECRET))
        assert [name for name, data in (await held(below)).items() if secret in data] != []


@pytest.mark.parametrize(
    "keys", [None, Keys({OTHERS: [K2]}), Keys({"else": [K1]}), Keys({OTHERS: [K2._replace(id="k1")]})]
)
async def test_who_has_not_got_the_key_is_told_so_and_neither_reads_nor_writes(real: Fabric, keys: Keys | None) -> None:
    mine = (await opened(real, Keys({OTHERS: [K1]}))).session("chat")
    await mine.append(said(SECRET))
    await mine.state("map").put({"where": SECRET})
    fabric = await opened(real, keys)
    other = fabric.session("chat")
    for refused in (
        other.append(said("hello")),
        other.history(),
        other.messages(),
        other.state("map").put({}),
        other.state("map").get(),
        other.state("map").history(),
        other.documents(),
        other.run("r1").__aenter__(),
        other.control("cancel", run="r1"),
    ):
        with pytest.raises(KeyMissing, match="k1"):
            await refused
    assert len(await raw(real, mine)) == 2
    # It is seen to be there, and can be deleted.
    assert [record.session for record in (await fabric.sessions()).records] == ["chat"]
    await other.delete()
    assert (await fabric.sessions()).records == []


async def test_a_tenant_without_a_key_and_sessions_from_before_are_not_sealed(real: Fabric) -> None:
    before = real.session("before")
    await before.append(said("plain"))
    fabric = await opened(real, Keys({OTHERS: [K1]}))
    await fabric.session("before").append(said("as well", "m2"))
    assert not any(record.sealed for record in await raw(real, before))
    none = await opened(real, Keys({"else": [K1]}))
    await none.session("after").append(said("plain"))
    assert not any(record.sealed for record in await raw(real, none.session("after")))


@pytest.mark.parametrize("keys", [None, Keys({"else": [K1]})])
@pytest.mark.parametrize("at_work", [False, True])
async def test_who_has_no_key_makes_nothing_that_lies_open_beside_what_is_sealed(
    real: Fabric, keys: Keys | None, at_work: bool
) -> None:
    sealing = await opened(real, Keys({OTHERS: [K1]}))
    old = real.session("old")
    await old.append(said("plain"))
    slip = await opened(real, keys)
    heard: list[str] = []
    if at_work:  # it has looked already, and hears of the first one that is sealed
        await slip.session("before").append(said("plain"))
        chat = sealing.session("chat").place
        slip._shared.directory.watch(chat, lambda record: heard.append(record.session) if record else None)
    await sealing.session("chat").append(said(SECRET))
    if at_work:
        await eventually(lambda: heard == ["chat"])
    streams = await slip.durable_streams()
    for refused in (
        slip.session("new").append(said("hello")),
        slip.session("new").run("r1").__aenter__(),
        streams.make(place_of(real.identity.tenant, "log"), Wish(content_type="text/plain"), "agent:writer"),
    ):
        with pytest.raises(KeyMissing, match="under key 'k1'") as told:
            await refused
        assert "SESSION_FABRIC_ENCRYPTION_KEYS" in told.value.hint
    # What there is goes on as it is, and other tenants are not meant.
    await slip.session("old").append(said("more", "m2"))
    await slip.view(tenant=f"{real.identity.tenant}2").session("theirs").append(said("plain"))


async def test_what_lies_open_beside_what_is_sealed_was_wished_and_is_counted(real: Fabric) -> None:
    tenant = real.identity.tenant
    sealing = await opened(real, Keys({tenant: [K1]}), "operator:ann")
    await sealing.session("chat").append(said(SECRET))
    wished = await opened(real, Keys({tenant: []}))
    await wished.session("new").append(said("plain"))
    assert not any(record.sealed for record in await raw(real, wished.session("new")))
    counted = {(one.key, one.standing): one.sessions for one in await sealing.wrapped_under() if one.tenant == tenant}
    assert counted == {("k1", "current"): 1, ("", "open"): 1}
    assert await sealing.rewrap() == 0


async def test_a_new_key_is_for_new_sessions_and_the_old_one_opens_the_old(real: Fabric) -> None:
    old = (await opened(real, Keys({OTHERS: [K1]}))).session("old")
    await old.append(said("one"))
    turned = await opened(real, Keys({OTHERS: [K2, K1]}))
    await turned.session("old").append(said("two", "m2"))
    await turned.session("new").append(said("three"))
    assert [m.content for m in (await old.messages()).messages] == ["one", "two"]
    assert [r.sealed and r.sealed.key for r in ((await turned.sessions()).records)] == ["k2", "k1"]
    with pytest.raises(KeyMissing, match="k2"):
        await (await opened(real, Keys({OTHERS: [K1]}))).session("new").messages()


async def test_a_body_that_was_moved_or_changed_does_not_open(real: Fabric) -> None:
    fabric = await opened(real, Keys({OTHERS: [K1]}))
    one, two = fabric.session("one"), fabric.session("two")
    await one.append(said(SECRET))
    await two.append(said("else"))
    record = await two.record()
    stolen = (await raw(real, one))[-1]
    draft = real.session("two")._parts.writer.draft  # past the sealing, as who has the broker might
    for payload in (stolen.payload, stolen.payload[:-1] + bytes([stolen.payload[-1] ^ 1])):
        made = draft(Parsed("message.user", {}, payload), "in", "default", f"moved-{payload[-1]}")
        await real.broker.log.publish(record.stretch, made._replace(headers={SEALED: "1"}))
    events = (await two.history()).events
    assert types(events)[-2:] == ["fabric.malformed"] * 2
    assert [m.content for m in (await two.messages()).messages] == ["else"]


async def test_live_readers_forks_and_workers_open_what_is_sealed(real: Fabric) -> None:
    fabric = await opened(real, Keys({OTHERS: [K1]}))
    session = fabric.session("chat")
    await session.create()
    heard: list[str] = []

    @fabric.agent()
    async def answer(run: AgentRun) -> None:
        heard.append(run.input.text)
        await run.text(f"You said {run.input.text}")

    serving = asyncio.create_task(fabric.serve())
    try:
        live: list[str] = []
        async with aclosing(session.follow()) as events:
            asked = await session.append(said(SECRET * 10_000))
            async for event in events:
                live.append(event.type)
                assert event.type != "fabric.malformed"
                if event.type == "RUN_FINISHED":
                    break
        await eventually(lambda: heard == [SECRET * 10_000])
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    branch = await session.fork(asked.offset)
    await branch.append(said("on the branch", "m2"))
    assert [m.content[:10] for m in (await branch.messages()).messages] == [SECRET[:10], "on the bra"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("nothing", "cannot be read"),
        ("{", "not JSON"),
        ("[]", "no tenants"),
        ({"acme": []}, "no list"),
        ({"acme": [{"id": "k1"}]}, "without `id` or `key`"),
        ({"acme": [{"id": "k1", "key": "c2hvcnQ="}]}, "not 32 bytes"),
        ({"acme": [{"id": "k1", "key": "!"}]}, "not 32 bytes"),
        ({"acme": [{"id": "k1", "key": base64.b64encode(b"1" * 32).decode()}] * 2}, "two keys"),
    ],
)
def test_a_file_of_keys_that_is_none_says_why_and_shows_no_key(tmp_path: Path, given: object, why: str) -> None:
    path = tmp_path / "keys.json"
    if given != "nothing":
        path.write_text(given if isinstance(given, str) else json.dumps(given))
    with pytest.raises(InvalidRequest, match=why) as error:
        Keys.read(path)
    assert "c2hvcnQ" not in str(error.value)


def test_a_file_of_keys_is_read(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    one = {"id": "k1", "key": base64.b64encode(b"1" * 32).decode()}
    path.write_text(json.dumps({"acme": [one], "public": "open", "*": [{**one, "id": "k9"}]}))
    keys = Keys.read(path)
    assert keys.current("public") is None
    assert [keys.leaves_open(tenant) for tenant in ("acme", "public", "anybody")] == [False, True, False]
    assert keys.current("acme") == K1
    assert keys.current("anybody") == TenantKey("k9", b"1" * 32)
    assert keys.named("acme", "k1") == K1
    with pytest.raises(FabricError, match="k9"):
        keys.named("acme", "k9")

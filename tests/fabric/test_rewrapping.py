"""The key of the keys is changed while everything goes on, and the old one can be thrown away."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from session_fabric import Fabric, Keys
from session_fabric.keyring import OTHERS, TenantKey
from session_fabric.records import BUCKET
from session_fabric.streams.making import Wish
from session_fabric.streams.records import place_of
from session_fabric.words.errors import Forbidden, InvalidRequest, KeyMissing
from session_fabric_cli.main import run

from tests.gateway.conftest import running
from tests.gateway.sockets import greeted
from tests.support.servers import NatsNode
from tests.support.sessions import said
from tests.support.waiting import eventually

OLD, NEW, LOST = TenantKey("k1", b"1" * 32), TenantKey("k2", b"2" * 32), TenantKey("k0", b"0" * 32)


def file_of(path: Path, *keys: TenantKey) -> Path:
    plain = [{"id": key.id, "key": base64.b64encode(key.secret).decode()} for key in keys]
    path.write_text(json.dumps({OTHERS: plain}))
    return path


@asynccontextmanager
async def holding(server: NatsNode, tenant: str, *keys: TenantKey) -> AsyncIterator[Fabric]:
    """Connect as an operator with these keys, the current one first."""
    ring = Keys({OTHERS: keys}) if keys else None
    async with Fabric.connect(server.url, tenant=tenant, participant="operator:ann", streams=4, keys=ring) as fabric:
        yield fabric


async def text_of(fabric: Fabric, name: str) -> list[object]:
    return [message.content for message in (await fabric.session(name).messages()).messages]


async def names(fabric: Fabric) -> list[str]:
    return [record.session for record in (await fabric.sessions()).records]


async def test_everything_is_wrapped_anew_and_the_old_key_is_needed_no_more(own_server: NatsNode, tenant: str) -> None:
    async with holding(own_server, tenant, OLD) as before:
        for name in ("one", "two", "gone"):
            await before.session(name).append(said(f"I am {name}"))
        await before.view(tenant="other").session("theirs").append(said("I am theirs"))
        await before.session("one").state("plan").put({"step": 1})
        branch = await before.session("gone").fork(await before.session("gone").head(), "branch")
        await branch.append(said("and more", "m2"))
        await before.session("gone").delete()
        streams = await before.durable_streams()
        await streams.make(place_of(tenant, "log"), Wish(content_type="text/plain", body=b"entry"), "operator:ann")
        order = await names(before)
    async with holding(own_server, tenant, NEW, OLD) as turning:
        await turning.session("new").append(said("I am new"))
        assert {(u.tenant, u.key, u.standing): u.sessions for u in await turning.wrapped_under()} == {
            (tenant, "k1", "older"): 5,
            (tenant, "k2", "current"): 1,
            ("other", "k1", "older"): 1,
        }
        heard: list[int] = []
        assert await turning.rewrap(heard.append) == sum(heard) == 6
        assert await turning.rewrap() == 0
        assert {(u.tenant, u.key, u.standing) for u in await turning.wrapped_under()} == {
            (tenant, "k2", "current"),
            ("other", "k2", "current"),
        }
    async with holding(own_server, tenant, NEW) as after:
        assert await text_of(after, "one") == ["I am one"]
        assert await text_of(after, "branch") == ["I am gone", "and more"]
        assert await text_of(after.view(tenant="other"), "theirs") == ["I am theirs"]
        state = await after.session("one").state("plan").get()
        assert state is not None
        assert state.body == {"step": 1}
        page = await (await after.durable_streams()).look(place_of(tenant, "log"))
        chunk = await (await after.durable_streams()).read(page, page.record.beginning)
        assert [entry.payload for entry in chunk.entries] == [b"entry"]
        assert await names(after) == [*order, "new"]  # which was not touched: the others have changed since
    async with holding(own_server, tenant, OLD) as stale:
        with pytest.raises(KeyMissing):
            await text_of(stale, "one")


async def test_whoever_holds_both_keys_goes_on_while_everything_is_wrapped_anew(
    own_server: NatsNode, tenant: str
) -> None:
    """One process that still makes sessions under the old key, one that has turned, and a gateway with a reader."""
    file = str(file_of(own_server.directory / "keys.json", NEW, OLD))
    async with (
        holding(own_server, tenant, OLD, NEW) as behind,
        holding(own_server, tenant, NEW, OLD) as turned,
        running(own_server.url, tenant, encryption_keys=file) as house,
        greeted(house.url, house.token()) as ada,
    ):
        for number in range(40):
            await behind.session(f"s{number}").append(said("first"))
        await ada.open("s0", after="start")
        working = True
        written: dict[str, int] = {f"s{number}": 1 for number in range(40)}

        async def work(fabric: Fabric, name: str) -> None:
            number = 0
            while working or number < 5:
                number += 1
                for session in (f"s{number % 40}", f"{name}-{number}"):
                    await fabric.session(session).append(said(f"{name} {number}", f"{name}-{number}"))
                    written[session] = written.get(session, 0) + 1

        async with asyncio.TaskGroup() as group:
            group.create_task(work(behind, "behind"))
            group.create_task(work(turned, "turned"))
            done = await turned.rewrap()
            assert done >= 40
            working = False
        left = [u for u in await turned.wrapped_under() if u.standing != "current"]
        assert sum(u.sessions for u in left) == await turned.rewrap()
        assert {u.key for u in await turned.wrapped_under()} == {"k2"}
        events = await ada.until_events(
            lambda events: sum(event["type"] == "message.user" for event in events) == written["s0"]
        )
        assert "fabric.malformed" not in {event["type"] for event in events}
    async with holding(own_server, tenant, NEW) as after:
        for session, count in written.items():
            assert len(await text_of(after, session)) == count


async def test_a_rewrapping_that_was_killed_goes_on_where_it_was(
    own_server: NatsNode, tenant: str, tmp_path: Path
) -> None:
    async with holding(own_server, tenant, OLD) as before:
        for number in range(300):
            await before.session(f"s{number}").create()
        file = file_of(tmp_path / "keys.json", NEW, OLD)
        changed = asyncio.Event()
        heard = 0

        def hear(_: object) -> None:
            nonlocal heard
            heard += 1
            if heard >= 20:
                changed.set()

        listening = await before.broker.bucket(BUCKET).watch("", hear)
        command = [sys.executable, "-m", "session_fabric_cli", "keys", "rewrap"]
        told = ["--nats", own_server.url]
        environment = {**os.environ, "SESSION_FABRIC_ENCRYPTION_KEYS": str(file)}
        process = await asyncio.create_subprocess_exec(*command, *told, env=environment)
        await asyncio.wait_for(changed.wait(), 60)
        process.kill()
        await process.wait()
        await listening.close()
    async with holding(own_server, tenant, NEW, OLD) as turning:
        standing = {u.standing: u.sessions for u in await turning.wrapped_under()}
        assert standing.keys() == {"current", "older"}
        assert sum(standing.values()) == 300
        assert await turning.rewrap() == standing["older"]
        assert {(u.key, u.sessions) for u in await turning.wrapped_under()} == {("k2", 300)}


async def test_two_who_wrap_anew_at_once_wrap_each_once(own_server: NatsNode, tenant: str) -> None:
    async with holding(own_server, tenant, OLD) as before:
        for number in range(100):
            await before.session(f"s{number}").create()
    async with holding(own_server, tenant, NEW, OLD) as one, holding(own_server, tenant, NEW, OLD) as two:
        assert sum(await asyncio.gather(one.rewrap(), two.rewrap())) == 100
        await eventually(lambda: one.broker.connected)
        assert {u.key for u in await two.wrapped_under()} == {"k2"}


async def test_what_is_under_a_key_that_is_lost_is_left_and_told(own_server: NatsNode, tenant: str) -> None:
    async with holding(own_server, tenant, LOST) as before:
        await before.session("lost").append(said("nobody reads this"))
    async with holding(own_server, tenant, OLD) as before:
        await before.session("one").append(said("I am one"))
    impostor = LOST._replace(secret=b"x" * 32)
    for missing in ([], [impostor]):
        async with holding(own_server, tenant, NEW, OLD, *missing) as turning:
            await turning.rewrap()
            assert {(u.key, u.standing) for u in await turning.wrapped_under()} == {
                ("k0", "missing"),
                ("k2", "current"),
            }


async def test_operators_alone_wrap_anew_and_with_keys_alone(own_server: NatsNode, tenant: str) -> None:
    async with holding(own_server, tenant, NEW) as fabric:
        for call in (fabric.view(participant="agent:a").rewrap, fabric.view(participant="user:a").wrapped_under):
            with pytest.raises(Forbidden):
                await call()
    async with holding(own_server, tenant) as without:
        with pytest.raises(InvalidRequest, match="no keys"):
            await without.rewrap()


def test_the_command_says_what_is_left(
    own_server: NatsNode,
    tenant: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def live(keys: Sequence[TenantKey], name: str) -> None:
        async with holding(own_server, tenant, *keys) as fabric:
            await fabric.session(name).append(said("I am here"))

    asyncio.run(live([OLD], "one"))
    monkeypatch.setenv("SESSION_FABRIC_NATS", own_server.url)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert run(["keys", "show"]) == 2
    assert "No file of tenants' keys was named" in capsys.readouterr().err
    monkeypatch.setenv("SESSION_FABRIC_ENCRYPTION_KEYS", str(file_of(tmp_path / "keys.json", NEW, OLD)))

    def told(*arguments: str, status: int = 0) -> object:
        assert run([*arguments, "-o", "json"]) == status
        return json.loads(capsys.readouterr().out)

    assert told("keys", "show") == [{"tenant": tenant, "key": "k1", "standing": "older", "sessions": 1}]
    assert told("keys", "rewrap") == {"wrapped": 1, "left": []}
    asyncio.run(live([LOST], "two"))
    left = [{"tenant": tenant, "key": "k0", "standing": "missing", "sessions": 1}]
    assert told("keys", "rewrap", status=1) == {"wrapped": 0, "left": left}
    assert run(["keys", "rewrap"]) == 1
    assert f"Left: 1 of tenant {tenant} under k0, which is missing." in capsys.readouterr().out

"""`fabricctl broker config` and `fabricctl agent …`, with a nats-server that was told so and a gateway beside it."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from session_fabric import Fabric
from session_fabric.words.errors import BrokerRefused, FabricError, Forbidden
from session_fabric_cli.main import run

from tests.gateway.conftest import running
from tests.support.certificates import Authority
from tests.support.servers import nats_node
from tests.support.waiting import eventually

Capture = pytest.CaptureFixture[str]


@dataclass
class House:
    """What a broker's operator has after following the guide."""

    directory: Path
    url: str
    tenant: str
    capsys: Capture

    @property
    def key(self) -> str:
        return str(self.directory / "signing.json")

    async def call(self, *arguments: str, status: int = 0) -> tuple[str, str]:
        """Run a command as its own process would; return what it printed."""
        self.capsys.readouterr()
        ended = await asyncio.to_thread(run, list(arguments))
        out, err = self.capsys.readouterr()
        assert ended == status, err
        return out, err

    async def grant(self, name: str, participant: str = "agent:helper", *options: str) -> Path:
        file = self.directory / name
        await self.call("agent", "grant", participant, "--file", str(file), "--key", self.key, *options)
        return file


def asked(capsys: Capture, *arguments: str) -> str:
    assert run(list(arguments)) == 0
    return capsys.readouterr().out


@asynccontextmanager
async def built(
    directory: Path, tenant: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, *options: str, **settings: Any
) -> AsyncIterator[House]:
    """Make keys and a configuration with fabricctl, and start what they are for."""
    keys, signing = directory / "keys", directory / "signing.json"
    config, _ = await printed(capsys, "broker", "config", str(keys), *options)
    await printed(capsys, "token", "keygen", str(signing))
    async with nats_node(directory / "nats", config=config) as server:
        monkeypatch.setenv("SESSION_FABRIC_NATS", server.url)
        monkeypatch.setenv("SESSION_FABRIC_TENANT", tenant)
        monkeypatch.setenv("XDG_DATA_HOME", str(directory))
        settings |= {"nats_credentials": keys / "fabric.nk", "native_agents": str(keys / "callout.seeds")}
        public = str(signing.with_suffix(".public.json"))
        async with running(server.url, tenant, token_keys=public, **settings):
            monkeypatch.setenv("SESSION_FABRIC_NATS_CREDENTIALS", str(keys / "fabric.nk"))
            yield House(directory, server.url, tenant, capsys)


async def printed(capsys: Capture, *arguments: str) -> tuple[str, str]:
    assert await asyncio.to_thread(run, list(arguments)) == 0
    return capsys.readouterr()


@pytest.fixture
async def house(tmp_path: Path, tenant: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    async with built(tmp_path, tenant, capsys, monkeypatch) as one:
        yield one


async def say(fabric: Fabric, session: str, text: str) -> None:
    async with fabric.session(session).run() as run_of_it:
        await run_of_it.text(text)


async def said(fabric: Fabric, session: str) -> list[Any]:
    return [message.content for message in (await fabric.session(session).messages()).messages]


async def test_an_agent_works_with_what_it_was_granted_and_no_more(house: House) -> None:
    file = await house.grant("helper.json", "agent:helper", "--session", "mine=read,append,create")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    async with Fabric.connect(credentials=file) as fabric:
        await say(fabric, "mine", "Hello")
        assert await said(fabric, "mine") == ["Hello"]
        with pytest.raises(Forbidden):
            await say(fabric, "theirs", "Hello")
        with pytest.raises(Forbidden):
            await fabric.session("theirs").messages()


async def test_nobody_comes_to_that_broker_without_credentials(house: House) -> None:
    with pytest.raises(FabricError) as told:
        async with Fabric.connect(house.url, timeout_s=3, credentials=house.directory / "signing.json"):
            pass
    assert told.value.code in ("invalid_request", "broker_refused")


async def test_a_rotated_token_is_taken_by_an_agent_that_runs(house: House) -> None:
    file = await house.grant("helper.json")
    before = json.loads(file.read_text())
    async with Fabric.connect(credentials=file) as fabric:
        await say(fabric, "chat", "one")
        connection = fabric.broker.generation
        out, err = await house.call("agent", "rotate", str(file), "--key", house.key, "--revoke-old", "--ttl", "2h")
        after = json.loads(file.read_text())
        assert after["token"] != before["token"]
        claims = [jwt.decode(one["token"], options={"verify_signature": False}) for one in (before, after)]
        assert claims[1]["jti"] in out.splitlines()  # beside what the gateway, which is in this process, logs
        assert claims[0]["jti"] in err
        assert claims[1]["exp"] - claims[1]["iat"] == 7200
        assert {k: claims[0][k] for k in ("sub", "tenant")} == {k: claims[1][k] for k in ("sub", "tenant")}
        # Its connection is cut, and made again with what the file says now.
        await say(fabric, "chat", "two")
        await eventually(lambda: fabric.broker.generation > connection, 30)
        await say(fabric, "chat", "three")
        assert await said(fabric, "chat") == ["one", "two", "three"]


async def test_rotating_keeps_the_grants_and_the_old_token_unless_it_is_told_to(house: House) -> None:
    file = await house.grant("helper.json", "agent:helper", "--session", "a-*=read", "--session", "b=read,append")
    old = house.directory / "old.json"
    old.write_text(file.read_text())
    _, err = await house.call("agent", "rotate", str(file), "--key", house.key)
    assert "unless it is revoked" in err
    claims = jwt.decode(json.loads(file.read_text())["token"], options={"verify_signature": False})
    assert claims["sessions"] == {"a-*": ["read"], "b": ["read", "append"]}
    assert json.loads(file.read_text())["sessions"] == ["b"]
    for one in (old, file):
        async with Fabric.connect(credentials=one) as fabric:
            assert fabric.broker.connected


@pytest.mark.parametrize("by", ["file", "participant"])
async def test_a_revoked_agent_is_cut_and_not_let_in_again(house: House, by: str) -> None:
    file, other = await house.grant("helper.json"), await house.grant("other.json", "agent:other")
    async with Fabric.connect(credentials=file) as fabric, Fabric.connect(credentials=other) as left:
        await say(fabric, "chat", "one")
        out, _ = await house.call("agent", "revoke", str(file) if by == "file" else "agent:helper", "-o", "json")
        # What this process logs meanwhile, the agent being in it, goes to the same place.
        told = json.loads(out[out.index("{\n") : out.index("\n}") + 2])
        assert told["tenant"] == house.tenant
        await eventually(lambda: not fabric.broker.connected, 30)
        await say(left, "chat", "two")
    with pytest.raises(BrokerRefused):
        async with Fabric.connect(credentials=file, timeout_s=5):
            pass


async def test_inspect_says_what_they_are_and_not_the_token(house: House) -> None:
    file = await house.grant("helper.json", "service:billing", "--session", "inv-*=read", "--ttl", "1h")
    out, _ = await house.call("agent", "inspect", str(file), "-o", "json")
    facts = json.loads(out)
    assert facts["participant"] == "service:billing"
    assert facts["sessions"] == {"inv-*": ["read"]}
    assert facts["url"] == house.url
    assert 3500 < facts["expires"] - time.time() <= 3600
    token = json.loads(file.read_text())["token"]
    table, _ = await house.call("agent", "inspect", str(file))
    assert "service:billing" in table
    assert token not in out + table
    ended = json.loads(file.read_text()) | {"expires": int(time.time()) - 1}
    file.write_text(json.dumps(ended))
    await house.call("agent", "inspect", str(file), status=1)


async def test_tls_and_certificates_go_into_the_configuration_and_the_credentials(
    tmp_path: Path, tenant: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Authority(tmp_path / "ca", "ours")
    server, client = ours.issue("broker"), ours.issue("client", server=False)
    options = ["--tls-cert", str(server.cert), "--tls-key", str(server.key), "--tls-client-ca", str(ours.file)]
    shown = {"nats_ca": ours.file, "nats_cert": client.cert, "nats_key": client.key}
    async with built(tmp_path, tenant, capsys, monkeypatch, *options, **shown) as house:
        assert house.url.startswith(("nats://", "tls://"))
        tls = ["--ca", str(ours.file), "--cert", str(client.cert), "--cert-key", str(client.key)]
        file = await house.grant("helper.json", "agent:helper", *tls)
        async with Fabric.connect(credentials=file) as fabric:
            await say(fabric, "chat", "Hello")
        without = await house.grant("without.json", "agent:helper", "--ca", str(ours.file))
        with pytest.raises(FabricError):
            async with Fabric.connect(credentials=without, timeout_s=3):
                pass


def test_a_configuration_is_made_once_and_the_keys_are_their_owners(tmp_path: Path, capsys: Capture) -> None:
    first, again = (asked(capsys, "broker", "config", str(tmp_path / "keys")) for _ in range(2))
    assert first == again
    for name in ("fabric.nk", "callout.seeds"):
        path = tmp_path / "keys" / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for seed in path.read_text().split():
            assert seed.startswith("S")
            assert seed not in first


WRONG = {
    "a user": (["grant", "user:ada", "--file", "{f}", "--nats", "nats://b"], "comes through a gateway"),
    "nobody": (["grant", "helper", "--file", "{f}", "--nats", "nats://b"], "helper"),
    "no broker": (["grant", "agent:a", "--file", "{f}"], "--nats"),
    "a broker that is none": (["grant", "agent:a", "--file", "{f}", "--nats", "http://b"], "http://b"),
    "no key": (["grant", "agent:a", "--file", "{f}", "--nats", "nats://b"], "--key"),
    "no operations": (
        ["grant", "agent:a", "--file", "{f}", "--nats", "nats://b", "--key", "{k}", "--session", "a"],
        "says no operations",
    ),
    "an operation that is none": (
        ["grant", "agent:a", "--file", "{f}", "--nats", "nats://b", "--key", "{k}", "--session", "a=raed"],
        "raed",
    ),
    "too long": (
        ["grant", "agent:a", "--file", "{f}", "--nats", "nats://b", "--key", "{k}", "--ttl", "31d"],
        "30 days",
    ),
    "half a certificate": (["grant", "agent:a", "--file", "{f}", "--nats", "nats://b", "--cert", "{k}"], "--cert-key"),
    "a file that is there": (["grant", "agent:a", "--file", "{k}", "--nats", "nats://b", "--key", "{k}"], "{k}"),
    "no file": (["rotate", "{f}", "--key", "{k}"], "{f}"),
    "another file": (["rotate", "{k}", "--key", "{k}"], "not a file of credentials"),
    "neither": (["revoke", "helper"], "neither a file nor a participant"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_and_nothing_is_written(
    name: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in [one for one in os.environ if one.startswith("SESSION_FABRIC_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    key, file = tmp_path / "k.json", tmp_path / "f.json"
    asked(capsys, "token", "keygen", str(key))
    before = key.read_text()
    arguments, hint = WRONG[name]
    names = {"{f}": str(file), "{k}": str(key)}
    assert run(["agent", *(names.get(one, one) for one in arguments)]) == 2
    out, err = capsys.readouterr()
    assert names.get(hint, hint) in err
    assert "Traceback" not in err
    assert out == ""
    assert not file.exists()
    assert key.read_text() == before

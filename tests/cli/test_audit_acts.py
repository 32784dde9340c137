"""Acts that leave nothing in a session's log, as `fabricctl audit export` has them: who, what, when, and no secret."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from session_fabric import Fabric
from session_fabric.importing import verify
from session_fabric.keyring import OTHERS, Keys, TenantKey
from session_fabric_cli.archive_files import lines_of
from session_fabric_cli.main import run

from tests.fabric.test_agents import served
from tests.fabric.test_dead_letters import fail, failing
from tests.gateway.conftest import running
from tests.support.servers import NatsNode
from tests.support.sessions import said
from tests.support.waiting import eventually

CLI = "operator:fabricctl"
OLD, NEW = TenantKey("k1", b"1" * 32), TenantKey("k2", b"2" * 32)


class Audited:
    """A tenant at a broker, and its audit as it is exported there."""

    def __init__(self, nats: str, tenant: str, directory: Path) -> None:
        self.nats = nats
        self.tenant = tenant
        self.directory = directory
        self.file = b""
        self._begun = time.time() * 1000

    def command(self, *arguments: str, status: int = 0) -> None:
        assert run([*arguments, "--nats", self.nats, "--tenant", self.tenant]) == status

    def script(self, script: Callable[[Fabric], Coroutine[Any, Any, None]], keys: Sequence[TenantKey] = ()) -> None:
        async def scripted() -> None:
            ring = Keys({OTHERS: keys}) if keys else None
            async with Fabric.connect(self.nats, tenant=self.tenant, participant="agent:a", keys=ring) as fabric:
                await script(fabric)

        asyncio.run(scripted())

    def keys(self, monkeypatch: pytest.MonkeyPatch, *keys: TenantKey) -> None:
        """Give every command these keys, the current one first."""
        file = self.directory / "keys.json"
        plain = [{"id": key.id, "key": base64.b64encode(key.secret).decode()} for key in keys]
        file.write_text(json.dumps({self.tenant: plain}))
        monkeypatch.setenv("SESSION_FABRIC_ENCRYPTION_KEYS", str(file))

    def acts(self, begin: str) -> list[tuple[str | None, str, str, dict[str, Any]]]:
        """Export an audit, check it, and return its acts of a sort: on what, by whom, which, with what facts."""
        file = self.directory / f"{begin}.jsonl"
        self.command("audit", "export", "--file", str(file), "--yes")
        self.file = file.read_bytes()
        verify(lines_of(file))
        lines = [json.loads(line)["data"] for line in lines_of(file)]
        found = [data for data in lines if data["type"] == "act" and data["act"].startswith(begin)]
        assert all(self._begun - 60_000 < act["ts"] < time.time() * 1000 + 60_000 for act in found)
        return [(act["session"], act["actor"], act["act"], act["facts"]) for act in found]


@pytest.fixture
def audited(shared_server: NatsNode, tenant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Audited:
    for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    one = Audited(shared_server.url, tenant, tmp_path)
    assert run(["stream", "provision", "--nats", one.nats]) == 0
    return one


def test_each_revocation_is_in_it_and_no_token(audited: Audited, capsys: pytest.CaptureFixture[str]) -> None:
    key = str(audited.directory / "signing.json")
    assert run(["token", "keygen", key]) == 0
    capsys.readouterr()
    assert run(["token", "mint", "--key", key, "--sub", "user:ada", "--id", "t1", "--tenant", audited.tenant]) == 0
    token = capsys.readouterr().out.strip()
    audited.command("token", "revoke", "--token", token)
    audited.command("token", "revoke", "--participant", "user:ada")
    audited.command("token", "revoke", "--session", "chat")
    audited.command("agent", "revoke", "agent:helper")
    found = audited.acts("token.")
    assert [(session, by, act, facts["of"], facts["name"]) for session, by, act, facts in found] == [
        (None, CLI, "token.revoked", "token", "t1"),
        (None, CLI, "token.revoked", "participant", "user:ada"),
        ("chat", CLI, "token.revoked", "session", "chat"),
        (None, CLI, "token.revoked", "participant", "agent:helper"),
    ]
    assert all(facts["before"] <= time.time() * 1000 < facts["until"] for *_, facts in found)
    assert token.encode() not in audited.file
    backup = str(audited.directory / "backup")
    for command in ("create", "restore"):
        audited.command("backup", command, backup)
    assert len(audited.acts("token.")) == 4, "what stands already is revoked by nobody"


def test_durable_streams_that_somebody_deleted_are_in_it(audited: Audited) -> None:
    async def ask(http: aiohttp.ClientSession, method: str, path: str, status: int, **headers: str) -> None:
        body = b"a secret" if method == "PUT" else None
        sent = {"Content-Type": "text/plain", **headers}
        async with http.request(method, f"/v1/stream/{path}", data=body, headers=sent) as answer:
            assert answer.status == status, await answer.text()

    async def work() -> None:
        async with running(audited.nats, audited.tenant) as house:
            grants = {"/*": ["create", "append", "read", "erase"]}
            tokens = [house.token(who, sessions=grants) for who in ("user:ada", "user:bob")]
            ada, bob = ({"Authorization": f"Bearer {token}"} for token in tokens)
            async with (
                aiohttp.ClientSession(house.url, headers=ada) as hers,
                aiohttp.ClientSession(house.url, headers=bob) as his,
            ):
                await ask(hers, "PUT", "log", 201)
                await ask(hers, "PUT", "log", 200)
                await ask(his, "PUT", "log", 409, **{"Stream-TTL": "60"})
                await ask(his, "PUT", "fork", 201, **{"Stream-Forked-From": "/v1/stream/log"})
                await ask(hers, "DELETE", "log", 204)
                await ask(his, "DELETE", "fork", 204)
                await ask(hers, "DELETE", "log", 404)
                await ask(hers, "PUT", "brief", 201, **{"Stream-TTL": "1"})

                async def gone() -> bool:
                    async with his.head("/v1/stream/brief") as answer:
                        return answer.status == 404

                await eventually(gone, 20)

    asyncio.run(work())
    assert audited.acts("stream.") == [
        ("/log", "user:ada", "stream.deleted", {"reason": "", "kept_for": ["/fork"]}),
        ("/fork", "user:bob", "stream.deleted", {"reason": "", "kept_for": []}),
    ]
    assert b"secret" not in audited.file


def test_what_is_sealed_is_in_it_where_its_keys_are_and_else_it_is_not_made(
    audited: Audited, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def seal(fabric: Fabric) -> None:
        await fabric.session("sealed").append(said("Hello"))

    async def refused() -> None:
        async with running(audited.nats, audited.tenant) as house:
            headers = {"Authorization": f"Bearer {house.token()}"}
            async with aiohttp.ClientSession(house.url, headers=headers) as http, http.put("/v1/stream/log") as answer:
                assert (await answer.json())["code"] == "key_missing"

    audited.script(seal, [OLD])
    asyncio.run(refused())
    audited.command("audit", "export", "--file", str(audited.directory / "without.jsonl"), status=1)
    assert "SESSION_FABRIC_ENCRYPTION_KEYS" in capsys.readouterr().err
    audited.keys(monkeypatch, OLD)
    assert audited.acts("stream.") == []
    assert [(session, act) for session, _, act, _ in audited.acts("session.")] == [("sealed", "session.created")]


def test_keys_that_are_wrapped_anew_are_in_it_and_no_key(audited: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(fabric: Fabric) -> None:
        for name in ("one", "two"):
            await fabric.session(name).append(said("Hello"))

    audited.script(talk, [OLD])
    audited.keys(monkeypatch, NEW, OLD)
    for _ in range(2):
        assert run(["keys", "rewrap", "--nats", audited.nats]) in (0, 1)  # others' tenants at this broker
    assert audited.acts("tenant.") == [(None, CLI, "tenant.rewrapped", {"key": "k2", "older": {"k1": 2}})]
    assert not any(base64.b64encode(key.secret) in audited.file for key in (NEW, OLD))


def test_dead_letters_that_are_asked_again_or_dropped_are_in_it(audited: Audited) -> None:
    runs: list[str] = []

    async def work(fabric: Fabric) -> None:
        agent, _ = failing(fabric)
        async with served(agent):
            runs.extend([await fail(fabric, name) for name in ("one", "two")])
        sue = fabric.view(participant="supervisor:sue")
        first, second = await sue.dead_letters()
        for _ in range(2):
            await first.retry()
            await second.drop()

    audited.script(work)
    assert audited.acts("dead_letter.") == [
        ("one", "supervisor:sue", "dead_letter.retried", {"pool": "default", "run": runs[0]}),
        ("two", "supervisor:sue", "dead_letter.dropped", {"pool": "default", "run": runs[1]}),
    ]
    assert b"hard" not in audited.file

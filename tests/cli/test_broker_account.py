"""`fabricctl broker config --account`: the fabric in an account that a nats-server had before, beside others."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from session_fabric import Credentials, Fabric
from session_fabric.remote.broker import RemoteBroker
from session_fabric.revocations import revoke
from session_fabric.rules.revocations import Revocation
from session_fabric_cli.main import run

from tests.gateway.conftest import Running, running
from tests.support.natives import refused
from tests.support.servers import NatsNode, nats_node
from tests.support.waiting import eventually

Capture = pytest.CaptureFixture[str]
# As it was: users of two accounts, with passwords, and the system's.
BEFORE = """
accounts {
  ADMIN { users: [{ user: admin, password: a }], exports: [ %(accounts.ADMIN.exports)s ] }
  APP {
    jetstream: enabled
    users: [ { user: legacy, password: l }, %(accounts.APP.users)s ]
    imports: [ %(accounts.APP.imports)s ]
  }
  OTHER { users: [{ user: other, password: o }, { user: forgotten, password: f }] }
}
"""


def config_of(printed: str) -> str:
    """Put the parts where they say that they go."""
    parts: dict[str, str] = {}
    top = []
    for where, lines in re.findall(
        r"\n# (Into [\w.$]+, beside what is there|At the top):\n(.*?)(?=\n# |\Z)", printed, re.S
    ):
        if where == "At the top":
            top.append(lines)
        else:
            parts[where.split()[1].rstrip(",")] = ", ".join(filter(None, lines.splitlines()))
    return BEFORE % parts + "\n".join(top)


@asynccontextmanager
async def house(tmp_path: Path, tenant: str, capsys: Capture) -> AsyncIterator[tuple[NatsNode, Running, Credentials]]:
    keys = tmp_path / "keys"
    asked = ["broker", "config", str(keys), "--account", "APP", "--system-account", "ADMIN"]
    assert await asyncio.to_thread(run, [*asked, "--user", "legacy", "--user", "other", "--user", "admin"]) == 0
    own = Credentials.read(keys / "fabric.nk")
    async with nats_node(tmp_path / "nats", config=config_of(capsys.readouterr().out)) as server:
        settings = {"nats_credentials": keys / "fabric.nk", "native_agents": str(keys / "callout.seeds")}
        async with running(server.url, tenant, **settings) as one:
            yield server, one, own


@asynccontextmanager
async def native(server: NatsNode, one: Running, **claims: object) -> AsyncIterator[Fabric]:
    token = one.token("agent:helper", iat=int(time.time()), **claims)
    broker = await RemoteBroker.connect(
        server.url, tenant=one.tenant, participant="agent:helper", credentials=Credentials(token=token)
    )
    async with await Fabric.over(broker, tenant=one.tenant, participant="agent:helper") as fabric:
        yield fabric


async def test_agents_come_in_by_their_tokens_and_users_of_before_as_before(
    tmp_path: Path, tenant: str, capsys: Capture
) -> None:
    async with house(tmp_path, tenant, capsys) as (server, one, _):
        async with native(server, one) as fabric:
            await fabric.session("chat").append({"type": "app.note", "text": "hello"})
        for user, password in (("legacy", "l"), ("other", "o"), ("admin", "a")):
            client = await nats.connect(server.url, user=user, password=password)
            await client.close()
        assert await refused(server.url, user="legacy", password="wrong")
        assert await refused(server.url, user="forgotten", password="f")  # whom nobody named is asked for a token
        assert await refused(server.url)
        legacy = await nats.connect(server.url, user="legacy", password="l")
        names = await legacy.jetstream().streams_info()
        assert "KV_sf-sessions" in {stream.config.name for stream in names}  # it is the account that was there
        await legacy.close()


async def test_whose_token_is_revoked_is_cut_and_who_is_gone_is_heard_of(
    tmp_path: Path, tenant: str, capsys: Capture
) -> None:
    async with (
        house(tmp_path, tenant, capsys) as (server, one, own),
        Fabric.connect(server.url, tenant=tenant, participant="operator:ann", credentials=own) as fabric,
    ):
        gone: list[str] = []
        listening = await fabric.broker.on_departure(lambda each: gone.append(each.holder))
        async with native(server, one, jti="t1") as agent:
            await agent.session("chat").append({"type": "app.note"})
            now_ms = time.time_ns() // 1_000_000
            wanted = Revocation(tenant, "token", "t1", now_ms, now_ms + 600_000)
            await revoke(fabric.broker, wanted, by="operator:ann", now_ms=now_ms)
            await eventually(lambda: not agent.broker.connected, 20.0)
        async with native(server, one, jti="t2") as agent:
            holder = agent.broker.holder
            await agent.session("chat").append({"type": "app.note"})
        await eventually(lambda: holder in gone, 20.0)
        await listening.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--account", "$G"], "no account"),
        (["--account", "a b"], "no account"),
        (["--account", "SYS"], "system's account"),
        (["--account", "APP", "--user", "a, b"], "no user's name"),
        (["--user", "legacy"], "--user is for --account"),
    ],
)
def test_what_is_no_account_and_no_user_is_said(tmp_path: Path, capsys: Capture, options: list[str], said: str) -> None:
    assert run(["broker", "config", str(tmp_path / "keys"), *options]) == 2
    assert said in capsys.readouterr().err

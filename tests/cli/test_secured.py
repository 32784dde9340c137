"""Session commands at a broker that lets in only whom it knows: with credentials of a context that suffice, and with
some that do not, which are told what they lack."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from session_fabric import Credentials, Fabric
from session_fabric_cli.main import run

from tests.cli.test_agents import House, built
from tests.support.servers import NatsNode, nats_node

Capture = pytest.CaptureFixture[str]
TAIL = ("--until-run-end",)


async def talk(fabric: Fabric) -> None:
    for name in ("chat-1", "other"):
        session = fabric.session(name)
        await session.append({"type": "message.user", "message": {"id": "m", "role": "user", "content": "hello"}})
        async with session.run("r1") as work:
            await work.text("good day")


@dataclass
class Ctl:
    """fabricctl with nothing in the environment: all that counts is in a context."""

    capsys: Capture

    async def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self.capsys.readouterr()
        status = await asyncio.to_thread(run, list(arguments))
        out, err = self.capsys.readouterr()
        assert "Traceback" not in err
        return status, _own(out), err


def _own(out: str) -> str:
    """Leave out what the gateway logs, which is in this process too."""
    return "".join(line for line in out.splitlines(keepends=True) if "] native_" not in line)


@pytest.fixture
def ctl(capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ctl:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return Ctl(capsys)


@pytest.fixture
async def house(tmp_path: Path, tenant: str, ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    async with built(tmp_path, tenant, ctl.capsys, monkeypatch) as house:
        own = Credentials.read(tmp_path / "keys" / "fabric.nk")
        async with Fabric.connect(house.url, tenant=tenant, participant="agent:a", credentials=own) as fabric:
            await talk(fabric)
        yield house


async def context(ctl: Ctl, house: House, name: str, credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ("context", "set", name, "--nats", house.url, "--credentials", str(credentials), "--tenant", house.tenant)
    assert (await ctl(*made, "--use"))[0] == 0
    for variable in ("SESSION_FABRIC_NATS", "SESSION_FABRIC_NATS_CREDENTIALS", "SESSION_FABRIC_TENANT"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("whose", ["fabric", "operator", "agent"])
async def test_session_commands_work_with_credentials_that_suffice(
    whose: str, ctl: Ctl, house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fabric's own key; and what a token grants, for participants who have no rights at the broker."""
    file = tmp_path / "keys" / "fabric.nk"
    if whose != "fabric":
        file = await house.grant("granted.json", f"{whose}:eve", "--session", "*=read,export")
    await context(ctl, house, "secured", file, monkeypatch)
    status, out, err = await ctl("session", "ls", "--brief")
    assert (status, [line.split()[0] for line in out.splitlines()[1:]]) == (
        0,
        ["other", "chat-1"],
    ), err
    for arguments, shown in (
        (("show", "chat-1"), "good day"),
        (("show", "chat-1", "-o", "json"), '"good day"'),
        (("tail", "chat-1", *TAIL), "RUN_FINISHED"),
        (("runs", "chat-1"), "completed"),
        (("lag", "chat-1"), "WAITING"),
        (("export", "chat-1", "-f", str(tmp_path / "export.jsonl")), "chain"),
    ):
        status, out, err = await ctl("session", *arguments)
        assert (status, shown in out) == (0, True), (arguments, err or out)
    assert (await ctl("verify", str(tmp_path / "export.jsonl")))[0] == 0


async def test_credentials_that_do_not_suffice_are_told_what_they_lack(
    ctl: Ctl, house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await house.grant("reads.json", "operator:eve", "--session", "chat-*=read")
    await context(ctl, house, "reads", file, monkeypatch)
    status, out, _ = await ctl("session", "ls")
    assert (status, "chat-1" in out, "other" in out) == (0, True, False)  # others are none of its business
    none = await house.grant("none.json", "operator:eve", "--session", "elsewhere-*=read")
    await context(ctl, house, "none", none, monkeypatch)
    for narrowed, said_of in (
        ((), f"Tenant {house.tenant} has no sessions"),
        (("--state", "open"), "There are no such"),
    ):
        status, _, err = await ctl("session", "ls", *narrowed)
        assert (status, said_of in err, "that these credentials show" in err) == (0, True, True), err
    await context(ctl, house, "reads", file, monkeypatch)
    grants = "Its token does not grant it: see `fabricctl agent inspect` of its file, or `token inspect`."
    rights = "No token grants that: it takes rights at the broker (`fabricctl broker config`)."
    export = ("export", "chat-1", "-f", str(tmp_path / "export.jsonl"))
    for arguments, said in (
        (("show", "other"), ("operator:eve may not read in session 'other'.", grants)),
        (("tail", "other", *TAIL), ("operator:eve may not read in session 'other'.", grants)),
        (export, ("operator:eve may not export in session 'chat-1'.", grants)),
        (("delete", "chat-1", "--yes"), ("operator:eve may not erase in session 'chat-1'.", grants)),
        (("ls", "--active"), ("operator:eve may not look at what others hold.", rights)),
    ):
        status, out, err = await ctl("session", *arguments)
        assert (status, err.splitlines()) == (4, [f"fabricctl: {said[0]}", f"  {said[1]}"]), arguments
    assert not (tmp_path / "export.jsonl").exists()
    # What only operators of the broker may is refused before anybody is asked.
    for command in (
        ("doctor",),
        ("stream", "ls"),
        ("stream", "check"),
        ("stream", "provision"),
        ("stream", "move-bucket", "7"),
        ("tenant", "streams", "acme"),
        ("consumer", "ls"),
        ("gateway", "ls"),
        ("agent", "ls"),
    ):
        status, out, err = await ctl(*command)
        assert (status, out, "has no rights at the broker" in err) == (4, "", True), (command, err)


async def test_a_measurement_needs_the_right_to_erase_what_it_makes(
    ctl: Ctl, house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = ("bench", "--seconds", "1", "--sessions", "2")
    needed = "read,append,create,erase"
    for name, grants, status in (
        ("by-role", (), 4),
        ("some", ("--session", "bench-*=read,append,create"), 4),
        ("all", ("--session", f"bench-*={needed}"), 0),
    ):
        file = await house.grant(f"{name}.json", "operator:eve", *grants)
        await context(ctl, house, name, file, monkeypatch)
        left, out, err = await ctl(*short)
        assert left == status, err
        if status:
            assert err.splitlines()[0] == "fabricctl: operator:eve may not erase in sessions bench-*."
            assert f"--session 'bench-*={needed}'" in err
        else:
            assert out.splitlines()[1].startswith("broker"), out
        monkeypatch.setenv("SESSION_FABRIC_NATS", house.url)
        monkeypatch.setenv("SESSION_FABRIC_TENANT", house.tenant)
        monkeypatch.setenv("SESSION_FABRIC_NATS_CREDENTIALS", str(tmp_path / "keys" / "fabric.nk"))
    monkeypatch.delenv("SESSION_FABRIC_NATS_CREDENTIALS")
    await context(ctl, house, "own", tmp_path / "keys" / "fabric.nk", monkeypatch)
    _, out, _ = await ctl("session", "ls", "--brief")
    assert sorted(line.split()[0] for line in out.splitlines()[1:]) == ["chat-1", "other"]


async def test_credentials_that_nobody_granted_are_not_let_in(
    ctl: Ctl, house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = tmp_path / "foreign"
    await ctl("broker", "config", str(foreign))
    await context(ctl, house, "foreign", foreign / "fabric.nk", monkeypatch)
    for command in (
        ("ls",),
        ("show", "chat-1"),
        ("tail", "chat-1"),
        ("export", "chat-1", "-f", str(tmp_path / "never")),
    ):
        status, out, err = await ctl("session", *command, "--timeout", "5s")
        assert (status, out) == (4, ""), err
        assert "does not accept the credentials" in err


USERS = {
    "no_info": 'publish: {deny: ["$JS.API.STREAM.INFO.>"]}',
    "no_reading": 'publish: {deny: ["$JS.API.DIRECT.GET.>"]}',
    "no_list": 'publish: {deny: ["$JS.API.STREAM.LIST"]}',
    "deaf": 'subscribe: {deny: ["_INBOX.>"]}',
}


@pytest.fixture
async def users(tmp_path: Path, tenant: str) -> AsyncIterator[NatsNode]:
    """A broker whose users its own configuration lists, each with a right that lacks."""
    listed = [f"{{user: {name}, password: pw, permissions: {{{denied}}}}}" for name, denied in USERS.items()]
    config = "authorization { users: [\n{user: all, password: pw}\n" + "\n".join(listed) + "\n] }"
    async with nats_node(tmp_path / "nats", config=config) as node:
        async with Fabric.connect(as_user(node, "all"), tenant=tenant, participant="agent:a", streams=1) as fabric:
            await talk(fabric)
        yield node


def as_user(node: NatsNode, name: str) -> str:
    return node.url.replace("nats://", f"nats://{name}:pw@")


@pytest.mark.parametrize(
    ("user", "lacks"),
    [
        ("no_info", "publish to $JS.API.STREAM.INFO."),
        ("no_reading", "publish to $JS.API.DIRECT.GET."),
        ("no_list", "publish to $JS.API.STREAM.LIST."),
        ("deaf", "subscribe to _INBOX."),
    ],
)
async def test_a_right_that_the_broker_denies_is_named_by_its_subject(
    user: str, lacks: str, ctl: Ctl, users: NatsNode, tenant: str, tmp_path: Path
) -> None:
    named = ("--nats", as_user(users, user), "--tenant", tenant)
    export = ("export", "chat-1", "-f", str(tmp_path / "export.jsonl"))
    for command in (("ls",), ("show", "chat-1"), ("tail", "chat-1", *TAIL), export):
        status, _, err = await ctl("session", *command, *named)
        last, hint = err.splitlines()[-2:]
        assert status == 4, err
        assert last.startswith(f"fabricctl: The broker does not let these credentials {lacks}"), command
        assert "fabricctl broker config" in hint

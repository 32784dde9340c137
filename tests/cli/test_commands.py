"""`fabricctl session …` and `fabricctl stream …` against a real broker."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from session_fabric import Fabric, Keys, Session
from session_fabric_cli.main import run

from tests.support.servers import NatsNode
from tests.support.waiting import eventually

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def nats(shared_server: NatsNode, tenant: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture) -> str:
    """A provisioned broker, named in the environment."""
    monkeypatch.setenv("SESSION_FABRIC_NATS", shared_server.url)
    monkeypatch.setenv("SESSION_FABRIC_TENANT", tenant)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert run(["stream", "provision"]) == 0
    lines(capsys)
    return shared_server.url


def write(url: str, tenant: str, script: Callable[[Fabric], Coroutine[Any, Any, None]]) -> None:
    """Run a script in the name of an agent of a tenant."""

    async def scripted() -> None:
        async with Fabric.connect(url, tenant=tenant, participant="agent:a", streams=4) as fabric:
            await script(fabric)

    asyncio.run(scripted())


async def talk(session: Session, answer: str = "Hello back.") -> None:
    await session.append({"type": "app.note", "text": "Hello"}, id="e1")
    async with session.run("r1") as agent_run:
        await agent_run.text(answer)


def lines(capsys: Capture) -> tuple[str, str]:
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_sessions_are_listed_newest_first(nats: str, tenant: str, capsys: Capture) -> None:
    async def script(fabric: Fabric) -> None:
        await fabric.session("first").create({"team": "red"})
        await fabric.session("second").create()

    write(nats, tenant, script)
    assert run(["session", "ls"]) == 0
    out, _ = lines(capsys)
    assert [line.split()[0] for line in out.splitlines()] == ["SESSION", "second", "first"]
    assert "team=red" in out
    assert run(["session", "ls", "-o", "json", "--limit", "1"]) == 0
    assert [row["session"] for row in json.loads(lines(capsys)[0])] == ["second"]


def test_a_tenant_without_sessions_has_an_empty_list(nats: str, capsys: Capture) -> None:
    assert run(["session", "ls", "-o", "json"]) == 0
    assert json.loads(lines(capsys)[0]) == []


def test_a_session_is_shown_with_what_was_said_last(nats: str, tenant: str, capsys: Capture) -> None:
    write(nats, tenant, lambda fabric: talk(fabric.session("chat")))
    assert run(["session", "show", "chat"]) == 0
    out, _ = lines(capsys)
    assert "Hello back." in out
    assert run(["session", "show", "chat", "-o", "json"]) == 0
    shown = json.loads(lines(capsys)[0])
    assert shown["session"]["session"] == "chat"
    assert shown["messages"][-1]["text"] == "Hello back."


def test_what_others_wrote_does_not_steer_the_terminal(nats: str, tenant: str, capsys: Capture) -> None:
    write(nats, tenant, lambda fabric: talk(fabric.session("chat"), "\x1b[2J\x1b]0;owned\x07 text\r\nmore"))
    assert run(["session", "show", "chat"]) == 0
    out, _ = lines(capsys)
    assert "\x1b" not in out
    assert "\r" not in out


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["session", "show", "nowhere"], 3, "'nowhere'"),
        (["session", "tail", "nowhere"], 3, "'nowhere'"),
        (["session", "show", "not a name"], 2, "'not a name' is not a session name"),
        (["session", "tail", "chat", "--after", "yesterday"], 2, "yesterday"),
        (["session", "ls", "--tenant", "a.b"], 2, "'a.b' is not a tenant name"),
        (["session", "ls", "--limit", "0"], 2, "--limit"),
        (["session", "ls", "--participant", "b a"], 2, "'b a' is not a participant"),
        (["session", "ls", "--state", "banana"], 2, "Invalid value for '--state': 'banana' is not one of"),
        (["session", "show"], 2, "Missing argument"),
        (["session", "ls", "--limit", "0"], 2, "'--limit': '0' is too little: 1 is the least."),
        (["session", "ls", "--limit", "inf"], 2, "'--limit': 'inf' is not a whole number."),
        (["session", "ls", "--limit", "9" * 99], 2, "is too much: 100000 is the most."),
        (["session", "replay", "chat", "--speed", "nan"], 2, "'--speed': 'nan' is not a number."),
        (["session", "replay", "chat", "--speed=-1"], 2, "'--speed': '-1' is too little: 0 is the least."),
        (["bench", "--rate", "x"], 2, "'--rate': 'x' is not a number."),
        (["session", "ls", "--output", "xml"], 2, "--output"),
        (["session", "ls", "--nats", "nats://"], 2, "'nats://' is not a broker's URL"),
        (["session", "ls", "--nats", "nats://a:b@here:99999"], 2, "'here:99999' is not a broker's URL"),
        (["session", "ls", "--nats", "nats://[::1"], 2, "is not a broker's URL"),
        (["session", "ls", "--nats", "nats://a b:4222"], 2, "is not a broker's URL"),
        (["keys", "show"], 2, "or `fabricctl context set NAME --keys FILE`.\n"),
        (["session", "redact", "chat", "m9", "--reason", "x", "--yes"], 3, "'chat'"),
        (["nonsense"], 2, "nonsense"),
        (["dev", "--insecure", "--host", "0.0.0.0"], 2, "--host 0.0.0.0"),
        (["dev", "--port", "70000"], 2, "--port"),
        (["dev", "--model-url", "http://x/v1"], 2, "--model NAME"),
        (["dev", "--tenant", "a b"], 2, "'a b' is not a tenant name"),
    ],
)
def test_a_mistake_is_told_in_a_sentence_and_never_as_a_traceback(
    nats: str, capsys: Capture, arguments: list[str], status: int, says: str
) -> None:
    assert run(arguments) == status
    out, err = lines(capsys)
    assert says in err
    assert "Traceback" not in err
    assert "Fabric.connect" not in err, "that is no language for a terminal"
    assert "session." not in err
    assert out == ""


def test_a_broker_that_is_not_there_is_named() -> None:
    command = [sys.executable, "-m", "session_fabric_cli", "session", "ls", "--nats", "nats://127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith("fabricctl: ")
    assert "127.0.0.1:1" in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert "Is the address right" in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_the_locale_cannot_spell_is_printed_all_the_same(nats: str, tenant: str, encoding: str) -> None:
    async def script(fabric: Fabric) -> None:
        await talk(fabric.session("s1"), "naïve … 🙂")

    def printed(*arguments: str) -> bytes:
        command = [sys.executable, "-m", "session_fabric_cli", "session", *arguments]
        env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
        done = subprocess.run(command, env=env, capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout

    write(nats, tenant, script)
    assert b"\\u2026 \\ud83d\\ude42" in printed("show", "s1")
    assert b"\\u2026 \\ud83d\\ude42" in printed("replay", "s1", "--speed", "0")
    page = json.loads(printed("show", "s1", "-o", "json").decode(encoding))
    assert [message["text"] for message in page["messages"]] == ["naïve … 🙂"]


def test_without_a_broker_the_user_is_told_how_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.delenv("SESSION_FABRIC_NATS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert run(["session", "ls"]) == 2
    assert "fabricctl dev" in lines(capsys)[1]


def test_the_version_is_told(capsys: Capture) -> None:
    assert run(["--version"]) == 0
    assert lines(capsys)[0].count(".") == 2


def test_streams_are_listed_with_what_they_hold(nats: str, tenant: str, capsys: Capture) -> None:
    write(nats, tenant, lambda fabric: talk(fabric.session("chat")))
    assert run(["stream", "ls", "-o", "json"]) == 0
    rows = json.loads(lines(capsys)[0])
    assert sum(row["events"] for row in rows) > 0
    assert all(row["made"] > 1_577_836_800_000 for row in rows), "milliseconds since 1970"
    assert run(["stream", "ls"]) == 0
    assert "SESSIONS-00" in lines(capsys)[0]


class Tail:
    """`fabricctl session tail` as a process; its lines are read as they come."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "session_fabric_cli", "session", "tail", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def interrupt(self) -> tuple[int, str]:
        self._process.send_signal(signal.SIGINT)
        _, err = self._process.communicate(timeout=20)
        return self._process.returncode, err

    def __enter__(self) -> Tail:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def test_a_tail_prints_what_is_there_and_then_what_comes(nats: str, tenant: str) -> None:
    write(nats, tenant, lambda fabric: talk(fabric.session("chat")))

    async def more(fabric: Fabric) -> None:
        await fabric.session("chat").append({"type": "app.more"}, id="e2")

    with Tail("chat", "--output", "json") as tail:
        types = []
        while "RUN_FINISHED" not in types:
            types.append(json.loads(tail.line())["type"])
        assert types[0] == "session.created"
        assert "TEXT_MESSAGE_CONTENT" not in types
        write(nats, tenant, more)
        assert json.loads(tail.line())["type"] == "app.more"
        status, err = tail.interrupt()
        assert status == 130
        assert "Traceback" not in err


def test_a_tail_can_begin_at_an_offset_and_show_how_texts_came(nats: str, tenant: str) -> None:
    async def script(fabric: Fabric) -> None:
        session = fabric.session("chat")
        await session.append({"type": "app.one"}, id="e1")
        async with session.run("r1") as agent_run:
            await agent_run.text("Now")
            with Tail("chat", "-o", "json", "--deltas", "--after", str(await session.head())) as tail:
                seen = ""
                while "TEXT_MESSAGE_CONTENT" not in seen:
                    await agent_run.text(" then")
                    seen = await asyncio.to_thread(tail.line)
                    assert "app.one" not in seen

    write(nats, tenant, script)


async def test_a_tail_survives_a_restart_of_the_broker(own_server: NatsNode, tenant: str) -> None:
    async with Fabric.connect(own_server.url, tenant=tenant, participant="agent:a", streams=1) as fabric:
        session = fabric.session("chat")
        await session.append({"type": "app.before"}, id="e1")
        with Tail("chat", "-o", "json", "--nats", own_server.url, "--tenant", tenant) as tail:
            seen = ""
            while "app.before" not in seen:
                seen = await asyncio.to_thread(tail.line)
            os.kill(own_server.pid, signal.SIGKILL)
            await eventually(lambda: not own_server.alive)
            own_server.start()
            await eventually(lambda: fabric.broker.connected, 30.0)
            await session.append({"type": "app.after"}, id="e2")
            assert "app.after" in await asyncio.wait_for(asyncio.to_thread(tail.line), 30)


def test_streams_are_not_divided_unasked_and_never_put_together(nats: str, capsys: Capture) -> None:
    assert run(["stream", "provision", "--streams", "256"]) == 2
    assert "--yes" in capsys.readouterr().err
    assert run(["stream", "provision", "--streams", "1"]) == 2
    assert "put together" in capsys.readouterr().err


def test_what_is_sealed_is_read_with_the_keys_that_the_environment_names(
    nats: str, tenant: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({tenant: [{"id": "k1", "key": base64.b64encode(b"k" * 32).decode()}]}))

    async def scripted() -> None:
        keys = Keys.read(path)
        async with Fabric.connect(nats, tenant=tenant, participant="agent:a", streams=4, keys=keys) as fabric:
            await talk(fabric.session("chat"), "under the oak")

    asyncio.run(scripted())
    monkeypatch.setenv("SESSION_FABRIC_ENCRYPTION_KEYS", str(path))
    with Tail("chat", "--output", "json") as tail:
        said = [json.loads(tail.line()) for _ in range(5)]
    assert "under the oak" in json.dumps(said)
    monkeypatch.delenv("SESSION_FABRIC_ENCRYPTION_KEYS")
    assert run(["session", "replay", "chat"]) == 1
    assert "sealed under key 'k1'" in lines(capsys)[1]
    assert run(["session", "show", "chat"]) == 0  # what stands beside the bodies is no secret
    shown = lines(capsys)[0]
    assert "completed" in shown
    assert "SESSION_FABRIC_ENCRYPTION_KEYS" in shown
    assert "oak" not in shown

"""`fabricctl session …` against a real broker: found, looked into, followed, played again, mended."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from session_fabric import Fabric
from session_fabric.words.errors import RunClosed
from session_fabric_cli.main import run

from tests.support.servers import NatsCluster, NatsNode
from tests.support.sessions import said
from tests.support.waiting import eventually

Capture = pytest.CaptureFixture[str]
Script = Callable[[Fabric], Coroutine[Any, Any, None]]


@pytest.fixture
def nats(shared_server: NatsNode, tenant: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture) -> str:
    """A provisioned broker, named in the environment."""
    name_broker(monkeypatch, tmp_path, shared_server.url, tenant)
    assert run(["stream", "provision"]) == 0
    capsys.readouterr()
    return shared_server.url


def name_broker(monkeypatch: pytest.MonkeyPatch, home: Path, url: str, tenant: str) -> None:
    monkeypatch.setenv("SESSION_FABRIC_NATS", url)
    monkeypatch.setenv("SESSION_FABRIC_TENANT", tenant)
    monkeypatch.setenv("XDG_DATA_HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))


def write(url: str, tenant: str, script: Script) -> None:
    """Run a script in the name of an agent of a tenant."""

    async def scripted() -> None:
        async with Fabric.connect(url, tenant=tenant, participant="agent:a", streams=4) as fabric:
            await script(fabric)

    asyncio.run(scripted())


def shown(capsys: Capture, *arguments: str, status: int = 0) -> str:
    """Run a command; return what it printed, or what it complained of."""
    left = run(["session", *arguments])
    out, err = capsys.readouterr()
    assert left == status, err
    assert "Traceback" not in err
    return out or err


def told(capsys: Capture, *arguments: str) -> Any:
    return json.loads(shown(capsys, *arguments, "-o", "json"))


async def talk(fabric: Fabric, name: str = "chat") -> None:
    """A message, an answer in pieces, a failure, a document."""
    user = fabric.view(participant="user:ada").session(name)
    await user.create({"team": "red"}, ["user:bob"])
    await user.append(said("Hello"), id="q1")
    async with fabric.session(name).run("r1") as agent_run:
        await agent_run.text("Hello ")
        await agent_run.text("back.")
    with suppress(ValueError):
        async with fabric.session(name).run("r2"):
            raise ValueError
    await fabric.session(name).state("plan").put({"steps": 1})
    await user.seen(await user.head(), device="phone")


# --- ls -------------------------------------------------------------------------------------------------


def test_sessions_are_found_by_label_state_participant_and_time(nats: str, tenant: str, capsys: Capture) -> None:
    async def script(fabric: Fabric) -> None:
        await talk(fabric)
        await fabric.session("other").create({"team": "blue"})
        await fabric.session("other").close()

    write(nats, tenant, script)

    def names(*arguments: str) -> list[str]:
        return [row["session"] for row in told(capsys, "ls", *arguments)]

    assert names() == ["other", "chat"]
    assert names("--label", "team=red") == ["chat"]
    assert names("--state", "closed") == ["other"]
    assert names("--participant", "user:bob") == ["chat"]
    assert names("--since", "1h") == ["other", "chat"]
    assert names("--since", "2099-01-01") == []
    assert names("--active") == []
    row = told(capsys, "ls", "--label", "team=red")[0]
    assert row["active"] >= row["created"]
    assert told(capsys, "ls", "--brief", "--limit", "1")[0]["active"] is None
    assert tenant in {row["tenant"] for row in told(capsys, "ls", "--all-tenants", "--limit", "100000", "--brief")}
    assert "is no label" in shown(capsys, "ls", "--label", "team", status=2)
    assert "is no time" in shown(capsys, "ls", "--since", "yesterday", status=2)


def test_a_session_that_is_not_there_gets_near_names_and_leaves_with_3(nats: str, tenant: str, capsys: Capture) -> None:
    write(nats, tenant, lambda fabric: talk(fabric, "chat-2026"))
    for command in (
        ("show", "chat-2062"),
        ("tail", "chat-2062"),
        ("replay", "chat-2062"),
        ("runs", "chat-2062"),
        ("presence", "chat-2062"),
        ("lag", "chat-2062"),
        ("state", "ls", "chat-2062"),
        ("state", "get", "chat-2062", "plan"),
        ("state", "put", "chat-2062", "plan", "{}"),
        ("fork", "chat-2062", "--at", "m1"),
        ("cancel", "chat-2062", "r1"),
        ("abandon", "chat-2062", "r1", "--yes"),
        ("close", "chat-2062", "--yes"),
        ("delete", "chat-2062", "--yes"),
        ("redact", "chat-2062", "m1", "--reason", "x", "--yes"),
        ("hold", "chat-2062", "--reason", "x"),
        ("release", "chat-2062", "--yes"),
        ("export", "chat-2062", "--file", "never.jsonl"),
    ):
        complaint = shown(capsys, *command, status=3)
        assert "'chat-2062'" in complaint
        assert "Did you mean chat-2026?" in complaint
        assert "among all 1" in complaint
    for words in (["show"], ["set", "--max-age", "off"]):
        assert run(["retention", *words, "--session", "chat-2062"]) == 3
        assert "Did you mean chat-2026?" in capsys.readouterr().err


# --- what happened -----------------------------------------------------------------------------------------


def test_the_page_says_what_happened(nats: str, tenant: str, capsys: Capture) -> None:
    write(nats, tenant, talk)
    page = told(capsys, "show", "chat")
    assert page["session"]["participants"] == ["user:ada", "user:bob"]
    assert page["looked"]["whole"]
    assert [(r["run"], r["state"], r["code"]) for r in page["runs"]] == [
        ("r1", "completed", None),
        ("r2", "failed", "ValueError"),
    ]
    assert [one["id"] for one in page["waiting"]] == ["q1"]
    assert [(one["document"], one["revision"] > 0) for one in page["documents"]] == [("plan", True)]
    assert [(one["participant"], one["device"]) for one in page["cursors"]] == [("user:ada", "phone")]
    assert [one["text"] for one in page["messages"]] == ["Hello", "Hello back."]
    assert page["failures"][0]["run"] == "r2"
    text = shown(capsys, "show", "chat")
    assert "RUNS" in text
    assert "ValueError" in text
    assert told(capsys, "show", "chat", "--events", "3")["looked"] == {"events": 6, "whole": False, "sealed": False}
    assert [run["run"] for run in told(capsys, "runs", "chat")] == ["r1", "r2"]
    assert told(capsys, "lag", "chat").keys() == {"lag", "cursors", "waiting"}


def test_a_run_under_way_is_seen_with_its_process_and_told_to_stop(nats: str, tenant: str, capsys: Capture) -> None:
    async def script(fabric: Fabric) -> None:
        session = fabric.session("chat")
        async with session.join(status="thinking", device="d1"), session.run("r1") as agent_run:
            await agent_run.text("On and on")

            def look() -> None:
                (live,) = told(capsys, "runs", "--live")
                assert (live["session"], live["run"], live["alive"]) == ("chat", "r1", True)
                assert [row["session"] for row in told(capsys, "ls", "--active")] == ["chat"]
                (there,) = told(capsys, "presence", "chat")
                assert (there["participant"], there["status"], there["alive"]) == ("agent:a", "thinking", True)
                (seen,) = told(capsys, "show", "chat")["runs"]
                assert (seen["state"], seen["alive"], seen["holder"]) == ("running", True, live["holder"])
                assert seen["wrote"] is not None
                assert told(capsys, "cancel", "chat", "r1")["outcome"] == "accepted"

            looking = asyncio.create_task(asyncio.to_thread(look))
            await asyncio.wait([looking], timeout=60)
        await looking

    write(nats, tenant, script)
    page = told(capsys, "show", "chat")
    assert page["runs"][0]["state"] == "cancelled"
    (control,) = page["controls"]
    assert (control["by"], control["state"]) == ("operator:fabricctl", "accepted")
    assert control["outcome_ms"] >= 0
    assert "has ended" in shown(capsys, "cancel", "chat", "r1", status=1)
    assert "Whose runs?" in shown(capsys, "runs", status=2)


def test_a_run_that_nobody_writes_is_ended_by_hand(nats: str, tenant: str, capsys: Capture) -> None:
    async def script(fabric: Fabric) -> None:
        with pytest.raises(RunClosed):
            async with fabric.session("chat").run("r1") as agent_run:
                await agent_run.text("Half a ")
                assert "Run r1 was ended." in await asyncio.to_thread(shown, capsys, "abandon", "chat", "r1", "--yes")
                await agent_run.text("word")

    write(nats, tenant, script)
    (seen,) = told(capsys, "runs", "chat")
    assert (seen["state"], seen["code"]) == ("failed", "agent_lost")
    assert "ended already" in shown(capsys, "abandon", "chat", "r1", "--yes", status=1)
    assert "nobody can be asked" in shown(capsys, "abandon", "chat", "r1", status=2)


# --- tail and replay ------------------------------------------------------------------------------------------


def test_a_replay_tells_it_again_with_the_offsets_that_there_were(nats: str, tenant: str, capsys: Capture) -> None:
    write(nats, tenant, talk)
    lines = [json.loads(line) for line in shown(capsys, "replay", "chat", "--speed", "0", "-o", "json").splitlines()]
    offsets = [line["offset"] for line in lines]
    assert offsets == sorted(set(offsets))
    assert [line["type"] for line in lines][:2] == ["session.created", "message.user"]
    some = shown(capsys, "replay", "chat", "--speed", "0", "--from", offsets[1], "--to", offsets[3], "-o", "json")
    assert [json.loads(line)["offset"] for line in some.splitlines()] == offsets[1:4]
    begun = time.monotonic()
    chat = shown(capsys, "replay", "chat", "--max-pause", "1ms")
    assert time.monotonic() - begun < 60
    assert "user:ada\nHello\n" in chat
    assert "agent:a\nHello back.\n" in chat
    assert "run r2 failed" in chat
    ends = shown(capsys, "replay", "chat", "--speed", "0", "--events", "--type", "RUN_*", "--run", "r1")
    assert [line.split()[4] for line in ends.splitlines()] == ["RUN_STARTED", "RUN_FINISHED"]
    assert "yesterday" in shown(capsys, "replay", "chat", "--from", "yesterday", status=2)


def test_a_tail_ends_with_the_run_and_tells_how(nats: str, tenant: str, capsys: Capture) -> None:
    write(nats, tenant, talk)
    completed = shown(capsys, "tail", "chat", "--run", "r1", "--until-run-end", "-o", "json")
    assert json.loads(completed.splitlines()[-1])["type"] == "RUN_FINISHED"
    failed = shown(capsys, "tail", "chat", "--run", "r2", "--until-run-end", "-o", "yaml", status=1)
    assert failed.count("---") == 2
    said = shown(
        capsys,
        "tail",
        "chat",
        "--run",
        "r2",
        "--until-run-end",
        "--type",
        "RUN_*",
        "--participant",
        "agent:*",
        status=1,
    )
    assert [line.split()[4] for line in said.splitlines()] == ["RUN_STARTED", "RUN_ERROR"]
    chat = shown(capsys, "tail", "chat", "--chat", "--until-run-end", "--run", "r1")
    assert "Hello back." in chat
    last = shown(capsys, "tail", "chat", "-n", "1", "--until-run-end", "-o", "json", status=1)
    assert [json.loads(line)["type"] for line in last.splitlines()] == ["RUN_ERROR"]
    for begin in (["--after", "tail"], ["-n", "1"], ["--after", json.loads(last)["offset"]], []):
        for run_id, status in (("r1", 0), ("r2", 1)):
            shown(capsys, "tail", "chat", "--run", run_id, "--until-run-end", *begin, status=status)
    assert "two beginnings" in shown(capsys, "tail", "chat", "-n", "1", "--after", "start", status=2)
    assert "--chat" in shown(capsys, "tail", "chat", "--chat", "-o", "json", status=2)


def test_a_tail_ends_when_whoever_reads_it_has_left(nats: str, tenant: str) -> None:
    """As `| head -1` leaves; nothing more happens in the session that could tell."""
    write(nats, tenant, talk)
    for more in ([], ["--chat"]):
        command = [sys.executable, "-m", "session_fabric_cli", "session", "tail", "chat", *more]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                assert process.stdout.readline()
                process.stdout.close()
                assert (process.wait(30), process.stderr.read()) == (1, b"")
            finally:
                process.kill()


async def test_a_tail_loses_nothing_and_doubles_nothing_when_the_broker_is_killed(
    own_server: NatsNode, tenant: str
) -> None:
    async with Fabric.connect(own_server.url, tenant=tenant, participant="agent:a", streams=4) as fabric:
        session = fabric.session("chat")
        await session.append({"type": "app.n", "n": 0})
        command = [
            sys.executable,
            "-m",
            "session_fabric_cli",
            "session",
            "tail",
            "chat",
            "-o",
            "json",
            "--type",
            "app.n",
        ]
        process = await asyncio.create_subprocess_exec(
            *command, "--nats", own_server.url, "--tenant", tenant, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        try:
            seen = [json.loads(await asyncio.wait_for(process.stdout.readline(), 60))["body"]["n"]]
            for n in range(1, 200):
                if n in (60, 130):
                    own_server.kill()
                    await own_server.restart()
                    await eventually(lambda: fabric.broker.connected)
                await session.append({"type": "app.n", "n": n}, id=f"n{n}")
            while len(seen) < 200:
                seen.append(json.loads(await asyncio.wait_for(process.stdout.readline(), 60))["body"]["n"])
            assert seen == list(range(200))
        finally:
            process.kill()
            await process.wait()


@pytest.mark.parametrize(
    "command",
    [
        ("tail", "chat", "--run", "r11", "--until-run-end"),
        ("tail", "chat", "--run", "r11", "--until-run-end", "--after", "tail"),
        ("replay", "chat", "--run", "r11"),
        ("cancel", "chat", "r11"),
        ("abandon", "chat", "r11", "--yes"),
    ],
)
def test_a_run_that_never_was_is_told_at_once(
    nats: str, tenant: str, capsys: Capture, command: tuple[str, ...]
) -> None:
    write(nats, tenant, talk)
    complaint = shown(capsys, *command, status=3)
    assert "no run 'r11' in session chat" in complaint
    assert "Did you mean r1?" in complaint
    assert "`fabricctl session runs chat` lists them" in complaint


# --- documents and forks ---------------------------------------------------------------------------------------


def test_documents_are_read_and_changed_under_their_revision(
    nats: str, tenant: str, capsys: Capture, tmp_path: Path
) -> None:
    write(nats, tenant, talk)
    (listed,) = told(capsys, "state", "ls", "chat")
    assert (listed["document"], listed["body"]) == ("plan", {"steps": 1})
    patched = told(capsys, "state", "patch", "chat", "plan", '{"owner":"ada"}')
    assert patched["body"] == {"steps": 1, "owner": "ada"}
    assert patched["by"] == "operator:fabricctl"
    stale = shown(capsys, "state", "put", "chat", "plan", "{}", "--revision", str(listed["revision"]), status=1)
    assert str(patched["revision"]) in stale
    (tmp_path / "plan.json").write_text('{"from":"file"}')
    told(capsys, "state", "put", "chat", "plan", f"@{tmp_path / 'plan.json'}", "--revision", str(patched["revision"]))
    assert json.loads(shown(capsys, "state", "get", "chat", "plan")) == {"from": "file"}
    assert [v["body"] for v in told(capsys, "state", "history", "chat", "plan")][::2] == [
        {"from": "file"},
        {"steps": 1},
    ]
    assert "Did you mean plan?" in shown(capsys, "state", "get", "chat", "plans", status=3)
    assert "no JSON" in shown(capsys, "state", "put", "chat", "plan", "{", status=2)
    assert "not a JSON object" in shown(capsys, "state", "put", "chat", "plan", "[]", status=2)
    assert "cannot be read" in shown(capsys, "state", "put", "chat", "plan", "@/nowhere", status=2)
    told(capsys, "state", "rm", "chat", "plan", "--yes")
    for command in (("rm", "--yes"), ("get",)):
        assert "no document 'plan'" in shown(capsys, "state", command[0], "chat", "plan", *command[1:], status=3)
    assert "no document 'none'" in shown(capsys, "state", "history", "chat", "none", status=3)
    assert told(capsys, "state", "ls", "chat") == []


def test_a_fork_begins_where_it_was_told_to(nats: str, tenant: str, capsys: Capture) -> None:
    write(nats, tenant, talk)
    offsets = [
        line["offset"]
        for line in map(json.loads, shown(capsys, "replay", "chat", "--speed", "0", "-o", "json").splitlines())
    ]
    assert shown(capsys, "fork", "chat", "--at", "m1", "--as", "early").splitlines()[0] == "early"
    assert [one["text"] for one in told(capsys, "show", "early")["messages"]] == ["Hello"]
    whole = told(capsys, "fork", "chat", "--at", offsets[-1])
    assert whole["source"] == "chat"
    page = told(capsys, "show", whole["session"])
    assert [one["text"] for one in page["messages"]] == ["Hello", "Hello back."]
    assert page["waiting"] == []
    assert "neither an offset nor a message" in shown(capsys, "fork", "chat", "--at", "m99", status=3)


# --- other brokers ----------------------------------------------------------------------------------------------


@pytest.mark.cluster
def test_a_cluster_is_looked_into_alike(
    shared_cluster: NatsCluster, tenant: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name_broker(monkeypatch, tmp_path, shared_cluster.url, tenant)
    write(shared_cluster.url, tenant, talk)
    assert [row["session"] for row in told(capsys, "ls")] == ["chat"]
    page = told(capsys, "show", "chat")
    assert [run["state"] for run in page["runs"]] == ["completed", "failed"]
    assert [one["text"] for one in page["messages"]] == ["Hello", "Hello back."]

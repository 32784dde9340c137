"""`fabricctl retention`, `session hold | close | delete | export | import`, `audit export`, `verify`."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from session_fabric import Fabric
from session_fabric.words.errors import SessionGone
from session_fabric_cli.archive_files import lines_of
from session_fabric_cli.main import run

from tests.support.servers import NatsNode

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def nats(shared_server: NatsNode, tenant: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture) -> str:
    """A provisioned broker, named in the environment, with a session `chat`."""
    monkeypatch.setenv("SESSION_FABRIC_NATS", shared_server.url)
    monkeypatch.setenv("SESSION_FABRIC_TENANT", tenant)
    for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert run(["stream", "provision"]) == 0

    async def talk(fabric: Fabric) -> None:
        session = fabric.session("chat")
        await session.append({"type": "message.user", "message": {"id": "m1", "role": "user", "content": "Hello"}})
        async with session.run("r1") as agent_run:
            await agent_run.text("Hello back.")
        await session.append({"type": "app.note", "text": "secret"})

    write(shared_server.url, tenant, talk)
    capsys.readouterr()
    return shared_server.url


def write(url: str, tenant: str, script: Callable[[Fabric], Coroutine[Any, Any, None]]) -> None:
    async def scripted() -> None:
        async with Fabric.connect(url, tenant=tenant, participant="agent:a", streams=4) as fabric:
            await script(fabric)

    asyncio.run(scripted())


def answered(capsys: Capture, *arguments: str, status: int = 0) -> Any:
    """Run a command and return what it printed as JSON."""
    assert run([*arguments, "-o", "json"]) == status
    told = json.loads(capsys.readouterr().out)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", key) for key in told), "programs read snake_case"
    return told


def failed(capsys: Capture, *arguments: str, status: int = 1) -> str:
    assert run([*arguments]) == status
    return capsys.readouterr().err


def test_retention_is_set_and_shown_by_tenant_and_by_session(nats: str, capsys: Capture) -> None:
    answered(capsys, "retention", "set", "--max-age", "90d", "--max-events", "10k", "--yes")
    kept = answered(capsys, "retention", "set", "--session", "chat", "--max-age", "off", "--max-bytes", "5MiB", "--yes")
    assert kept["retention"] | {"max_age_s": None, "max_events": 10_000, "max_bytes": 5 * 1024**2} == kept["retention"]
    assert kept["tenant"] == {"max_age_s": 90 * 86_400, "max_events": 10_000}
    assert answered(capsys, "retention", "show")["retention"]["max_age_s"] == 90 * 86_400
    assert run(["retention", "show", "--session", "chat"]) == 0
    assert "no limit (session)" in capsys.readouterr().out
    kept = answered(capsys, "retention", "set", "--session", "chat", "--max-age", "inherit")
    assert kept["retention"]["max_age_s"] == 90 * 86_400


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--max-age", "30"], "--max-age is '30'"),
        (["--max-age", "30s", "--yes"], "max_age_s is 30"),
        (["--max-events", "-1"], "--max-events is '-1'"),
        ([], "Nothing is to be set"),
        (["--max-idle", "60s"], "nobody can be asked"),
    ],
)
def test_what_cannot_be_set_is_named(nats: str, capsys: Capture, options: list[str], says: str) -> None:
    assert says in failed(capsys, "retention", "set", *options, status=2)


def test_what_is_held_is_not_deleted_and_who_holds_it_is_said(nats: str, capsys: Capture) -> None:
    held = answered(capsys, "session", "hold", "chat", "--hold", "case-17", "--reason", "Letter of 3 May")
    assert (held["name"], held["by"]) == ("case-17", "operator:fabricctl")
    assert "held by operator:fabricctl (case-17)" in failed(capsys, "session", "delete", "chat", "--yes")
    answered(capsys, "tenant", "hold", "--reason", "All of it")
    assert answered(capsys, "session", "release", "chat", "--hold", "case-17", "--yes")["held_by"] == []
    assert "Its tenant is held" in failed(capsys, "session", "delete", "chat", "--yes")
    assert "No hold is called 'case-17'" in failed(
        capsys, "session", "release", "chat", "--hold", "case-17", "--yes", status=3
    )
    assert "No hold is called 'zz'" in failed(capsys, "tenant", "release", "--hold", "zz", "--yes", status=3)
    answered(capsys, "tenant", "release", "--yes")
    assert answered(capsys, "session", "delete", "chat", "--yes")["complete"]


def test_a_deletion_proves_itself(nats: str, capsys: Capture) -> None:
    proof = answered(capsys, "session", "delete", "chat", "--yes", "--reason", "asked for")
    assert proof["before"]["events_ev"] >= 2
    assert (proof["remains"], proof["complete"], len(proof["hash"])) == ({}, True, 64)
    assert "no session 'chat'" in failed(capsys, "session", "delete", "chat", "--yes", status=3)


def test_a_session_is_closed(nats: str, capsys: Capture) -> None:
    assert answered(capsys, "session", "close", "chat", "--yes")["state"] == "closed"


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_a_session_is_exported_verified_and_imported(
    nats: str, capsys: Capture, tmp_path: Path, suffix: str, tenant: str
) -> None:
    file, again = tmp_path / f"chat{suffix}", tmp_path / f"again{suffix}"
    exported = answered(capsys, "session", "export", "chat", "--file", str(file), "--cursors")
    assert answered(capsys, "verify", str(file))["chain"] == exported["chain"]
    imported = answered(capsys, "session", "import", str(file), "--as", "copy")
    assert (imported["session"], imported["made"]) == ("copy", True)
    assert not answered(capsys, "session", "import", str(file), "--as", "copy")["made"]
    answered(capsys, "session", "export", "copy", "--file", str(again))
    assert "There is a session 'chat' already" in failed(capsys, "session", "import", str(file))
    more = tmp_path / f"more{suffix}"
    answered(capsys, "session", "export", "chat", "--file", str(more), "--continue", str(file))
    assert answered(capsys, "verify", str(more), "--after", str(file))["continues"] == exported["chain"]
    assert "does not continue" in failed(capsys, "verify", str(more), "--after", str(again))


def test_a_file_that_was_changed_is_refused_with_its_line(nats: str, capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "chat.jsonl"
    answered(capsys, "session", "export", "chat", "-f", str(file))
    lines = file.read_bytes().replace(b"secret", b"Secret")
    at = next(n for n, line in enumerate(lines.split(b"\n"), 1) if b"Secret" in line)
    file.write_bytes(lines)
    wrong = failed(capsys, "verify", str(file))
    assert f"Line {at} is wrong" in wrong
    assert "Use another copy of the file, or export anew." in wrong
    assert f"Line {at} is wrong" in failed(capsys, "session", "import", str(file), "--as", "copy")
    assert "no session 'copy'" in failed(capsys, "session", "show", "copy", status=3)
    packed = tmp_path / "chat.jsonl.gz"
    packed.write_bytes(b"no gzip")
    assert "cannot be unpacked" in failed(capsys, "verify", str(packed))
    assert "There is no file" in failed(capsys, "verify", str(tmp_path / "nothing"), status=2)


def test_the_file_that_is_continued_is_read_once(nats: str, capsys: Capture, tmp_path: Path) -> None:
    """So it may come from a pipe: unpacked, or fetched from where it is kept."""
    for command in (["session", "export", "chat"], ["audit", "export"]):
        first, second = tmp_path / f"{command[0]}.jsonl", tmp_path / f"{command[0]}.next.jsonl"
        answered(capsys, *command, "-f", str(first))
        reading, writing = os.pipe()
        with open(reading, "rb"), open(writing, "wb") as pipe:
            pipe.write(first.read_bytes())
            pipe.close()
            answered(capsys, *command, "-f", str(second), "--continue", f"/dev/fd/{reading}")
        answered(capsys, "verify", str(second), "--after", str(first))


def test_the_file_that_is_continued_is_not_written_over(nats: str, capsys: Capture, tmp_path: Path) -> None:
    for name, command in (("chat", ["session", "export", "chat"]), ("audit", ["audit", "export"])):
        file = tmp_path / f"{name}.jsonl"
        answered(capsys, *command, "--file", str(file))
        was = file.read_bytes()
        said = failed(capsys, *command, "--file", str(file), "--continue", str(file), status=2)
        assert "is the file that is to be continued" in said
        assert file.read_bytes() == was


def test_a_file_that_is_there_is_written_over_only_when_that_is_meant(
    nats: str, capsys: Capture, tmp_path: Path
) -> None:
    for command in (["session", "export", "chat"], ["audit", "export"]):
        file = tmp_path / "kept.jsonl"
        file.write_text("kept")
        assert f"Write over {file}: nobody can be asked" in failed(capsys, *command, "--file", str(file), status=2)
        assert file.read_text() == "kept"
        answered(capsys, *command, "--file", str(file), "--yes")
        assert answered(capsys, "verify", str(file))["chain"]
        for other in (tmp_path, Path("/dev/null")):
            assert "is no file" in failed(capsys, *command, "--file", str(other), "--yes", status=2)


def test_of_two_holds_of_one_name_the_first_stays_and_that_is_said(nats: str, capsys: Capture) -> None:
    for whose in (["session", "hold", "chat"], ["tenant", "hold"]):
        assert answered(capsys, *whose, "--reason", "First")["made"]
        assert run([*whose, "--reason", "Second", "-o", "json"]) == 0
        out, err = capsys.readouterr()
        again = json.loads(out)
        assert (again["reason"], again["made"]) == ("First", False)
        assert "There was a hold hold already: it stays as it is" in err
        assert run([*whose, "--reason", "Third"]) == 0
        out, err = capsys.readouterr()
        assert "First" in out
        assert re.search(r"since +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", out)
        assert "it stays as it is" in err
        assert run([*whose, "--reason", "Beside", "--hold", "other"]) == 0
        assert capsys.readouterr().err == ""


def test_a_directory_is_no_corrupt_file(nats: str, capsys: Capture, tmp_path: Path) -> None:
    assert "cannot be read: Is a directory" in failed(capsys, "verify", str(tmp_path), status=2)
    assert "cannot be read: Is a directory" in failed(capsys, "session", "import", str(tmp_path), status=2)


def test_a_signed_file_is_told_from_one_that_is_not(nats: str, capsys: Capture, tmp_path: Path) -> None:
    key, other = tmp_path / "key.json", tmp_path / "other.json"
    assert run(["token", "keygen", str(key)]) == 0
    assert run(["token", "keygen", str(other)]) == 0
    capsys.readouterr()
    signed, plain = tmp_path / "signed.jsonl", tmp_path / "plain.jsonl"
    answered(capsys, "session", "export", "chat", "-f", str(signed), "--sign-key", str(key))
    answered(capsys, "session", "export", "chat", "-f", str(plain))
    assert answered(capsys, "verify", str(signed), "--key", str(tmp_path / "key.public.json"))["signed_by"]
    assert "is not signed with that key" in failed(capsys, "verify", str(signed), "--key", str(other))
    assert "nobody has signed it" in failed(capsys, "verify", str(plain), "--key", str(key))
    answered(capsys, "audit", "export", "-f", str(signed), "--sign-key", str(key), "--yes")
    signed.write_bytes(b"".join(list(lines_of(signed))[:-1]))
    assert "its signature is missing" in failed(capsys, "verify", str(signed))


def test_an_audit_says_who_did_what_and_nothing_of_what_was_said(nats: str, capsys: Capture, tmp_path: Path) -> None:
    answered(capsys, "session", "hold", "chat", "--reason", "Letter")
    first, second = tmp_path / "audit.jsonl", tmp_path / "next.jsonl.gz"

    def told(file: Path) -> list[tuple[str, str, str]]:
        lines = [json.loads(line)["data"] for line in lines_of(file)]
        return [(data["session"], data["act"], data["actor"]) for data in lines if data["type"] == "act"]

    answered(capsys, "audit", "export", "--file", str(first), "--since", "2020-01-01")
    exported = answered(capsys, "verify", str(first))
    assert exported["events"] is None
    assert run(["verify", str(first)]) == 0
    assert "events" not in capsys.readouterr().out
    answered(capsys, "session", "release", "chat", "--yes")
    answered(capsys, "audit", "export", "--file", str(second), "--continue", str(first))
    ann = "operator:fabricctl"
    assert told(first) == [("chat", "session.created", "agent:a"), ("chat", "session.held", ann)]
    assert told(second) == [("chat", "session.released", ann)]
    assert answered(capsys, "verify", str(second), "--after", str(first))["continues"] == exported["chain"]
    assert b"secret" not in first.read_bytes()
    assert "--since is 'noon'" in failed(capsys, "audit", "export", "-f", str(first), "--since", "noon", status=2)


def test_a_message_is_redacted_and_what_would_go_is_shown(nats: str, capsys: Capture, tmp_path: Path) -> None:
    err = failed(capsys, "session", "redact", "chat", "m1", "--reason", "x", status=2)
    assert "1 event (" in err
    assert "1 message.user" in err
    assert "nobody can be asked" in err
    proof = answered(capsys, "session", "redact", "chat", "m1", "--reason", "A card number.", "--yes")
    assert (proof["complete"], proof["events"], proof["target"], proof["by"]) == (True, 1, "m1", "operator:fabricctl")
    assert "There is no message 'nobody'" in failed(
        capsys, "session", "redact", "chat", "nobody", "--reason", "x", "--yes", status=3
    )
    assert "There is no event 'nothing'" in failed(
        capsys, "session", "redact", "chat", "--event", "nothing", "--reason", "x", "--yes", status=3
    )
    assert "--event OFFSET" in failed(capsys, "session", "redact", "chat", "--reason", "x", "--yes", status=2)
    assert run(["session", "redact", "chat", "m1", "--reason", "x", "--yes"]) == 0
    assert "again" in capsys.readouterr().out
    file = str(tmp_path / "chat.jsonl")
    assert run(["session", "export", "chat", "--file", file]) == 0
    capsys.readouterr()
    assert answered(capsys, "verify", file)["redacted"][0]["reason"] == "A card number."
    assert run(["verify", file]) == 0
    assert "m1: A card number. (operator:fabricctl)" in capsys.readouterr().out


def test_for_which_runs_something_is_left_of_a_redaction_is_said(nats: str, tenant: str, capsys: Capture) -> None:
    async def redacted_under_a_run() -> int:
        async with Fabric.connect(nats, tenant=tenant, participant="agent:writer", streams=4) as fabric:
            session = fabric.session("chat")
            await session.checkpoints.put({("plan",): b"secret"})
            await session.state("plan").put({"a": 1})
            async with session.run("r7"):
                return await asyncio.to_thread(run, ["session", "redact", "chat", "m1", "--reason", "x", "--yes"])

    assert asyncio.run(redacted_under_a_run()) == 1
    out, err = capsys.readouterr()
    assert "run r7 of session chat" in out
    assert "1 part of checkpoints" in out
    assert "1 shared document" in out
    assert "within a minute of the end of those runs" in err
    assert answered(capsys, "session", "redact", "chat", "m1", "--reason", "x", "--yes")["complete"]


def test_a_tenant_is_deleted_once_its_name_is_confirmed(nats: str, tenant: str, capsys: Capture) -> None:
    assert "nobody can be asked" in failed(capsys, "tenant", "delete", tenant, status=2)
    run(["tenant", "hold", "--reason", "A letter", "--hold", "case-1"])
    assert "the tenant (case-1" in failed(capsys, "tenant", "delete", tenant, "--yes")
    run(["tenant", "release", "--hold", "case-1", "--yes"])
    capsys.readouterr()
    told = answered(capsys, "tenant", "delete", tenant, "--yes")
    assert (told["complete"], told["before"]["sessions"], told["remains"]) == (True, 1, {})
    assert answered(capsys, "tenant", "delete", tenant, "--yes")["before"] == {}


def test_of_a_tenant_with_streams_of_its_own_these_stay_and_are_empty(nats: str, tenant: str, capsys: Capture) -> None:
    assert run(["tenant", "streams", tenant, "--yes"]) == 0
    capsys.readouterr()
    told = answered(capsys, "tenant", "delete", tenant, "--yes")
    assert (told["complete"], told["kept"]["own_streams"] > 0) == (True, True)


def test_forced_a_tenant_is_deleted_while_a_run_is_under_way(nats: str, tenant: str, capsys: Capture) -> None:
    async def under_a_run(id: str, *more: str) -> int:
        async with (
            Fabric.connect(nats, tenant=tenant, participant="agent:writer", streams=4) as fabric,
            fabric.session("chat").run(id) as writing,
        ):
            await writing.text("Half an ")
            return await asyncio.to_thread(run, ["tenant", "delete", tenant, "--yes", *more])

    assert asyncio.run(under_a_run("r7")) == 2
    assert "r7 in session chat" in capsys.readouterr().err
    with pytest.raises(SessionGone):
        asyncio.run(under_a_run("r8", "--force"))
    capsys.readouterr()
    assert answered(capsys, "tenant", "delete", tenant, "--yes")["before"] == {}


def test_of_a_tenant_of_which_something_is_left_that_is_said(nats: str, tenant: str, capsys: Capture) -> None:
    async def unreadable(fabric: Fabric) -> None:
        await fabric.broker.bucket("sf-sessions").put(f"{tenant}.strange", b"no record")

    write(nats, tenant, unreadable)
    said = failed(capsys, "tenant", "delete", tenant, "--yes", status=2)
    assert f"records of sessions cannot be read, and may say that they are held: {tenant}.strange." in said
    told = answered(capsys, "tenant", "delete", tenant, "--yes", "--force", status=1)
    assert (told["complete"], told["remains"]) == (False, {"sessions": 1})
    assert "is left: it is not deleted" in failed(capsys, "tenant", "delete", tenant, "--yes", "--force")

"""Contexts: which of several words counts, and `fabricctl context …` on a file of the test's own."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import yaml
from session_fabric.words.errors import InvalidRequest
from session_fabric_cli.contexts import Context, Contexts, file
from session_fabric_cli.main import run
from session_fabric_cli.naming import NothingSuch
from session_fabric_cli.options import seconds, settle

Capture = pytest.CaptureFixture[str]
TWO = Contexts(
    current="here",
    contexts={
        "here": Context(nats="nats://here:4222", tenant="mine", credentials=Path("/k/here.nk")),
        "production": Context(nats="nats://prod:4222", tenant="acme", credentials=Path("/k/prod.nk"), output="yaml"),
    },
)


@pytest.fixture(autouse=True)
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for name in ("CONTEXT", "NATS", "TENANT", "NATS_CREDENTIALS"):
        monkeypatch.delenv(f"SESSION_FABRIC_{name}", raising=False)


def test_a_flag_counts_more_than_the_environment_and_that_more_than_the_context_in_use() -> None:
    environ = {"SESSION_FABRIC_TENANT": "of-env"}
    assert settle({}, TWO).tenant == "mine"
    assert settle(environ, TWO).tenant == "of-env"
    assert settle(environ, TWO, tenant="flagged").tenant == "flagged"
    assert settle({}, Contexts()).tenant == "default"


def test_a_context_that_a_flag_names_counts_more_than_the_environment() -> None:
    environ = {"SESSION_FABRIC_NATS": "nats://env:4222", "SESSION_FABRIC_NATS_CREDENTIALS": "/k/env.nk"}
    chosen = settle(environ, TWO, context="production")
    assert (chosen.nats, chosen.credentials, chosen.output) == ("nats://prod:4222", Path("/k/prod.nk"), "yaml")


def test_a_contexts_credentials_are_shown_to_its_own_broker_alone() -> None:
    elsewhere = settle({}, TWO, nats="nats://evil:4222")
    assert (elsewhere.tenant, elsewhere.credentials) == ("mine", None)
    assert settle({"SESSION_FABRIC_NATS": "nats://evil:4222"}, TWO).credentials is None
    assert settle({}, TWO, nats="nats://here:4222").credentials == Path("/k/here.nk")


def test_the_environment_chooses_a_context() -> None:
    assert settle({"SESSION_FABRIC_CONTEXT": "production"}, TWO).nats == "nats://prod:4222"


def test_a_context_that_is_none_is_told_with_those_that_were_perhaps_meant() -> None:
    with pytest.raises(NothingSuch) as raised:
        settle({}, TWO, context="prodution")
    assert "'prodution'" in raised.value.message
    assert "Did you mean production?" in raised.value.hint
    assert "fabricctl context ls" in raised.value.hint


def test_contexts_are_made_used_listed_shown_and_removed(capsys: Capture, tmp_path: Path) -> None:
    seed = tmp_path / "fabric.nk"
    seed.write_text("SU")
    assert run(["context", "set", "here", "--nats", "nats://127.0.0.1:4222"]) == 0
    assert run(["context", "set", "far", "--nats", "nats://u:secret@far:4222", "--credentials", str(seed)]) == 0
    assert stat.S_IMODE(file().stat().st_mode) == 0o600
    assert Contexts.read().current == "here"  # the first one is used at once
    capsys.readouterr()
    assert run(["context", "use", "far"]) == 0
    assert run(["context", "ls"]) == 0
    listed = capsys.readouterr().out
    assert [line.split()[:2] for line in listed.splitlines()[1:]] == [["*", "far"], ["here", "nats://127.0.0.1:4222"]]
    assert "secret" not in listed
    assert run(["context", "show", "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["broker"] == {"value": "nats://far:4222", "said_by": "context far"}
    assert run(["context", "set", "far", "--credentials", ""]) == 0
    assert run(["context", "show", "far", "-o", "yaml"]) == 0
    assert "credentials" not in yaml.safe_load(capsys.readouterr().out)
    assert run(["context", "rm", "far"]) == 0
    assert (list(Contexts.read().contexts), Contexts.read().current) == (["here"], None)


def test_where_no_broker_is_named_and_none_runs_that_is_said(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert run(["context", "show"]) == 0
    out, err = capsys.readouterr()
    assert "tenant" in out
    assert "no `fabricctl dev` runs" in err
    assert "context set NAME --nats URL" in err
    assert run(["context", "show", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["broker"] == {"value": None, "said_by": None}


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["context", "use", "her"], 3, "Did you mean here?"),
        (["context", "rm", "nowhere"], 3, "fabricctl context ls"),
        (["context", "show", "nowhere"], 3, "'nowhere'"),
        (["session", "ls", "--context", "her"], 3, "Did you mean here?"),
        (["context", "set", "other"], 2, "--nats URL"),
        (["context", "set", "a b", "--nats", "nats://x"], 2, "'a b'"),
        (["context", "set", "other", "--nats", "http://x"], 2, "'http://x'"),
        (["context", "set", "here", "--credentials", "/nowhere/fabric.nk"], 2, "/nowhere/fabric.nk"),
        (["context", "set", "here", "--tenant", "a.b"], 2, "'a.b'"),
        (["session", "ls", "--timeout", "soon"], 2, "'soon'"),
    ],
)
def test_a_wrong_context_is_told_in_a_sentence(capsys: Capture, arguments: list[str], status: int, says: str) -> None:
    assert run(["context", "set", "here", "--nats", "nats://127.0.0.1:1"]) == 0
    capsys.readouterr()
    assert run(arguments) == status
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("current = ", "not TOML"),
        ("[contexts.a]\nnatz = 'x'", "contexts.a.natz: there is no such field."),
        ("x = 1", "at x: there is no such field."),
        ("current = 1", "at current: it is no text."),
        ("[contexts.a]\nnats = 4222", "at contexts.a.nats: it is no text."),
        ("[contexts.a]\noutput = 'xml'", "at contexts.a.output: it is none of table, json and yaml."),
        ("contexts = 5", "at contexts: it is no table."),
        ("[contexts]\na = 5", "at contexts.a: it is no table."),
    ],
)
def test_a_file_of_contexts_that_is_wrong_is_told_where(capsys: Capture, text: str, says: str) -> None:
    file().parent.mkdir(parents=True)
    file().write_text(text)
    assert run(["session", "ls"]) == 2
    assert says in capsys.readouterr().err


def test_lengths_of_time_are_read_with_their_unit() -> None:
    assert [seconds(text) for text in ("500ms", "2", "1.5s", "5m", "1h")] == [0.5, 2.0, 1.5, 300.0, 3600.0]
    for wrong in ("0", "-1s", "25h", "1d", ""):
        with pytest.raises(InvalidRequest):
            seconds(wrong)

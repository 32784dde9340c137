"""What an operator types at three in the morning is there: commands, options, metrics and events of the log."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from session_fabric.words.errors import FabricError
from session_fabric_cli.main import command_line
from session_fabric_gateway.codes import STATUS
from session_fabric_gateway.metrics import Metrics
from session_fabric_gateway.settings import Limits, Settings

from tests.docs.log_events import logged
from tests.docs.pages import ROOT, coded, fences, label, page, pages
from tests.docs.test_reference import _classes, _commands, _flags, _import_all, _options

OPERATORS = ("docs/runbooks.md", "docs/operate.md", "docs/upgrading.md")
# Words of nats-server's, of events and of frames, and ends of metrics' names.
OTHERS = {
    "after_ms",
    "agent_lost",
    "allow_rollup_hdrs",
    "answer_within_s",
    "consumer_limits",
    "deny_delete",
    "deny_purge",
    "duplicate_window",
    "max_age",
    "max_bytes_required",
    "max_consumers",
    "max_file",
    "max_msg_size",
    "max_payload",
    "max_streams",
    "stalled_connections",
    "subject_delete_marker_ttl",
}
METRICS = {*Metrics().registry._names_to_collectors}
TREE: Any = command_line()
COMMANDS = dict(_commands(TREE, "fabricctl"))
FLAGS = {flag for flags in _flags().values() for flag in flags} | {"--help"}
# What stands in place of something of the reader's: DIR, FILE, `…`, <id>, [N].
_OURS = [path for path in pages() if label(path) != "CHANGELOG.md" and path.parts[-2] != "changes"]


def _called(path: Path, program: str) -> Iterator[list[str]]:
    """Yield each call of a program on a page, in words: in backticks, and in what is for a shell."""
    text = path.read_text(encoding="utf-8")
    found = [code for code in coded(text) if code.split(" ")[0] == program]
    for fence in fences(path):
        if fence.language in ("sh", "bash", "console", "shell"):
            lines = fence.text.replace("\\\n", " ").splitlines()
            found += [match[1] for line in lines if (match := re.search(rf"(?:^|[\s;(|])({program} [^#|;&)>]*)", line))]
    for code in found:
        try:
            yield shlex.split(code)
        except ValueError:
            yield code.split()


def _command(words: list[str]) -> tuple[str, Any, list[str]]:
    """Return how far the words name commands, the command there, and the words that are left."""
    at, path, left = TREE, words[0], words[1:]
    while left and hasattr(at, "commands") and not left[0].startswith("-"):
        if left[0] not in at.commands:
            break
        path, at, left = f"{path} {left[0]}", at.commands[left[0]], left[1:]
    return path, at, left


@pytest.mark.parametrize("path", _OURS, ids=label)
def test_a_command_that_a_page_names_is_there_with_its_options(path: Path) -> None:
    wrong = []
    for words in _called(path, "fabricctl"):
        name, command, left = _command(words)
        branch = hasattr(command, "commands")
        if branch and left and re.fullmatch(r"[a-z][a-z-]*", left[0]):
            wrong.append(f"{name} has no {left[0]}")
        known = {"--version", "--help"} if branch else _options(command) | {"--help"}
        said = {word.partition("=")[0] for word in left if word.startswith("--")}
        wrong += [f"{name} has no {option}" for option in said - known]
    assert wrong == []


@pytest.mark.parametrize("path", _OURS, ids=label)
def test_a_flag_of_the_gateway_that_a_page_names_is_there(path: Path) -> None:
    said = {word.partition("=")[0] for words in _called(path, "session-fabric-gateway") for word in words[1:]}
    assert {word for word in said if word.startswith("--")} - FLAGS == set()


@pytest.mark.parametrize("name", OPERATORS)
def test_an_option_that_stands_alone_is_one_of_ours(name: str) -> None:
    options = FLAGS.union(*map(_options, COMMANDS.values()))
    said = {code.split()[0].partition("=")[0] for code in coded(page(name)) if code.startswith("--")}
    assert said - options == set()


@pytest.mark.parametrize("path", _OURS, ids=label)
def test_a_metric_that_a_page_names_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    # A module's name goes on with a dot, a package's with a slash.
    said = {match[1] for match in re.finditer(r"(?<![\w/.])(session_fabric_[a-z0-9_]+)(?![\w./*-])", text)}
    packages = {found.name for found in ROOT.glob("*/src/*")}
    assert said - METRICS - packages == set()


@pytest.mark.parametrize("name", OPERATORS)
def test_an_event_of_the_log_that_a_page_names_is_written(name: str) -> None:
    """Whoever looks for it in a log that never has it concludes what is wrong."""
    _import_all()
    known = {*logged(), *STATUS, *(cls.code for cls in _classes(FabricError))}
    known |= {*Settings.model_fields, *Limits.model_fields}
    words = {code for code in coded(page(name)) if re.fullmatch(r"[a-z]+(_[a-z]+)+", code)}
    assert {word for word in words - known - OTHERS if not word.startswith(("session_fabric", "lame_duck"))} == set()
    for line in page(name).splitlines():
        of_log = re.search(r"\blog: (.*)", line) or re.search(r"(`[a-z_]+`(?: or `[a-z_]+`)*) in the log", line)
        if of_log is not None:
            said = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", of_log[1].partition(";")[0]))
            assert said - logged().keys() == set(), line

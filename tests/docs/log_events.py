"""What our sources log, as their code says it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")


class Logged(NamedTuple):
    """An event of the log, wherever it is written. `fields`: those that some place has."""

    levels: frozenset[str]
    fields: frozenset[str]


@cache
def logged() -> dict[str, Logged]:
    """Return every event by its name. Raises `ValueError` for a call that does not say its event and fields itself."""
    found: dict[str, Logged] = {}
    for name, level, fields in _all():
        before = found.get(name, Logged(frozenset(), frozenset()))
        found[name] = Logged(before.levels | {level}, before.fields | fields)
    return found


def _all() -> Iterator[tuple[str, str, frozenset[str]]]:
    for member in ("fabric", "gateway", "cli"):
        for path in sorted((ROOT / member / "src").rglob("*.py")):
            for call in _calls(ast.parse(path.read_text())):
                assert isinstance(call.func, ast.Attribute)
                level = "error" if call.func.attr == "exception" else call.func.attr
                fields = {field.arg for field in call.keywords} | (
                    {"exc_info"} if call.func.attr == "exception" else set()
                )
                event = call.args[0].value if len(call.args) == 1 and isinstance(call.args[0], ast.Constant) else None
                if not isinstance(event, str) or None in fields:
                    raise ValueError(f"{path}:{call.lineno} says its event or its fields in another way")
                yield event, level, frozenset("exception" if f == "exc_info" else str(f) for f in fields)


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in LEVELS
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "log"
        ):
            yield node

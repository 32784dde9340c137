"""What the gateway's source says that it sends: each frame with a name of its own, and the fields that stand there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import session_fabric_gateway
from session_fabric.absences import Absence
from session_fabric.rules.states import State

_ROOT: Final = Path(session_fabric_gateway.__file__).parent
# They speak other protocols.
_OTHERS: Final = {"demo", "dialects", "durable", "natives", "tokens"}
# What sends a frame, and what it puts on by itself on a socket. `sse_block` is not one: there are no numbers in SSE.
_SENDERS: Final = {"say": (), "op_frame": (), "tell": (), "said": ("sub",), "_say": ("sub",), "Answer": ("id",)}
# What stands for several fields; `?` at the end: not always.
_SPREADS: Final = {
    "told._asdict()": Absence._fields,
    "state.plain()": State._fields,
    "facts": ("code", "message", "hint?", "retryable?", "…?"),
    "{**facts, 'session': self.session.name}": ("code", "message", "hint?", "…?", "session"),
    "said.fields": ("actor", "device", "…?"),
}


class Said(NamedTuple):
    """A frame at one place of the source. `fields`: those that are said there always; `some`: those that are not."""

    op: str
    fields: frozenset[str]
    some: frozenset[str]


def frames() -> list[Said]:
    """Return every frame with a literal `op` that the gateway's source sends."""
    paths = [path for path in sorted(_ROOT.rglob("*.py")) if not _OTHERS & set(path.relative_to(_ROOT).parts)]
    return [said for path in paths for node in ast.walk(ast.parse(path.read_text())) for said in _said(node)]


def _said(node: ast.AST) -> Iterator[Said]:
    match node:
        case ast.Dict(keys=[ast.Constant(value="op"), *keys], values=[ast.Constant(value=str(op)), *values]):
            yield _frame(op, _of_dict(keys, values))
        case ast.Call(func=func, args=[ast.Constant(value=str(op)), *rest], keywords=keywords):
            name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
            if name in _SENDERS:
                names = [*_SENDERS[name], *(part for each in keywords for part in _of_keyword(each))]
                for given in rest[:1]:
                    names += _of_dict(given.keys, given.values) if isinstance(given, ast.Dict) else _spread(given)
                yield _frame(op, names)


def _of_keyword(keyword: ast.keyword) -> Iterator[str]:
    yield from _spread(keyword.value) if keyword.arg is None else [keyword.arg]


def _of_dict(keys: list[ast.expr | None], values: list[ast.expr]) -> list[str]:
    found: list[str] = []
    for key, value in zip(keys, values, strict=True):
        found += [key.value] if isinstance(key, ast.Constant) and isinstance(key.value, str) else _spread(value)
    return found


def _spread(value: ast.expr) -> tuple[str, ...]:
    """Return what is not written out: of what is not known here there may be anything."""
    return tuple(_SPREADS.get(ast.unparse(value), ("…?",)))


def _frame(op: str, names: list[str]) -> Said:
    some = frozenset(name[:-1] for name in names if name.endswith("?"))
    return Said(op, frozenset(names) - {f"{name}?" for name in some}, some)

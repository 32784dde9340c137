"""What a token lets its bearer do: operations by session. Pure, and asked for each operation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

from session_fabric.rules.controls import ACTIONS
from session_fabric.words.errors import InvalidRequest

MOST_PATTERNS: Final = 64
MOST_OPERATIONS: Final = 32
# A name as words.names has it, or the beginning of one with a star behind it, or the star alone.
_PATTERNS: Final = {
    # With a slash before it: a durable stream's path, or the beginning of one.
    "session": re.compile(r"[A-Za-z0-9][A-Za-z0-9_:@~-]{0,127}\*?|\*|/\*|/[^\x00-\x20\x7f*\ud800-\udfff]{1,512}\*?"),
    "document": re.compile(r"[A-Za-z0-9:.~@=-][A-Za-z0-9_:.~@=-]{0,127}\*?|\*"),
}
_STATE: Final = "state:"
_CONTROLS: Final = tuple(f"control:{action}" for action in ACTIONS)
OPERATIONS: Final = frozenset(
    {
        *("read", "append", "create", "answer", "presence", "signal", "cursor", "invite", "handoff", "supervise"),
        *("policy", "erase", "redact", "hold", "export", "control:*", *_CONTROLS, "*"),
    }
)
# What a role may not do the fabric refuses all the same: a user who may take part in hand-overs cannot take the floor.
_TAKING_PART: Final = (
    *("read", "append", "create", "answer", "presence", "signal", "cursor", "invite", "handoff"),
    *("control:*", "state:*"),
)
_RUNNING: Final = (*_TAKING_PART, "supervise", "policy")
# Nobody erases, redacts, holds or exports unless a token says so.
ROLE_DEFAULTS: Final[Mapping[str, tuple[str, ...]]] = {
    "user": _TAKING_PART,
    "agent": (*_TAKING_PART, "policy"),
    "operator": _RUNNING,
    "supervisor": _RUNNING,
    "service": _RUNNING,
}


class Pattern(NamedTuple):
    """A name, or all names that begin so."""

    text: str
    prefix: bool

    def __str__(self) -> str:
        return f"{self.text}*" if self.prefix else self.text

    def fits(self, name: str) -> bool:
        return name.startswith(self.text) if self.prefix else name == self.text


class Rule(NamedTuple):
    """What is granted in the sessions of a pattern."""

    sessions: Pattern
    operations: frozenset[str]
    documents: tuple[Pattern, ...]

    def allows(self, operation: str) -> bool:
        granted = self.operations
        if operation in granted or "*" in granted:
            return True
        if operation.startswith("control:"):
            return "control:*" in granted
        if operation.startswith(_STATE):
            document = operation[len(_STATE) :]
            return any(pattern.fits(document) for pattern in self.documents)
        return False


@dataclass(frozen=True, slots=True)
class Grants:
    """What one participant may do. `mine_only`: in sessions that it takes part in, and in no others.

    `without`: sessions in which nothing is granted, whatever the rules say.
    """

    rules: tuple[Rule, ...]
    mine_only: bool = False
    without: frozenset[str] = frozenset()

    def allows(self, session: str, operation: str) -> bool:
        """Say whether an operation is granted in a session: by any of the rules that the session fits."""
        if session in self.without:
            return False
        # Asked for each operation: a loop takes half of what a generator does.
        for rule in self.rules:  # noqa: SIM110
            if rule.sessions.fits(session) and rule.allows(operation):
                return True
        return False

    def plain(self) -> dict[str, list[str]]:
        """Return the claim that says this much."""
        return {str(rule.sessions): sorted(rule.operations) for rule in self.rules}

    def patterns_for(self, operation: str) -> tuple[Pattern, ...]:
        """Return the sessions in which an operation is granted."""
        return tuple(rule.sessions for rule in self.rules if rule.allows(operation))


@lru_cache(maxsize=32)
def of_role(role: str, *, mine_only: bool = False) -> Grants:
    """Return what a role is granted where its token names no sessions."""
    return Grants((_rule("*", ROLE_DEFAULTS[role]),), mine_only)


def parse(claim: object, *, mine_only: bool = False) -> Grants:
    """Read the claim `sessions`: `{"<session or prefix*>": ["read", …], …}`. Raises `InvalidRequest`."""
    if not isinstance(claim, dict) or not claim:
        raise _wrong("The claim `sessions` is not an object that names sessions")
    if len(claim) > MOST_PATTERNS:
        raise _wrong(f"The claim `sessions` has {len(claim)} patterns; {MOST_PATTERNS} is the most")
    return Grants(tuple(_rule(pattern, operations) for pattern, operations in claim.items()), mine_only)


def _rule(pattern: Any, operations: object) -> Rule:
    sessions = _pattern(pattern, "session")
    if not isinstance(operations, Sequence) or isinstance(operations, str) or not operations:
        raise _wrong(f"The claim `sessions` has no list of operations for {pattern!r:.80}")
    if len(operations) > MOST_OPERATIONS:
        raise _wrong(
            f"The claim `sessions` has {len(operations)} operations for {pattern!r:.80}; {MOST_OPERATIONS} is the most"
        )
    documents = []
    for operation in operations:
        if isinstance(operation, str) and operation.startswith(_STATE):
            documents.append(_pattern(operation[len(_STATE) :], "document"))
        elif not isinstance(operation, str) or operation not in OPERATIONS:
            raise InvalidRequest(
                f"The claim `sessions` grants {operation!r:.80}, which is no operation.",
                hint=f"Use {', '.join(sorted(OPERATIONS))} or state:<document>.",
            )
    return Rule(sessions, frozenset(operations), tuple(documents))


def _pattern(text: object, what: str) -> Pattern:
    if not isinstance(text, str) or _PATTERNS[what].fullmatch(text) is None:
        raise InvalidRequest(
            f"The claim `sessions` has {text!r:.80} for a {what}'s name.",
            hint="Use a name, or the beginning of one with a single * at its end.",
        )
    return Pattern(text.removesuffix("*"), text.endswith("*"))


def _wrong(message: str) -> InvalidRequest:
    return InvalidRequest(f"{message}.", hint='For example {"chat-42":["read","append"],"team-*":["read"]}.')


# For development on one's own machine.
EVERYTHING: Final = parse({"*": ["*"]})

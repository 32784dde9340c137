"""Subscriptions on durable streams: which streams they are on, when somebody is woken, who holds the work. Pure.

The rules are those of the Durable Streams Protocol 1.0 (sections 6 and 7). Time comes in as milliseconds since 1970.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from session_fabric.words.positions import ZERO

MOST_LINKS: Final = 1000
# Retries of a webhook: after 1 s, doubled each time up to 60 s, each a fifth more or less at random.
_FIRST_RETRY_MS: Final = 1000
_MOST_RETRY_MS: Final = 60_000
_JITTER: Final = 0.2

State = Literal["idle", "waking", "held"]


class Link(BaseModel):
    """One stream of a subscription: named, matched by its pattern, or both. `acked`: the last offset worked off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    named: bool = False
    matched: bool = False
    acked: str = str(ZERO)


class Wake(BaseModel):
    """A subscription as its bucket keeps it.

    `waking`: somebody was told, and has until `until_ms` (None: for ever) to take the work; `held`: `holder` has it
    until then. `snapshot`: how far each stream was when it was told of. `next_ms`: not to be told again before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str
    id: str
    maker: str
    type: Literal["webhook", "pull-wake"]
    pattern: str | None = None
    webhook: str | None = None
    wake_stream: str | None = None
    lease_ttl_ms: int = 30_000
    description: str | None = None
    base: str = ""
    made_ms: int = 0
    links: Mapping[str, Link] = {}
    state: State = "idle"
    generation: int = 0
    wake_id: str | None = None
    holder: str | None = None
    until_ms: int | None = None
    snapshot: Mapping[str, str] = {}
    failures: int = 0
    next_ms: int = 0

    def matches(self, path: str) -> bool:
        return self.pattern is not None and _glob(self.pattern).fullmatch(path) is not None

    def wants(self, path: str) -> bool:
        return path in self.links or self.matches(path)

    def same_as(self, other: Wake, streams: Iterable[str]) -> bool:
        """Say whether another is asked for in the same words. `streams`: those that it names."""
        named = sorted(path for path, link in self.links.items() if link.named)
        return self.words() == other.words() and named == sorted(set(streams))

    def words(self) -> tuple[object, ...]:
        return (self.type, self.pattern, self.webhook, self.wake_stream, self.lease_ttl_ms, self.description)

    def due(self, now_ms: int) -> bool:
        """Say whether a lease has ended, or a retry is due."""
        if self.state != "idle":
            return self.until_ms is not None and now_ms >= self.until_ms
        return self.failures > 0 and now_ms >= self.next_ms


def parse(value: bytes) -> Wake | None:
    """Read a subscription as its bucket keeps it; None for what cannot be read: of a later version, or a stranger's."""
    try:
        return Wake.model_validate_json(value)
    except ValidationError:
        return None


@lru_cache(maxsize=1024)
def _glob(pattern: str) -> re.Pattern[str]:
    """`*` is one segment of a path, `**` any number of them."""
    out = []
    segments = pattern.split("/")
    for at, segment in enumerate(segments):
        last = at == len(segments) - 1
        if segment == "**":
            out.append(".*" if last else "(?:[^/]+/)*")
        else:
            out.append("[^/]*".join(re.escape(text) for text in segment.split("*")) + ("" if last else "/"))
    return re.compile("".join(out), re.DOTALL)


def linked(wake: Wake, path: str, at: str, *, named: bool = False) -> Wake:
    """Put a stream on a subscription, from an offset on; one that is on it stays where it is."""
    link = wake.links.get(path) or Link(acked=at)
    link = link.model_copy(update={"named": link.named or named, "matched": wake.matches(path)})
    return wake.model_copy(update={"links": {**wake.links, path: link}})


def unnamed(wake: Wake, path: str) -> Wake:
    """Take back that a stream was named; what the pattern matches stays."""
    link = wake.links.get(path)
    if link is None or not link.named:
        return wake
    links = {name: one for name, one in wake.links.items() if name != path}
    if link.matched:
        links[path] = link.model_copy(update={"named": False})
    return wake.model_copy(update={"links": links})


def pending(wake: Wake, tails: Mapping[str, str]) -> list[str]:
    """Return the streams with something behind what was worked off."""
    return [path for path, link in wake.links.items() if tails.get(path, "") > link.acked]


def freed(wake: Wake, now_ms: int) -> Wake:
    """End a lease whose time has passed."""
    if wake.state == "idle" or wake.until_ms is None or now_ms < wake.until_ms:
        return wake
    return idle(wake)


def idle(wake: Wake) -> Wake:
    """Let go of the work: what comes from its holder from now on is of an old generation."""
    return wake.model_copy(update={"state": "idle", "wake_id": None, "holder": None, "until_ms": None, "snapshot": {}})


def woken(wake: Wake, wake_id: str, tails: Mapping[str, str], now_ms: int) -> Wake:
    """Begin a new generation and tell somebody: a webhook has the lease at once, a worker when it claims."""
    until = now_ms + wake.lease_ttl_ms if wake.type == "webhook" else None
    return wake.model_copy(
        update={
            "state": "waking",
            "generation": wake.generation + 1,
            "wake_id": wake_id,
            "holder": None,
            "until_ms": until,
            "snapshot": {path: tails[path] for path in wake.links if path in tails},
        }
    )


def claimed(wake: Wake, worker: str, now_ms: int) -> Wake:
    return wake.model_copy(update={"state": "held", "holder": worker, "until_ms": now_ms + wake.lease_ttl_ms})


def extended(wake: Wake, now_ms: int) -> Wake:
    return wake.model_copy(update={"until_ms": now_ms + wake.lease_ttl_ms})


def acked(wake: Wake, acks: Sequence[tuple[str, str]]) -> Wake:
    """Note what was worked off; never less than before."""
    links = dict(wake.links)
    for path, offset in acks:
        link = links.get(path)
        if link is not None and offset > link.acked:
            links[path] = link.model_copy(update={"acked": offset})
    return wake.model_copy(update={"links": links, "failures": 0, "next_ms": 0})


def failed(wake: Wake, now_ms: int, luck: float) -> Wake:
    """Note that a webhook did not take its wake. `luck`: 0 to 1, at random."""
    failures = wake.failures + 1
    pause = min(_MOST_RETRY_MS, _FIRST_RETRY_MS * 2 ** min(failures - 1, 10))
    pause = int(pause * (1 + _JITTER * (2 * luck - 1)))
    return idle(wake).model_copy(update={"failures": failures, "next_ms": now_ms + pause})

"""Connections that have not said who they are: how many there may be, and how long each may take. Rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

# Why a connection is cut without a word; the labels of a metric.
Cut = Literal[
    "address_connections",
    "address_strangers",
    "gateway_strangers",
    "handshake",
    "slow_head",
    "long_head",
    "slow_body",
    "slow_reader",
]

# What may come before a request's head is whole, or before hello: heads of browsers have 1 to 4 KiB.
MOST_HEAD_BYTES: Final = 64 * 1024

One = TypeVar("One")


class Strangers(Generic[One]):
    """All of them, oldest first. Where there are too many the oldest goes: who is in earnest takes milliseconds."""

    def __init__(self, of_address: int | None, in_all: int | None) -> None:
        self._of_address = of_address
        self._in_all = in_all
        self._all: dict[One, str] = {}
        self._by_address: dict[str, dict[One, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, one: One) -> bool:
        return one in self._all

    def add(self, one: One, address: str) -> tuple[One, Cut] | None:
        """Take one in; return which must go for it, and why."""
        self.remove(one)
        here = self._by_address.setdefault(address, {})
        goes: tuple[One, Cut] | None = None
        if self._of_address is not None and len(here) >= self._of_address:
            goes = next(iter(here)), "address_strangers"
        elif self._in_all is not None and len(self._all) >= self._in_all:
            goes = next(iter(self._all)), "gateway_strangers"
        if goes is not None:
            self.remove(goes[0])
            here = self._by_address.setdefault(address, {})
        self._all[one] = address
        here[one] = None
        return goes

    def remove(self, one: One) -> str:
        """It has said who it is, or has left; return its address, if it was here."""
        address = self._all.pop(one, None)
        if address is not None:
            here = self._by_address[address]
            del here[one]
            if not here:
                del self._by_address[address]
        return address or ""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a client must be. `head_s`: for a request's head, and for a stranger's next request.

    A body, and what is answered, must be taken at `bytes_per_s` on average, and has `grace_s` on top.
    """

    head_s: float = 10.0
    grace_s: float = 10.0
    bytes_per_s: float = 16 * 1024


@dataclass(slots=True)
class Progress:
    """How far a connection is. Times are seconds of the loop's clock.

    `since`: the request under way began, or the one before ended. `head`: the first byte of a head has come, then.
    `unsent`: some of an answer waits to be taken since then, when `sent` bytes of it had been.
    """

    since: float
    busy: bool = False
    head: float | None = None
    unsent: float | None = None
    sent: int = 0

    def began(self, now: float) -> None:
        self.since, self.busy, self.head, self.unsent = now, True, None, None

    def ended(self, now: float) -> None:
        self.since, self.busy, self.unsent = now, False, None

    def heard(self, now: float) -> None:
        """Bytes have come."""
        if not self.busy and self.head is None:
            self.head = now

    def check_head(self, now: float, pace: Pace, *, stranger: bool) -> Cut | None:
        """Between two requests."""
        if self.head is not None and now - self.head >= pace.head_s:
            return "slow_head"
        return "slow_head" if stranger and now - self.since >= pace.head_s else None

    def check_body(self, now: float, pace: Pace, received: int) -> Cut | None:
        """While a request's body comes, of which so much is there."""
        return "slow_body" if now - self.since >= pace.grace_s + received / pace.bytes_per_s else None

    def check_answer(self, now: float, pace: Pace, *, written: int, waiting: int) -> Cut | None:
        """While an answer is sent: so much was `written`, of which so much is `waiting` to be taken."""
        sent = written - waiting
        if not waiting:
            self.unsent = None
        elif self.unsent is None:
            self.unsent, self.sent = now, sent
        elif now - self.unsent >= pace.grace_s + (sent - self.sent) / pace.bytes_per_s:
            return "slow_reader"
        return None

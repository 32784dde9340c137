"""What is heard as it happens: subscriptions that end together, and a session's events as they are republished."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from session_fabric.jetstream.reading import stored_record
from session_fabric.jetstream.receive import Connection, Tap
from session_fabric.ports import Stretch
from session_fabric.words.subjects import Kind
from session_fabric.words.wire import Record


class Tapped:
    """A live subscription."""

    def __init__(self, connection: Connection, *numbers: int) -> None:
        self._connection = connection
        self._numbers = numbers

    async def close(self) -> None:
        for number in self._numbers:
            await self._connection.untap(number)


async def hear(connection: Connection, subjects: Sequence[str], arrived: Tap) -> Tapped:
    """Call `arrived` with what comes at any of these subjects; return when the broker has taken in all of them.

    Over one connection it sends them in the order of the stream. Raises `BrokerUnavailable`, nothing left behind.
    """
    *first, last = subjects
    taps: list[int] = []
    try:
        for subject in first:
            taps.append(await connection.tap(subject, arrived))
        taps.append(await connection.tap_now(last, arrived))
    except BaseException:
        await Tapped(connection, *taps).close()
        raise
    return Tapped(connection, *taps)


def live_subjects(to: Stretch, kinds: Sequence[Kind]) -> list[str]:
    """Return where a session is republished: one subject a kind, or one for all."""
    return [to.place.live_filter(kind) for kind in kinds] or [to.place.live_filter()]


def takes_records(to: Stretch, sink: Callable[[Record], None]) -> Tap:
    """Return what makes records of what comes there."""
    segment = to.segment

    def arrived(_: bytes, __: bytes, head: bytes, payload: bytes) -> None:
        sink(stored_record(segment, head, payload))

    return arrived

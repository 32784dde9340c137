"""What comes in over a link, frame by frame, and whether who sends it is still there."""

from __future__ import annotations

import time
from typing import Final

from aiohttp import WSMsgType

from session_fabric_gateway import codes
from session_fabric_gateway.accounts import Meter
from session_fabric_gateway.codes import Close
from session_fabric_gateway.framing import PING
from session_fabric_gateway.links import Link
from session_fabric_gateway.outbox import Outbox
from session_fabric_gateway.rota import Rota
from session_fabric_gateway.vitals import Verdict, Vitals

# One that sends too much is not read on for this long at most: it must be asked, and answer, in between.
_LONGEST_PAUSE_S: Final = 2.0


class Inbound:
    """The frames of one peer. `meter`: who pays for them, once that is known; who is over a rate waits."""

    __slots__ = ("_link", "_pause_s", "_rota", "_vitals", "meter")

    def __init__(self, link: Link, rota: Rota, vitals: Vitals, meter: Meter | None = None) -> None:
        self.meter = meter
        self._link = link
        self._rota = rota
        self._vitals = vitals
        self._pause_s = 0.0

    async def frame(self) -> bytes | Close | None:
        """Return the next text frame; why the peer has to go where it breaks the rules; None: there will be none."""
        while True:
            if self._pause_s:
                pause_s, self._pause_s = min(self._pause_s, _LONGEST_PAUSE_S), 0.0
                await self._link.pause(pause_s)
            message = await self._link.receive()
            await self._rota.turn()
            now = time.monotonic()
            self._vitals.heard(now)
            if message.type is WSMsgType.TEXT:
                data: str | bytes | bytearray = message.data
                data = data.encode() if isinstance(data, str) else bytes(data)
                if self.meter is not None:
                    self.pause(self.meter.owe("bytes", now, len(data)))
                return data
            if self.meter is not None:
                self.pause(self.meter.owe("operations", now))
            if message.type is WSMsgType.PING:
                await self._link.pong(message.data)
            elif message.type is WSMsgType.BINARY:
                return codes.BAD_FRAME
            elif message.type is not WSMsgType.PONG:
                return None

    def pause(self, seconds: float) -> None:
        """Take nothing in for so long, from the next frame on."""
        self._pause_s = max(self._pause_s, seconds)


def judged(vitals: Vitals, outbox: Outbox, now: float, now_ms: int) -> Verdict:
    """Say what is due of a peer, by what it has said and what it takes of what we send."""
    stalled = outbox.stalled
    return vitals.check(now, now_ms, stalled=stalled, unread=outbox.unread_bytes if stalled else 0)


def look_after(vitals: Vitals, outbox: Outbox, now: float, now_ms: int) -> Close | None:
    """Ping a peer that has been silent; return why it has to go, None where it may stay."""
    verdict = judged(vitals, outbox, now, now_ms)
    if isinstance(verdict, Close):
        return verdict
    if verdict == "ping":
        outbox.put(PING)
    return None

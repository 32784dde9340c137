"""aiohttp's socket, closed our way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from aiohttp import WSCloseCode, web
from session_fabric.words.errors import InvalidRequest

from session_fabric_gateway import codes
from session_fabric_gateway.codes import Close

# It warns of each handshake that names other protocols than ours, and repeats what a stranger has named, a token for
# example, as often as he comes.
logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)

# How long a client may take to close, too.
CLOSE_WITHIN_S: Final = 2.0
# What aiohttp closes with where its parser refuses a frame, and we do.
_REFUSED: Final[Mapping[int, Close]] = {
    WSCloseCode.MESSAGE_TOO_BIG: codes.BAD_FRAME,
    WSCloseCode.INVALID_TEXT: codes.BAD_FRAME,
    WSCloseCode.PROTOCOL_ERROR: codes.NO_FRAME,
}


def check_handshake(headers: Mapping[str, str]) -> None:
    """Raise `InvalidRequest` for what asks for a socket in no letters: aiohttp repeats it in its own refusal, and
    fails."""
    for name in ("Connection", "Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version"):
        if not headers.get(name, "").isascii():
            raise InvalidRequest(f"The header {name} is not ASCII.", hint="Ask for a WebSocket as RFC 6455 says.")


class Socket(web.WebSocketResponse):
    """aiohttp's socket with our close codes for what its parser refuses: a frame of over `max_frame_bytes`, too.

    `on_refused` is called before such a one is told: nothing may be sent behind the close frame.
    """

    def __init__(self, protocols: Sequence[str], max_frame_bytes: int) -> None:
        super().__init__(
            protocols=tuple(protocols),
            compress=False,
            decode_text=False,
            autoping=False,
            max_msg_size=max_frame_bytes + 1,  # aiohttp refuses what has as many bytes as that (3.14)
            timeout=1.0,
        )
        self.on_refused: Callable[[Close], None] | None = None

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = False) -> bool:
        refused = _REFUSED.get(code)
        if refused is not None:
            return await self._refuse(refused)
        # Never drain: a peer that does not read would hold us.
        try:
            return await super().close(code=code, message=message, drain=False)
        finally:
            # Of a client whose own close did not come. It holds the frames through which it went, and they hold us:
            # what many leave behind would be the collector's, which stops everybody.
            self._exception = None

    async def _refuse(self, close: Close) -> bool:
        if self.closed:
            return False
        self._set_closed()  # whoever else closes it now has nothing to say any more
        if self.on_refused is not None:
            self.on_refused(close)
        assert self._writer is not None
        try:
            with suppress(ConnectionError):
                await self._writer.close(close.code, close.reason)
            # What is still coming is read and dropped: closed at once, TCP would reset and take our reason with it.
            # The client's own end of it cancels this.
            await asyncio.sleep(CLOSE_WITHIN_S)
        finally:
            self._parser = None
            self._close_transport()
        return True

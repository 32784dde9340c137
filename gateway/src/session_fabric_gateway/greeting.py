"""Hello: who a connection is for, or why it is closed."""

from __future__ import annotations

from typing import NamedTuple

from aiohttp import web
from session_fabric import FabricError
from session_fabric.words.errors import Denied, Draining, KeysUnavailable
from session_fabric.words.names import check_id

from session_fabric_gateway import codes, operations
from session_fabric_gateway.auth import Grant
from session_fabric_gateway.codes import Close
from session_fabric_gateway.credentials import token_of
from session_fabric_gateway.gateway import Gateway
from session_fabric_gateway.operations import Hello


class Greeting(NamedTuple):
    """What a valid hello says. `device` None: it names none."""

    grant: Grant
    device: str | None
    compact: bool


class Rejected(Exception):
    """The first frame ends the connection; `error` is told first, if there is one."""

    def __init__(self, close: Close, error: FabricError | None = None) -> None:
        super().__init__(close.reason)
        self.close = close
        self.error = error


async def greet(gateway: Gateway, request: web.Request | None, data: bytes) -> Greeting:
    """Read the first frame; `request` may bring the token in its place. Raises `Rejected`."""
    try:
        hello = operations.parse(data, {}).operation
        if not isinstance(hello, Hello):
            raise Rejected(codes.NO_HELLO)
        gateway.refuse_while_draining()
        token = hello.token or (None if request is None else token_of(gateway, request))
        grant = await gateway.authenticator.authenticate(token)
        device = None if hello.device is None else check_id(hello.device, "device")
    except FabricError as error:
        raise _rejected(data, error) from error
    return Greeting(grant, device, hello.deltas == "compact")


def _rejected(data: bytes, error: FabricError) -> Rejected:
    if isinstance(error, Denied):
        return Rejected(codes.TOKEN_EXPIRED if error.code == "token_expired" else codes.UNAUTHENTICATED, error)
    if isinstance(error, KeysUnavailable):
        return Rejected(codes.KEYS_UNAVAILABLE, error)
    if isinstance(error, Draining):
        return Rejected(codes.STOPPING, error)
    return Rejected(codes.NO_HELLO, error) if is_utf8(data) else Rejected(codes.BAD_FRAME)


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True

"""Close codes of the socket, and the HTTP status of each error (docs/protocol.md section 7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from session_fabric import State
from session_fabric.words.errors import Conflict, FabricError, InvalidInput

SUBPROTOCOL: Final = "session-fabric.v1"
# The same for several devices over one socket.
LANES: Final = "session-fabric.v1.lanes"


class Close(NamedTuple):
    """Why a connection is closed. Codes from 4500 on tell the client to give up."""

    code: int
    reason: str


# A client reconnects and resumes on codes below 4500, and gives up on the rest.
# The split is centrifuge's: github.com/centrifugal/centrifuge, disconnect.go
NO_FRAME: Final = Close(1002, "not what RFC 6455 lets a client send: its frames are masked, for one")
STOPPING: Final = Close(1001, "the gateway stops")
DEFECT: Final = Close(1011, "a defect of the gateway")
SLOW_CONSUMER: Final = Close(4408, "slow consumer: nothing was read for too long")
SILENT: Final = Close(4409, "heartbeat missed")
TOKEN_EXPIRED: Final = Close(4410, "token expired")
RATE_LIMITED: Final = Close(4411, "too much in too short a time: come back later")
TOKEN_REVOKED: Final = Close(4412, "token revoked")
KEYS_UNAVAILABLE: Final = Close(4413, "tokens cannot be verified for now")
ANOTHERS: Final = Close(4414, "the other lanes are another participant's")
NO_HELLO: Final = Close(4500, "the first frame must be hello, in time")
UNAUTHENTICATED: Final = Close(4501, "unauthenticated")
BAD_FRAME: Final = Close(4502, "a frame must be UTF-8 text of at most max_frame_bytes")
TOO_MANY_REFUSED: Final = Close(4503, "too many refused frames in a row")
NO_SUBPROTOCOL: Final = Close(4504, f"the subprotocol {SUBPROTOCOL} was not offered")

STATUS: Final[Mapping[str, int]] = {
    "invalid_request": 400,
    "invalid_name": 400,
    "invalid_event": 400,
    "invalid_offset": 400,
    "offset_foreign": 409,
    "offset_gone": 410,
    "too_large": 413,
    "id_conflict": 409,
    "already_open": 409,
    "not_open": 409,
    "conflict": 409,
    "already_answered": 409,
    "already_claimed": 409,
    "request_closed": 409,
    "request_not_found": 404,
    "not_holder": 409,
    "run_closed": 409,
    "run_fenced": 409,
    "run_exists": 409,
    "session_not_found": 404,
    "session_gone": 410,
    "session_closed": 409,
    "session_exists": 409,
    "session_held": 409,
    "hold_not_found": 404,
    "message_open": 409,
    "message_not_found": 404,
    "event_not_found": 404,
    "corrupt": 400,
    "stream_not_found": 404,
    "stream_gone": 410,
    "stream_exists": 409,
    "stream_closed": 409,
    "content_mismatch": 409,
    "sequence_regressed": 409,
    "producer_fenced": 403,
    "producer_gap": 409,
    "limit_exceeded": 429,
    "rate_limited": 429,
    "too_slow": 408,
    "unauthenticated": 401,
    "token_expired": 401,
    "forbidden": 403,
    "not_found": 404,
    "broker_unavailable": 503,
    "keys_unavailable": 503,
    "draining": 503,
    "broker_too_old": 500,
    "broker_incompatible": 500,
    "format_too_new": 500,
    "unreadable": 500,
    "broker_refused": 500,
    "key_missing": 500,
    "internal": 500,
}
_RETRYABLE: Final = frozenset({"limit_exceeded", "internal"})


class NotFound(InvalidInput):
    code = "not_found"


class AlreadyOpen(FabricError):
    """This connection has the session open; `facts["sub"]`."""

    code = "already_open"


class NotOpen(FabricError):
    code = "not_open"


class TooSlow(FabricError):
    """What was sent came too slowly."""

    code = "too_slow"
    retryable = True


class Defect(FabricError):
    """Stands in for an exception that nobody expected; it has been logged."""

    code = "internal"
    retryable = True


def facts_of(error: FabricError) -> dict[str, Any]:
    """Return what error frames and problem documents say about an error; of a lost compare-and-set also what is
    there now, so that this is for who asked, never for a log."""
    code = error.code if error.code in STATUS else "internal"
    known: dict[str, Any] = {
        "code": code,
        "message": error.message,
        "retryable": error.retryable or code in _RETRYABLE,
        "hint": error.hint,
    }
    if isinstance(error, Conflict) and isinstance(error.current, State):
        known["current"] = error.current.plain()
    facts = {key: value for key, value in error.facts.items() if key not in ("op", "id") and value is not None}
    return {key: _tellable(value) for key, value in (facts | known).items()}


def _tellable(value: Any) -> Any:
    """Return text that UTF-8 can spell: what came in a head may hold bytes that are none (as lone surrogates)."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value

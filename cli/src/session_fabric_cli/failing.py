"""What a command leaves with, and what it says when it fails."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Final

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
NOT_PERMITTED: Final = 4
NO_BROKER: Final = 5
INTERRUPTED: Final = 130
# What writing to a file may end with, also to one that stdout is: of such an error nobody knows the name.
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_ALL: Final = frozenset({*_NO_ROOM, errno.EIO})


def failed(error: Exception) -> int | None:
    """Say what went wrong, and return what to leave with. None for what is no error of ours: a defect."""
    from session_fabric.words.errors import FabricError

    if isinstance(error, OSError) and error.errno in _NOT_ALL:
        what = "Not all that was to be printed" if error.filename is None else f"Not all of {error.filename}"
        hint = "Make room there, and run it again." if error.errno in _NO_ROOM else ""
        say(f"{what} could be written: {error.strerror}.", hint)
        return FAILED
    if isinstance(error, OSError) and error.filename is not None:
        say(f"{error.filename} cannot be used: {error.strerror}.")
        return USAGE
    if not isinstance(error, FabricError):
        return None
    say(error.message, error.hint)
    return _status(error)


def unwritten(path: Path, error: OSError) -> Exception:
    """Return what to raise where a file that was named cannot be written: naming it was wrong, or its disk is full."""
    from session_fabric.words.errors import InvalidRequest

    if error.errno in _NOT_ALL:
        return OSError(error.errno, os.strerror(error.errno), str(path))
    return InvalidRequest(f"{path} cannot be written: {error.strerror}.")


def say(message: str, hint: str = "") -> None:
    """Print a sentence to stderr, and under it what to do."""
    print(f"fabricctl: {message}", file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)


def _status(error: Exception) -> int:
    from session_fabric.words.errors import (
        BrokerRefused,
        BrokerUnavailable,
        Denied,
        EventNotFound,
        HoldNotFound,
        InvalidInput,
        MessageNotFound,
        NobodyAnswers,
        RequestNotFound,
        SessionGone,
        SessionNotFound,
    )

    from session_fabric_cli.naming import NothingSuch

    match error:
        case InvalidInput():
            return USAGE
        case SessionNotFound() | SessionGone() | RequestNotFound() | NothingSuch():
            return NOT_FOUND
        case MessageNotFound() | EventNotFound() | HoldNotFound():
            return NOT_FOUND
        case Denied():
            return NOT_PERMITTED
        case BrokerRefused() if "number" not in error.facts:  # with one it is JetStream's: a limit, a setting
            return NOT_PERMITTED
        case BrokerUnavailable() | NobodyAnswers():
            return NO_BROKER
    return FAILED

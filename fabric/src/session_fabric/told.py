"""Which signals tell a process of ours to end in order, and where its words go when its terminal is gone."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Sequence


def ending_signals() -> Sequence[signal.Signals]:
    """Return SIGTERM, SIGINT, and SIGHUP, which a closed terminal or a lost ssh sends. One that is ignored, as SIGHUP
    under `nohup`, stays so."""
    ending = [signal.SIGTERM, signal.SIGINT]
    # Windows has no SIGHUP.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        ending.append(signal.SIGHUP)
    return ending


def leave_terminal() -> None:
    """Have what is printed from now on go nowhere if the terminal is gone: writing there fails, and so would all that
    is still to be done in order."""
    for descriptor in (1, 2):
        if _is_gone(descriptor):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def _is_gone(descriptor: int) -> bool:
    """Say whether it was a terminal: one that has been hung up answers to nothing."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False  # closed all the time
    if not stat.S_ISCHR(found.st_mode) or os.path.samestat(found, os.stat(os.devnull)):
        return False
    return not os.isatty(descriptor)

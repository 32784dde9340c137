"""Being told to end, as by `timeout`, a supervisor, or a terminal that is gone: in order, as by Ctrl-C."""

from __future__ import annotations

import signal
from types import FrameType

from session_fabric_cli import failing


class Ending:
    """From when it is made on SIGTERM and SIGHUP end the process as Ctrl-C does; `status` is what to leave with then.

    One that is ignored, as SIGHUP under `nohup`, stays so. A command that sees to signals itself sets others in place.
    """

    def __init__(self) -> None:
        self.status = failing.INTERRUPTED
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._told)

    def _told(self, number: int, _: FrameType | None) -> None:
        self.status = 128 + number  # as a shell says it of a process that a signal has ended
        signal.raise_signal(signal.SIGINT)

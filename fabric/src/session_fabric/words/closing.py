"""What is said of a connection that its owner has closed."""

from __future__ import annotations

from session_fabric.words.errors import BrokerUnavailable


class Closed(BrokerUnavailable):
    """The connection was closed by who had opened it: nothing that is waited for will come, and no retry can help."""

    retryable = False

    def __init__(self) -> None:
        super().__init__(
            "The connection to the broker was closed.",
            hint="Call before `fabric.close()`, inside `async with Fabric.connect(…) as fabric:`; or connect again.",
        )

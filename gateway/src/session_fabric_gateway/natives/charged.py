"""What native participants do, counted as what comes through the gateway is: the broker knows no rates."""

from __future__ import annotations

import time

from session_fabric.history import Read

from session_fabric_gateway.accounts import Accounts
from session_fabric_gateway.auth import Grant


class Charged:
    """See `session_fabric.relay.natives.Charges`."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def asked(self, tenant: str, participant: str, size: int) -> None:
        self._accounts.asked(Grant(tenant, participant), time.monotonic(), size=size)

    def reads(self, tenant: str, participant: str) -> None:
        now = time.monotonic()
        self._accounts.reading(Grant(tenant, participant), now).check_history(now)

    def read(self, tenant: str, participant: str, read: Read) -> None:
        now = time.monotonic()
        self._accounts.reading(Grant(tenant, participant), now).owe_history(now, read)

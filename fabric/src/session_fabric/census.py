"""Which processes live at a broker, and of which version they are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from session_fabric.leases import BUCKET, DRAIN, GATEWAYS, WHO, alive_call
from session_fabric.ports import Broker
from session_fabric.rules.versions import Skew, skew
from session_fabric.words.errors import NobodyAnswers, Unavailable
from session_fabric.words.names import unescape
from session_fabric.words.version import VERSION

_ANSWER_S: Final = 1.0
_AT_ONCE: Final = 64


class Process(NamedTuple):
    """A process that holds a lease. `tenant` None: a gateway, which serves all.

    `version` None: it did not answer in time; "": it is from before versions were told (0.1).
    """

    holder: str
    tenant: str | None
    version: str | None
    format: int | None
    told: Mapping[str, Any] = {}  # never changed: what a gateway or a worker says of itself beside

    @property
    def kind(self) -> str:
        return "gateway" if self.tenant is None else "agent"

    @property
    def skew(self) -> Skew:
        """How far its version is from ours."""
        return skew(VERSION, self.version or "")


async def processes(broker: Broker) -> list[Process]:
    """Return the processes whose leases stand and that answer to their names, gateways first.

    Those that this connection may see: a native agent's are its tenant's and the gateways.
    """
    return await _asked(broker, agents=True)


async def gateways(broker: Broker) -> list[Process]:
    """Return the gateways among them; nobody else is asked."""
    return await _asked(broker, agents=False)


async def _asked(broker: Broker, *, agents: bool) -> list[Process]:
    entries = await broker.bucket(BUCKET).entries()
    several = asyncio.Semaphore(_AT_ONCE)

    async def ask(key: str) -> Process | None:
        group, _, holder = key.rpartition(".")
        tenant = None if unescape(group) == GATEWAYS else unescape(group)
        async with several:
            try:
                told = await broker.calls.ask(alive_call(holder), WHO, timeout_s=_ANSWER_S)
            except NobodyAnswers:
                return None  # it has ended, its lease has not
            except Unavailable:
                return Process(holder, tenant, None, None)
        facts = _facts(told)
        version, format = facts.get("version"), facts.get("format")
        return Process(
            holder,
            tenant,
            version if isinstance(version, str) else "",
            format if isinstance(format, int) else 1,
            {name: value for name, value in facts.items() if name not in ("version", "format")},
        )

    keys = [entry.key for entry in entries if entry.value is not None]
    if not agents:
        keys = [key for key in keys if unescape(key.rpartition(".")[0]) == GATEWAYS]
    found = await asyncio.gather(*map(ask, keys))
    return sorted((one for one in found if one is not None), key=lambda one: (one.tenant or "", one.holder))


async def drain(broker: Broker, holder: str) -> bool:
    """Tell a gateway to send its clients elsewhere; it begins to. False where it knows nothing of that (0.1).

    Raises `NobodyAnswers`, `BrokerUnavailable`; `BrokerRefused` for who may not ask.
    """
    return await broker.calls.ask(alive_call(holder), DRAIN, timeout_s=_ANSWER_S) == b"yes"


def _facts(told: bytes) -> Mapping[str, Any]:
    try:
        facts = orjson.loads(told)
    except orjson.JSONDecodeError:
        return {}  # what one of 0.1 says: yes
    return facts if isinstance(facts, dict) else {}

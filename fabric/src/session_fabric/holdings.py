"""What this process holds in sessions (runs, floors): an index, so that whoever finds it dead knows what to mend.

Bucket `sf-claims`, key `<holder>.<tenant>.<session>.<kind>.<name>`. An entry is written before the claim that it
stands for and removed after that has ended: it may name what is not held, and never lacks what is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

import orjson

from session_fabric.leases import Lease
from session_fabric.ports import Broker, Entry
from session_fabric.words.errors import Conflict, FabricError
from session_fabric.words.logs import log
from session_fabric.words.names import escape, unescape
from session_fabric.words.parsing import read_json
from session_fabric.words.subjects import Place

BUCKET: Final = "sf-claims"
HeldKind = Literal["run", "floor"]


class Held(NamedTuple):
    """A run or a pool's floor that a process holds; `facts` are what it was entered with, `revision` says when."""

    holder: str
    place: Place
    kind: HeldKind
    name: str
    facts: Mapping[str, Any]
    revision: int | None = None

    @property
    def key(self) -> str:
        return f"{self.holder}.{self.place.key()}.{self.kind}.{escape(self.name)}"


class Holdings:
    """The index of one process."""

    def __init__(self, broker: Broker, lease: Lease) -> None:
        self._broker = broker
        self._lease = lease
        self._bucket = broker.bucket(BUCKET)

    @property
    def holder(self) -> str:
        return self._broker.holder

    def tell(self, facts: Callable[[], Mapping[str, Any]]) -> Callable[[], None]:
        """Have these told too to whoever asks who this process is. The returned call takes it back."""
        return self._lease.tell(facts)

    async def enter(self, place: Place, kind: HeldKind, name: str, facts: Mapping[str, Any]) -> Held:
        """Write down what is about to be claimed. Raises `BrokerUnavailable`.

        Whoever holds something has a lease: without one it is taken for dead.
        """
        await self._lease.hold()
        held = Held(self.holder, place, kind, name, facts)
        return held._replace(revision=await self._bucket.put(held.key, orjson.dumps(facts)))

    async def leave(self, held: Held) -> None:
        """Take back what is held no more; what cannot be taken back now is found to be nothing later.

        What was entered again since stays: this process, taken for dead or cut off, may have begun anew.
        """
        try:
            await self._bucket.delete(held.key, revision=held.revision)
        except Conflict:
            pass
        except FabricError as error:
            log.info("holding_left_behind", kind=held.kind, code=error.code)

    async def of(self, holder: str = "") -> list[Held]:
        """Return what a process holds (`""`: every process)."""
        return [held for entry in await self._bucket.entries(holder) if (held := _read(entry)) is not None]


def _read(entry: Entry) -> Held | None:
    try:
        holder, tenant, session, kind, name = entry.key.split(".")
        facts = read_json(entry.value or b"{}")
        if kind not in ("run", "floor") or not isinstance(facts, dict):
            raise ValueError(kind)
    except ValueError:
        log.warning("holding_unreadable", key=entry.key)
        return None
    found: HeldKind = "run" if kind == "run" else "floor"
    return Held(holder, Place(unescape(tenant), unescape(session)), found, unescape(name), facts, entry.revision)

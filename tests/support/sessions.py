"""Words for tests that use sessions as their users do."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import Any

from session_fabric import Event, Fabric, Session
from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.jetstream.topology import all_infos
from session_fabric.keyring import OTHERS, Keys, TenantKey
from session_fabric.rules.fold import Fold
from session_fabric.words.events import TEXT_CONTENT
from session_fabric.words.positions import After

from tests.support.brokers import SEALED, Brokers

RUN_END = ("RUN_FINISHED", "RUN_ERROR")
# One key for every tenant of a test.
KEYS = Keys({OTHERS: [TenantKey("k1", bytes(range(32)))]})


@dataclass
class Fabrics:
    """Opens fabrics of one tenant on one broker, and closes them with the test."""

    brokers: Brokers
    tenant: str
    _stack: AsyncExitStack

    async def open(self, participant: str = "agent:writer") -> Fabric:
        keys = KEYS if self.brokers.kind == SEALED else None
        fabric = await Fabric.over(
            await self.brokers.open_as(self.tenant, participant), tenant=self.tenant, participant=participant, keys=keys
        )
        self._stack.push_async_callback(fabric.close)
        return fabric


def said(text: str, id: str = "m1") -> dict[str, Any]:
    """What a user says, as a body."""
    return {"type": "message.user", "message": {"id": id, "role": "user", "content": text}}


def note(value: object) -> dict[str, Any]:
    return {"type": "app.note", "value": value}


def values(events: Iterable[Event]) -> list[Any]:
    return [event.body.get("value") for event in events if event.type == "app.note"]


def types(events: Iterable[Event]) -> list[str]:
    return [event.type for event in events]


async def stored(session: Session, after: After = "start", **options: Any) -> list[Event]:
    """Return what a late joiner reads."""
    async with aclosing(session.read(after, **options)) as batches:
        return [record.event() async for records in batches for record in records]


def text_of(events: Iterable[Event], message: str | None = None) -> str:
    """Fold events, as they came, and return the text of a message: of the only one that an agent wrote."""
    fold = Fold()
    for event in events:
        fold.add(event)
    texts = [m for m in fold.messages() if (m.id == message if message else m.role == "assistant")]
    assert len(texts) == 1, texts
    content = texts[0].content
    assert isinstance(content, str)
    return content


def deltas(events: Iterable[Event]) -> list[str]:
    return [event.body["delta"] for event in events if event.type == TEXT_CONTENT]


def exact(events: list[Event]) -> list[Event]:
    """Return the events once they are proven to be in order and each there once."""
    offsets = [event.offset for event in events]
    assert offsets == sorted(set(offsets)), "not in order, or not once"
    return events


@dataclass
class Following:
    """A follower that collects, until a condition is met."""

    session: Session
    after: After = "start"
    deltas: Any = "open"
    events: list[Event] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    async def until(self, condition: Callable[[list[Event]], bool], timeout_s: float = 20.0) -> list[Event]:
        """Go on following until the collected events meet a condition; return all of them."""
        async with asyncio.timeout(timeout_s), aclosing(self._iterate()) as events:
            if not condition(self.events):
                async for event in events:
                    self.events.append(event)
                    if condition(self.events):
                        break
        return self.events

    def _iterate(self) -> AsyncGenerator[Event, None]:
        after = self.events[-1].offset if self.events else self.after
        return self.session.follow(after, deltas=self.deltas)


async def follow_until(
    session: Session, condition: Callable[[list[Event]], bool], after: After = "start", timeout_s: float = 20.0
) -> list[Event]:
    return await Following(session, after).until(condition, timeout_s)


def ended(*runs: str) -> Callable[[list[Event]], bool]:
    """Return a condition: the newest event is the last of these runs' ends."""
    wanted = set(runs)

    def all_there(events: list[Event]) -> bool:
        if events and events[-1].type in RUN_END:
            wanted.discard(events[-1].run or "")
        return not wanted

    return all_there


def has(type: str) -> Callable[[list[Event]], bool]:
    return lambda events: bool(events) and events[-1].type == type


def api(fabric: Fabric) -> JetStreamBroker:
    """Return the broker for what only JetStream's own API can tell."""
    assert isinstance(fabric.broker, JetStreamBroker)
    return fabric.broker


async def leftovers(fabric: Fabric, session: str) -> dict[str, Any]:
    """Return what any stream or bucket still holds of a session, tombstones aside, by subject."""
    broker = api(fabric)
    out: dict[str, Any] = {}
    for info in await all_infos(broker.api):
        name = info["config"]["name"]
        if name == "KV_sf-audit":
            continue  # that it was deleted, and by whom, stays
        answer = await broker.api.call(f"STREAM.INFO.{name}", {"subjects_filter": ">"})
        for subject in answer["state"].get("subjects") or {}:
            tokens = subject.split(".")
            if fabric.tenant in tokens and session in tokens:
                message = (await broker.api.call(f"STREAM.MSG.GET.{name}", {"last_by_subj": subject}))["message"]
                if b"KV-Operation" not in base64.b64decode(message.get("hdrs", "")):
                    out[subject] = name
        consumers = await broker.api.call(f"CONSUMER.LIST.{name}", {"offset": 0})
        for consumer in consumers.get("consumers") or []:
            metadata = consumer["config"].get("metadata") or {}
            if metadata.get("tenant") == fabric.tenant and metadata.get("session") == session:
                out[consumer["name"]] = name
    return out

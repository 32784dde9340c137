"""Who is woken when durable streams grow: subscriptions as every gateway keeps them, under compare-and-set.

A gateway that has stored an append looks at the subscriptions that want it. What a gateway that died has left is found
by the others, who look at every subscription now and then.
"""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, Final

import jwt
import orjson
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from session_fabric.ports import Entry, Listening
from session_fabric.rules import wakes as rules
from session_fabric.rules.appends import Asked
from session_fabric.rules.wakes import Wake
from session_fabric.streams.records import StreamRecord, path_of, place_of
from session_fabric.streams.streams import Streams
from session_fabric.streams.subscribed import BUCKET, key_of
from session_fabric.words.errors import (
    Conflict,
    FabricError,
    InvalidRequest,
    LimitExceeded,
    StreamGone,
    StreamNotFound,
    Unauthenticated,
    Unreadable,
)
from session_fabric.words.names import new_id
from session_fabric.words.positions import ZERO
from session_fabric.words.subjects import Place

from session_fabric_gateway.durable.hooks import Hooks
from session_fabric_gateway.endings import end

log = structlog.get_logger()

# No tenant's name begins so.
_SIGNING: Final = "_fabric.signing"
_TRIES: Final = 30
_SWEEP_S: Final = 0.25
# Each subscription is looked at about this often, whoever should have done so.
_LOOK_S: Final = 30.0
_MOST_TOKEN_S: Final = 24 * 3600
_SERVICE: Final = "service:fabric"


class Wakes:
    """All subscriptions of a broker, as one gateway sees to them. Use `open` and `close`."""

    def __init__(self, streams: Streams, hosts: Sequence[str], public_url: str | None, *, local: bool) -> None:
        self._public_url = public_url
        self._streams = streams
        self._bucket = streams.broker.bucket(BUCKET)
        self.hooks = Hooks(hosts, local=local)
        self._known: dict[tuple[str, str], Wake] = {}
        self._watching: Listening | None = None
        self._grown: set[Place] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeping: list[asyncio.Task[None]] = []
        self._key: Ed25519PrivateKey | None = None
        self._unhook: Callable[[], None] | None = None

    async def open(self) -> None:
        self._watching = await self._bucket.watch("", self._heard)
        self._unhook = self._streams.broker.on_connection(lambda up: self._spawn(self._read) if up else None)
        await self._read()
        self._sweeping = [asyncio.get_running_loop().create_task(self._sweep(), name="wakes")]

    async def close(self) -> None:
        if self._unhook is not None:
            self._unhook()
        await end([*self._sweeping, *self._tasks])
        await self.hooks.close()
        if self._watching is not None and self._streams.broker.connected:
            await self._watching.close()

    async def _read(self) -> None:
        for entry in await self._bucket.entries():
            self._heard(entry)

    def _heard(self, entry: Entry) -> None:
        if entry.key == _SIGNING:
            return
        wake = None if entry.value is None else rules.parse(entry.value)
        if wake is not None:
            self._known[wake.tenant, wake.id] = wake
            return
        if entry.value is not None:  # of a later version, perhaps: gateways of that see to it
            log.error("subscription_unreadable", key=entry.key)
        for key in list(self._known):
            if key_of(*key) == entry.key:
                del self._known[key]

    # --- what grows ----------------------------------------------------------------------------------

    def grown(self, place: Place) -> None:
        """A stream was made or appended to here: see to who is to be woken, soon."""
        if not self._known or place in self._grown:
            return
        path = path_of(place)
        wanted = [wake for wake in self._known.values() if wake.tenant == place.tenant and wake.wants(path)]
        if wanted:
            self._grown.add(place)
            self._spawn(partial(self._see_to_grown, place, wanted))

    async def _see_to_grown(self, place: Place, wanted: Sequence[Wake]) -> None:
        await asyncio.sleep(0)
        self._grown.discard(place)
        for wake in wanted:
            await self._see_to(wake.tenant, wake.id, path_of(place))

    def look_at(self, tenant: str, id: str) -> None:
        """See to a subscription soon: its work was let go."""
        self._spawn(partial(self._see_to, tenant, id))

    def _spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.get_running_loop().create_task(self._safely(work), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _safely(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except FabricError as error:
            log.warning("wake_failed", code=error.code, detail=error.message)
        except Exception:
            log.exception("wake_failed")

    async def _sweep(self) -> None:
        looked: dict[tuple[str, str], float] = {}
        while True:
            await asyncio.sleep(_SWEEP_S * random.uniform(0.7, 1.3))
            now_ms, now = _now_ms(), time.monotonic()
            for key, wake in list(self._known.items()):
                if wake.due(now_ms) or now - looked.setdefault(key, now) > _LOOK_S * random.uniform(0.8, 1.2):
                    looked[key] = now
                    await self._safely(partial(self._see_to, *key))
            for key in looked.keys() - self._known.keys():
                del looked[key]

    async def _see_to(self, tenant: str, id: str, path: str | None = None) -> None:
        """Bring a subscription to where it should be: a lease that ended is freed, what waits is told of."""
        found = await self.find(tenant, id)
        if found is None:
            return
        tails = await self._tails(found, path)
        told = False

        def edit(wake: Wake) -> Wake:
            nonlocal told
            told, now_ms = False, _now_ms()
            wake = rules.freed(wake, now_ms)
            if path is not None and path not in wake.links and wake.matches(path):
                if len(wake.links) >= rules.MOST_LINKS:
                    log.warning("subscription_full", subscription=wake.id, limit=rules.MOST_LINKS)
                else:
                    wake = rules.linked(wake, path, str(ZERO))
            if wake.state == "idle" and now_ms >= wake.next_ms and rules.pending(wake, tails):
                wake = rules.woken(wake, f"w_{new_id()}", tails, now_ms)
                told = True
            return wake

        wake = await self.change(tenant, id, edit)
        if told:
            await self._tell(wake, tails)

    # --- telling -------------------------------------------------------------------------------------

    async def _tell(self, wake: Wake, tails: Mapping[str, str]) -> None:
        if wake.type == "pull-wake":
            await self._put_wake(wake, tails)
        else:
            self._spawn(partial(self._call, wake, tails))

    async def _put_wake(self, wake: Wake, tails: Mapping[str, str]) -> None:
        events = [
            orjson.dumps(
                {
                    "type": "wake",
                    "subscription_id": wake.id,
                    "stream": path,
                    "generation": wake.generation,
                    "ts": _now_ms(),
                }
            )
            for path in rules.pending(wake, tails)
        ]
        place = place_of(wake.tenant, wake.wake_stream or "")
        try:
            await self._streams.append(place, Asked(b",".join(events), "application/json"), _SERVICE)
        except FabricError as error:
            log.warning("wake_stream_failed", subscription=wake.id, code=error.code)
            await self.change(wake.tenant, wake.id, _if(wake, lambda w: rules.failed(w, _now_ms(), random.random())))
            return
        self.grown(place)

    async def _call(self, wake: Wake, tails: Mapping[str, str]) -> None:
        body = orjson.dumps(
            {
                "subscription_id": wake.id,
                "wake_id": wake.wake_id,
                "generation": wake.generation,
                "streams": self.streams_of(wake, tails),
                "callback_url": f"{self.base_of(wake)}{subscription_path(wake.id)}/callback",
                "callback_token": await self.token(wake),
            }
        )
        key = await self.signing_key()
        assert wake.webhook is not None
        taken = await self.hooks.post(wake.webhook, body, signature(key, body, int(time.time())))
        if taken is None:
            again = _if(wake, lambda w: rules.failed(w, _now_ms(), random.random()))
            await self.change(wake.tenant, wake.id, again)
        elif taken:
            done = _if(wake, lambda w: rules.idle(rules.acked(w, list(wake.snapshot.items()))))
            await self.change(wake.tenant, wake.id, done)
            await self._see_to(wake.tenant, wake.id)
        elif wake.failures:
            well = _if(wake, lambda w: w.model_copy(update={"failures": 0, "next_ms": 0}))
            await self.change(wake.tenant, wake.id, well)

    def streams_of(self, wake: Wake, tails: Mapping[str, str]) -> list[dict[str, object]]:
        """Return a subscription's streams as those who are woken are told of them."""
        return [
            {
                "path": path,
                "link_type": link_type(link),
                "acked_offset": link.acked,
                "tail_offset": tails.get(path, link.acked),
                "has_pending": tails.get(path, "") > link.acked,
            }
            for path, link in wake.links.items()
        ]

    def base_of(self, wake: Wake) -> str:
        """Return where clients reach gateways; where we are not told, as whoever made the subscription did."""
        return (self._public_url or wake.base).rstrip("/")

    # --- what is kept --------------------------------------------------------------------------------

    async def find(self, tenant: str, id: str) -> Wake | None:
        """Return a subscription, None where there is none. Raises `Unreadable`."""
        entry = await self._bucket.get(key_of(tenant, id))
        return None if entry is None or entry.value is None else _parsed(id, entry.value)

    async def add(self, wake: Wake) -> Wake | None:
        """Store a new subscription; return the one that is there, if there is."""
        try:
            await self._bucket.swap(key_of(wake.tenant, wake.id), wake.model_dump_json().encode(), revision=0)
        except Conflict:
            return await self.find(wake.tenant, wake.id)
        self._known[wake.tenant, wake.id] = wake
        return None

    async def change(self, tenant: str, id: str, edit: Callable[[Wake], Wake]) -> Wake:
        """Change a subscription, as often as others are first. Raises `StreamNotFound` where there is none,
        `Unreadable`."""
        for _ in range(_TRIES):
            entry = await self._bucket.get(key_of(tenant, id))
            if entry is None or entry.value is None:
                raise StreamNotFound(f"There is no subscription {id!r:.100}.", hint="Make it with PUT.")
            wake = _parsed(id, entry.value)
            new = edit(wake)
            if new == wake:
                return wake
            try:
                await self._bucket.swap(entry.key, new.model_dump_json().encode(), revision=entry.revision)
            except Conflict:
                continue
            self._known[tenant, id] = new
            return new
        raise Conflict(f"Subscription {id!r:.100} changed {_TRIES} times under this edit.", revision=None)

    async def remove(self, tenant: str, id: str) -> None:
        await self._bucket.delete(key_of(tenant, id))
        self._known.pop((tenant, id), None)

    # --- where streams are ---------------------------------------------------------------------------

    async def _tails(self, wake: Wake, path: str | None) -> dict[str, str]:
        paths = [*wake.links, *([path] if path is not None and path not in wake.links else [])]
        tails: dict[str, str] = {}
        for one in paths:
            try:
                page = await self._streams.look(place_of(wake.tenant, one))
            except (StreamNotFound, StreamGone):
                continue
            tails[one] = str(page.standing.tail)
        return tails

    async def tails_of(self, wake: Wake) -> dict[str, str]:
        """Return where each stream of a subscription ends, as far as there is one."""
        return await self._tails(wake, None)

    async def matching(self, tenant: str, wake: Wake) -> list[str]:
        """Return the streams there are that a pattern matches. Raises `LimitExceeded`."""
        records = await self._streams.directory.of_tenant(tenant)
        paths = [r.path for r in records if isinstance(r, StreamRecord) and wake.matches(r.path)]
        if len(paths) > rules.MOST_LINKS:
            raise LimitExceeded(
                f"{len(paths)} streams match {wake.pattern!r:.100}.",
                hint=f"A subscription has at most {rules.MOST_LINKS}: use a narrower pattern.",
                limit=rules.MOST_LINKS,
            )
        return paths

    # --- keys ----------------------------------------------------------------------------------------

    async def signing_key(self) -> Ed25519PrivateKey:
        """Return the key that webhooks are signed with, the same for all gateways; made when there is none."""
        if self._key is None:
            entry = await self._bucket.get(_SIGNING)
            if entry is None or entry.value is None:
                with suppress(Conflict):
                    await self._bucket.swap(_SIGNING, Ed25519PrivateKey.generate().private_bytes_raw(), revision=0)
                entry = await self._bucket.get(_SIGNING)
            assert entry is not None
            assert entry.value is not None
            self._key = Ed25519PrivateKey.from_private_bytes(entry.value)
        return self._key

    async def token(self, wake: Wake) -> str:
        """Return what whoever is woken proves with that it is. Counts for this generation alone."""
        secret = (await self.signing_key()).private_bytes_raw()
        claims = {"tenant": wake.tenant, "sub": wake.id, "gen": wake.generation, "wake": wake.wake_id}
        return jwt.encode({**claims, "exp": int(time.time()) + _MOST_TOKEN_S}, secret, algorithm="HS256")

    async def claims(self, token: str | None) -> Mapping[str, Any]:
        """Return what such a token says. Raises `Unauthenticated`."""
        secret = (await self.signing_key()).private_bytes_raw()
        try:
            read: Mapping[str, Any] = jwt.decode(token or "", secret, algorithms=["HS256"])
        except jwt.InvalidTokenError as error:
            raise Unauthenticated("The token is none of a wake.", hint="Send the token that came with it.") from error
        return read


def _parsed(id: str, value: bytes) -> Wake:
    wake = rules.parse(value)
    if wake is None:
        raise Unreadable(
            f"Subscription {id!r:.100} cannot be read: a later version has written it, or somebody else.",
            hint="Ask a gateway of that version, or delete it and make it anew.",
            subscription=id,
        )
    return wake


def signature(key: Ed25519PrivateKey, body: bytes, now_s: int) -> str:
    signed = base64.urlsafe_b64encode(key.sign(b"%d.%b" % (now_s, body))).rstrip(b"=").decode()
    return f"t={now_s},kid={key_id(key)},ed25519={signed}"


def key_id(key: Ed25519PrivateKey) -> str:
    return f"ds_{public_of(key)[:16]}"


def public_of(key: Ed25519PrivateKey) -> str:
    return base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).rstrip(b"=").decode()


def link_type(link: rules.Link) -> str:
    return "explicit" if link.named else "glob"


def subscription_path(id: str) -> str:
    return f"/v1/stream/__ds/subscriptions/{id}"


def _if(told: Wake, edit: Callable[[Wake], Wake]) -> Callable[[Wake], Wake]:
    """Edit a subscription as long as it is at the wake that was told."""
    return lambda wake: edit(wake) if wake.wake_id == told.wake_id else wake


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def check_id(id: str) -> str:
    """Return a subscription's id, or raise `InvalidRequest`."""
    if not 0 < len(id) <= 128 or not id.isprintable() or "/" in id:
        raise InvalidRequest(f"{id!r:.80} is not a subscription's id.", hint="Use 1 to 128 characters without /.")
    return id

"""Two tenants behind one gateway, a victim with something to lose, and attackers all of whose bytes are kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import aiohttp
import orjson
from session_fabric import Fabric, Session
from session_fabric.words.names import new_id
from yarl import URL

from tests.gateway.conftest import Running
from tests.gateway.sockets import SUBPROTOCOL, Client, user_message
from tests.gateway.tokens.signing import jwk, jwks, private_key, token
from tests.support.sessions import stored
from tests.support.waiting import eventually

KEY: Final = private_key("EdDSA", 71)
SETTINGS: Final[dict[str, Any]] = {"token_keys": jwks(jwk("EdDSA", KEY, "k1")), "dev_secret": None, "cookie": "sf"}
RUN, REQUEST, BIG = "r-victim", "q-victim", 300_000


class Reply(NamedTuple):
    """An answer over HTTP."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def code(self) -> str | None:
        value = self.json if self.body else None
        return value.get("code") if isinstance(value, dict) else None


class _Tap:
    """Stands before a socket and keeps what it receives."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, received: list[bytes]) -> None:
        self._socket = socket
        self._received = received

    async def receive(self, timeout: float | None = None) -> aiohttp.WSMessage:
        message = await self._socket.receive(timeout=timeout)
        self._received.append(str(message.data).encode() + str(message.extra).encode())
        return message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


@dataclass
class Attacker:
    """Somebody with a valid token; `received` holds every byte that he was sent."""

    house: Running
    token: str
    received: list[bytes] = field(default_factory=list)

    async def http(
        self, method: str, path: str, body: object = None, *, until: bytes | None = None, auth: bool = True, **more: str
    ) -> Reply:
        """Ask; a stream is read until something is in it."""
        headers = {"Authorization": f"Bearer {self.token}"} if auth else {}
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        url = URL(self.house.url + path, encoded=True)
        async with (
            asyncio.timeout(20),
            aiohttp.ClientSession() as http,
            http.request(method, url, json=body, headers=headers) as answer,
        ):
            data = b""
            async for chunk in answer.content.iter_any():
                self.received.append(chunk)
                data += chunk
                if until is not None and until in data:
                    break
            plain = {name: value for name, value in answer.headers.items() if name != "Date"}
            self.received.append(repr(plain).encode())
            return Reply(answer.status, data, plain)

    @asynccontextmanager
    async def socket(self, **hello: Any) -> AsyncIterator[Client]:
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"{self.house.url}/v1/ws", protocols=(SUBPROTOCOL,), max_msg_size=0) as socket,
        ):
            client = Client(_Tap(socket, self.received))  # type: ignore[arg-type]
            await client.hello(self.token, **hello)
            yield client


@dataclass
class Victim:
    """A session with everything in it: what is said in it has `word`, which nobody else says."""

    session: Session
    agent: Session
    tenant: str
    word: str
    offset: str = ""
    segment: int = 0
    blob: str = ""

    async def everything(self) -> bytes:
        """Return all there is of the session, to compare."""
        events = [[str(e.offset), e.id, e.type, e.actor, e.run, e.ts, e.raw.decode()] for e in await stored(self.agent)]
        documents = [(state.document, state.revision, state.body, state.by) for state in await self.agent.documents()]
        members = [member._asdict() for member in await self.agent.members()]
        cursors = [(c.participant, c.device, str(c.offset)) for c in await self.agent.cursors()]
        record = (await self.agent.record(create=False)).model_dump(mode="json")
        return orjson.dumps([events, documents, members, cursors, record])


@dataclass
class Scene:
    house: Running
    fabric: Fabric
    attackers: list[Attacker]
    victims: dict[str, Victim]
    own: str  # the attacker's tenant

    def attacker(self, participant: str = "user:mal", *, tenant: str | None = None, **claims: Any) -> Attacker:
        one = Attacker(self.house, self.token(participant, tenant=tenant, **claims))
        self.attackers.append(one)
        return one

    def token(self, participant: str = "user:mal", *, tenant: str | None = None, **claims: Any) -> str:
        now = int(time.time())
        named = {"sub": participant, "tenant": tenant or self.own, "iat": now - 60}
        return token(key=KEY, **(named | claims))

    def session(self, name: str, participant: str = "user:mal", tenant: str | None = None) -> Session:
        view = self.fabric.view(tenant=tenant or self.own, participant=participant, gateway=True)
        return view.session(name)

    @property
    def theirs(self) -> Victim:
        """The victim in the other tenant."""
        return self.victims["theirs"]

    @property
    def hidden(self) -> Victim:
        """The victim in the attacker's own tenant."""
        return self.victims["hidden"]


async def furnish(scene: Scene, stack: AsyncExitStack, tenant: str, name: str) -> Victim:
    word = f"W{new_id()}"
    vera, eve = (scene.session(name, who, tenant) for who in ("user:vera", "operator:eve"))
    agent = scene.session(name, "agent:writer", tenant)
    victim = Victim(vera, agent, tenant, word)
    await vera.create({"topic": word})
    said = await vera.append(user_message(word), id="e-victim")
    await vera.append({"type": "app.big", "text": word + "x" * BIG}, id="e-big")
    await vera.state("plan").put({"secret": word})
    await vera.seen(said.offset, device="d-victim")
    await eve.whisper(f"whispered {word}", id="e-whisper")
    victim.offset, victim.segment = str(said.offset), said.offset.segment
    task = asyncio.create_task(_run(agent, word))

    async def stop() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(stop)
    await stack.enter_async_context(vera.join({"shows": word}, device="d-victim"))

    async def asked() -> bool:
        return bool(await vera.requests()) and bool(await vera.members())

    async def suspended() -> bool:
        return [run.state for run in await vera.runs()] == ["suspended"]

    await eventually(asked)
    await eventually(suspended)
    log = scene.fabric.broker.log
    record = await vera.record()
    newest = [r async for rs in log.read(record.stretch, after=0, upto=await log.head(record.stretch)) for r in rs]
    victim.blob = next(r.blob.name for r in newest if r.blob is not None)
    return victim


async def _run(agent: Session, word: str) -> None:
    async with agent.run(RUN) as run:
        await run.approve(f"May I {word}?", to="user:vera", id=REQUEST)


@asynccontextmanager
async def staged(house: Running, fabric: Fabric) -> AsyncIterator[Scene]:
    """Put everybody in their places; at the end nothing of the victims' has changed, or was told."""
    scene = Scene(house, fabric, [], {}, house.tenant)
    async with AsyncExitStack() as stack:
        other = new_id("b")
        scene.victims = {
            "theirs": await furnish(scene, stack, other, "vault"),
            "hidden": await furnish(scene, stack, house.tenant, "hidden"),
        }
        before = {name: await victim.everything() for name, victim in scene.victims.items()}
        yield scene
        for name, victim in scene.victims.items():
            assert await victim.everything() == before[name], f"{name} was changed"
            for attacker in scene.attackers:
                told = [data[:200] for data in attacker.received if victim.word.encode() in data]
                assert not told, f"something of {name} was told: {told}"
                assert not any(victim.blob.encode() in data for data in attacker.received)
        assert scene.attackers, "nobody attacked"
        assert all(attacker.received for attacker in scene.attackers), "an attacker was answered nothing"

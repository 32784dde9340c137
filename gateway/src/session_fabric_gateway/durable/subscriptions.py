"""Subscriptions on durable streams over HTTP, under the reserved `__ds`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field
from session_fabric.rules import wakes as rules
from session_fabric.rules.wakes import Wake
from session_fabric.streams.records import check_path, place_of
from session_fabric.words.errors import FabricError, Forbidden, InvalidRequest, StreamNotFound
from session_fabric.words.names import new_id
from session_fabric.words.positions import ZERO, Offset

from session_fabric_gateway.answers import problem
from session_fabric_gateway.auth import Grant, now_ms
from session_fabric_gateway.credentials import token_of
from session_fabric_gateway.durable.hooks import WebhookRefused
from session_fabric_gateway.durable.rights import may
from session_fabric_gateway.durable.told import Handler
from session_fabric_gateway.durable.wakes import Wakes, check_id, key_id, link_type, public_of, subscription_path
from session_fabric_gateway.gateway import Gateway
from session_fabric_gateway.http import body_of, grant_of, json

ROOT: Final = "/v1/stream/__ds"
_ONE: Final = ROOT + "/subscriptions/{id}"

Path = Annotated[str, Field(min_length=1, max_length=512)]
Paths = Annotated[tuple[Path, ...], Field(max_length=rules.MOST_LINKS)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Webhook(_Model):
    url: str


class Asked(_Model):
    """A subscription as it is asked for."""

    type: Literal["webhook", "pull-wake"]
    pattern: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    streams: Paths = ()
    webhook: Webhook | None = None
    wake_stream: Path | None = None
    lease_ttl_ms: Annotated[int, Field(ge=1000, le=600_000)] = 30_000
    description: Annotated[str, Field(max_length=1000)] | None = None


class Streams(_Model):
    streams: Paths


class Claim(_Model):
    worker: Annotated[str, Field(min_length=1, max_length=256)]


class Ack(_Model):
    stream: Path
    offset: str


class Acks(_Model):
    wake_id: str
    generation: int
    acks: Annotated[tuple[Ack, ...], Field(max_length=rules.MOST_LINKS)] = ()
    done: bool = False


class Release(_Model):
    wake_id: str
    generation: int


class _Refused(Exception):
    """What the protocol tells by a code of its own."""

    def __init__(self, status: int, code: str, **facts: object) -> None:
        super().__init__(code)
        self.status = status
        self.body = {"error": {"code": code, **facts}}


class Subscriptions:
    """Handlers of one gateway; `routes` lists them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @property
    def _wakes(self) -> Wakes:
        return self._gateway.wakes

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"{ROOT}/jwks.json", _told(self.keys), allow_head=False),
            web.put(_ONE, _told(self.make)),
            web.get(_ONE, _told(self.show), allow_head=False),
            web.delete(_ONE, _told(self.remove)),
            web.post(f"{_ONE}/streams", _told(self.add_streams)),
            web.delete(_ONE + "/streams/{path:.+}", _told(self.remove_stream)),
            web.post(f"{_ONE}/claim", _told(self.claim)),
            web.post(f"{_ONE}/ack", _told(self.ack)),
            web.post(f"{_ONE}/callback", _told(self.ack)),
            web.post(f"{_ONE}/release", _told(self.release)),
        ]

    async def keys(self, request: web.Request) -> web.Response:
        key = await self._wakes.signing_key()
        one = {"kty": "OKP", "crv": "Ed25519", "kid": key_id(key), "use": "sig", "alg": "EdDSA", "x": public_of(key)}
        response = json({"keys": [one]})
        response.content_type = "application/jwk-set+json"
        response.headers["Cache-Control"] = "public, max-age=300"
        return response

    async def make(self, request: web.Request) -> web.Response:
        grant, id = await self._named(request, "policy")
        asked = await body_of(request, Asked, "The subscription")
        self._check(grant, asked)
        wake = Wake(
            tenant=grant.tenant,
            id=id,
            maker=grant.participant,
            type=asked.type,
            pattern=asked.pattern,
            webhook=None if asked.webhook is None else self._wakes.hooks.check(asked.webhook.url),
            wake_stream=asked.wake_stream,
            lease_ttl_ms=asked.lease_ttl_ms,
            description=asked.description,
            base=self._gateway.settings.public_url or str(request.url.origin()),
            made_ms=now_ms(),
        )
        found = await self._wakes.find(grant.tenant, id)
        if found is None:
            found = await self._wakes.add(await self._filled(wake, asked.streams))
            if found is None:
                made = await self._wakes.find(grant.tenant, id)
                return json(await self._shown(made or wake), 201)
        if not found.same_as(wake, asked.streams):
            raise _Refused(409, "SUBSCRIPTION_EXISTS")
        return json(await self._shown(found))

    async def _filled(self, wake: Wake, named: tuple[str, ...]) -> Wake:
        """Put the streams on it that there are, each from its end on."""
        matching = await self._wakes.matching(wake.tenant, wake)
        for path in matching:
            wake = rules.linked(wake, path, await self._end_of(wake.tenant, path))
        for path in named:
            wake = rules.linked(wake, path, await self._end_of(wake.tenant, path), named=True)
        return wake

    async def _end_of(self, tenant: str, path: str) -> str:
        try:
            return str((await self._gateway.streams.look(place_of(tenant, path))).standing.tail)
        except FabricError as error:
            if error.code not in ("stream_not_found", "stream_gone"):
                raise
            return str(ZERO)

    def _check(self, grant: Grant, asked: Asked) -> None:
        """Raise for what does not go together, and for streams that are not his to read."""
        if asked.pattern is None and not asked.streams:
            raise InvalidRequest("Neither pattern nor streams are given.", hint="Give one of them, or both.")
        if (asked.type == "webhook") != (asked.webhook is not None):
            raise InvalidRequest("webhook goes with type webhook, and with no other.", field="webhook")
        if (asked.type == "pull-wake") != (asked.wake_stream is not None):
            raise InvalidRequest("wake_stream goes with type pull-wake, and with no other.", field="wake_stream")
        for path in asked.streams:
            may(grant, place_of(grant.tenant, path), "read")
        if asked.wake_stream is not None:
            may(grant, place_of(grant.tenant, asked.wake_stream), "append")
        if asked.pattern is not None:
            check_path(asked.pattern)
            begins = f"/{asked.pattern.partition('*')[0]}"
            granted = grant.grants.patterns_for("read")
            if grant.grants.mine_only or not any(p.prefix and begins.startswith(p.text) for p in granted):
                raise Forbidden(
                    f"The token of {grant.participant} does not grant read on all of {asked.pattern!r:.100}.",
                    hint="Get a token that does, or use a narrower pattern.",
                    operation="read",
                )

    async def show(self, request: web.Request) -> web.Response:
        grant, id = await self._named(request, "read")
        return json(await self._shown(await self._found(grant.tenant, id)))

    async def _found(self, tenant: str, id: str) -> Wake:
        found = await self._wakes.find(tenant, id)
        if found is None:
            raise StreamNotFound(f"There is no subscription {id!r:.100}.", hint="Make it with PUT.")
        return found

    async def _shown(self, wake: Wake) -> Mapping[str, Any]:
        webhook = None
        if wake.webhook is not None:
            kid, url = key_id(await self._wakes.signing_key()), f"{self._wakes.base_of(wake)}{ROOT}/jwks.json"
            webhook = {"url": wake.webhook, "signing": {"alg": "ed25519", "kid": kid, "jwks_url": url}}
        return {
            "id": wake.id,
            "subscription_id": wake.id,
            "type": wake.type,
            "pattern": wake.pattern,
            "streams": [
                {"path": path, "link_type": link_type(link), "acked_offset": link.acked}
                for path, link in wake.links.items()
            ],
            "webhook": webhook,
            "wake_stream": wake.wake_stream,
            "lease_ttl_ms": wake.lease_ttl_ms,
            "created_at": _moment(wake.made_ms),
            "status": "failed" if wake.failures else "active",
            "description": wake.description,
        }

    async def remove(self, request: web.Request) -> web.Response:
        grant, id = await self._named(request, "policy")
        await self._wakes.remove(grant.tenant, id)
        return web.Response(status=204)

    async def add_streams(self, request: web.Request) -> web.Response:
        grant, id = await self._named(request, "policy")
        paths = (await body_of(request, Streams, "The streams")).streams
        for path in paths:
            may(grant, place_of(grant.tenant, path), "read")
        ends = {path: await self._end_of(grant.tenant, path) for path in paths}

        def edit(wake: Wake) -> Wake:
            for path, at in ends.items():
                wake = rules.linked(wake, path, at, named=True)
            if len(wake.links) > rules.MOST_LINKS:
                raise InvalidRequest(f"A subscription has at most {rules.MOST_LINKS} streams.", limit=rules.MOST_LINKS)
            return wake

        await self._wakes.change(grant.tenant, id, edit)
        return web.Response(status=204)

    async def remove_stream(self, request: web.Request) -> web.Response:
        grant, id = await self._named(request, "policy")
        path = request.match_info["path"]
        await self._wakes.change(grant.tenant, id, lambda wake: rules.unnamed(wake, path))
        return web.Response(status=204)

    # --- who works -----------------------------------------------------------------------------------

    async def claim(self, request: web.Request) -> web.Response:
        grant, id = await self._named(request, "read")
        worker = (await body_of(request, Claim, "The claim")).worker
        tails = await self._wakes.tails_of(await self._found(grant.tenant, id))

        def edit(wake: Wake) -> Wake:
            now = now_ms()
            wake = rules.freed(wake, now)
            if wake.type != "pull-wake":
                raise _Refused(409, "NOT_PULL_WAKE")
            if wake.state == "held":
                raise _Refused(409, "ALREADY_CLAIMED", current_holder=wake.holder, generation=wake.generation)
            if not rules.pending(wake, tails):
                raise _Refused(409, "NO_PENDING_WORK")
            if wake.state == "idle":
                wake = rules.woken(wake, f"w_{new_id()}", tails, now)
            return rules.claimed(wake, worker, now)

        wake = await self._wakes.change(grant.tenant, id, edit)
        return json(
            {
                "wake_id": wake.wake_id,
                "generation": wake.generation,
                "token": await self._wakes.token(wake),
                "streams": self._wakes.streams_of(wake, tails),
                "lease_ttl_ms": wake.lease_ttl_ms,
            }
        )

    async def ack(self, request: web.Request) -> web.Response:
        tenant, id, generation, wake_id = await self._by_wake(request)
        asked = await body_of(request, Acks, "The acknowledgement")
        acks = [(ack.stream, str(Offset.parse(ack.offset))) for ack in asked.acks]

        def edit(wake: Wake) -> Wake:
            _fence(wake, asked.wake_id, asked.generation, generation, wake_id)
            wake = rules.acked(wake, acks)
            return rules.idle(wake) if asked.done else rules.extended(wake, now_ms())

        wake = await self._wakes.change(tenant, id, edit)
        again = False
        if asked.done:
            again = bool(rules.pending(wake, await self._wakes.tails_of(wake)))
            self._wakes.look_at(tenant, id)
        return json({"ok": True, "next_wake": again})

    async def release(self, request: web.Request) -> web.Response:
        tenant, id, generation, wake_id = await self._by_wake(request)
        asked = await body_of(request, Release, "The release")

        def edit(wake: Wake) -> Wake:
            _fence(wake, asked.wake_id, asked.generation, generation, wake_id)
            return rules.idle(wake)

        await self._wakes.change(tenant, id, edit)
        self._wakes.look_at(tenant, id)
        return web.Response(status=204)

    async def _by_wake(self, request: web.Request) -> tuple[str, str, int, str]:
        """Return whose work it is, as the token of the wake says. Raises `Unauthenticated`."""
        self._gateway.door.known(request)
        claims = await self._wakes.claims(token_of(self._gateway, request))
        if claims["sub"] != request.match_info["id"]:
            raise _Refused(409, "FENCED")
        return claims["tenant"], claims["sub"], claims["gen"], claims["wake"]

    async def _named(self, request: web.Request, operation: str) -> tuple[Grant, str]:
        grant = await grant_of(self._gateway, request)
        id = check_id(request.match_info["id"])
        if grant.grants.mine_only or not grant.grants.allows(subscription_path(id)[len("/v1/stream") :], operation):
            raise Forbidden(
                f"The token of {grant.participant} does not grant {operation} on subscription {id!r:.100}.",
                hint="Get a token that does.",
                operation=operation,
            )
        return grant, id


def _fence(wake: Wake, said_id: str, said: int, generation: int, wake_id: str) -> None:
    """Raise unless a wake is the one that is now, as its token and its request both say."""
    now = (wake.generation, wake.wake_id)
    if wake.state == "idle" or now != (said, said_id) or now != (generation, wake_id):
        raise _Refused(409, "FENCED")


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _told(handler: Handler) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except _Refused as refused:
            return json(refused.body, refused.status)
        except WebhookRefused as error:
            error.facts["error"] = {"code": "WEBHOOK_URL_REJECTED"}
            return problem(error)

    return answer

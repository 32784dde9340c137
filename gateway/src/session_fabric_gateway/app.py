"""Puts one gateway process together: routes, middleware, and the server under them."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web
from session_fabric import Fabric, Keys
from session_fabric.revocations import Revocations
from session_fabric.rules.revocations import Revoked
from session_fabric.tracing import PASSED_ON, Traces
from session_fabric.words.errors import PortBusy

from session_fabric_gateway.admin import Probes, administering
from session_fabric_gateway.answers import PAGE_POLICY
from session_fabric_gateway.auth import Authenticator, OpenAuthenticator
from session_fabric_gateway.capabilities import paths
from session_fabric_gateway.codes import LANES, SUBPROTOCOL
from session_fabric_gateway.connection import Connection
from session_fabric_gateway.dialects.ag_ui.api import AgUi
from session_fabric_gateway.dialects.ai_sdk.api import AiSdk
from session_fabric_gateway.dialects.tanstack.api import TanStack
from session_fabric_gateway.durable.api import DurableStreams
from session_fabric_gateway.durable.sessions import SessionStreams
from session_fabric_gateway.durable.subscriptions import Subscriptions
from session_fabric_gateway.exports import Exports
from session_fabric_gateway.gateway import Gateway
from session_fabric_gateway.http import Api
from session_fabric_gateway.lanes import Lanes
from session_fabric_gateway.links import Whole
from session_fabric_gateway.listening import DoorSite
from session_fabric_gateway.metrics import Metrics
from session_fabric_gateway.natives.asking import grants_by
from session_fabric_gateway.natives.authority import Authority
from session_fabric_gateway.natives.charged import Charged
from session_fabric_gateway.openapi import document
from session_fabric_gateway.problems import errors, set_headers
from session_fabric_gateway.reading import Events
from session_fabric_gateway.settings import Settings
from session_fabric_gateway.socket import Socket, check_handshake
from session_fabric_gateway.spans import traced
from session_fabric_gateway.starting import patiently
from session_fabric_gateway.tokens.sources import KeyKeeper
from session_fabric_gateway.tokens.standing import Standing
from session_fabric_gateway.tokens.verifier import JwtAuthenticator

log = structlog.get_logger()

# Of HTTP, not of the socket: a body, and what is around it.
_AROUND_A_BODY: Final = 64 * 1024


def authenticator(settings: Settings, keys: KeyKeeper, revoked: Revoked) -> Authenticator:
    """Return who decides who may come in."""
    tokens = by_token(settings, keys, revoked)
    return OpenAuthenticator(tokens) if settings.insecure else tokens


def by_token(settings: Settings, keys: KeyKeeper, revoked: Revoked) -> JwtAuthenticator:
    """Return who decides that by tokens alone."""
    return JwtAuthenticator(
        keys,
        revoked,
        issuers=settings.token_issuer,
        audience=settings.token_audience,
        leeway_s=settings.token_leeway_s,
    )


def application(gateway: Gateway) -> web.Application:
    """Return the gateway's whole HTTP face."""
    app = web.Application(
        middlewares=[traced(gateway.traces), errors(gateway)],
        client_max_size=gateway.settings.limits.max_body_bytes + _AROUND_A_BODY,
    )
    app.on_response_prepare.append(set_headers(gateway))
    api, own, probes = Api(gateway), _Own(gateway), Probes(gateway)
    app.add_routes(probes.health())
    if gateway.settings.admin_port is None:
        app.add_routes(probes.metrics())
    app.add_routes([*own.routes(), *api.routes(), *Events(gateway).routes(), *paths.routes(gateway)])
    app.add_routes(Exports(gateway).routes())
    app.add_routes(
        [*SessionStreams(gateway).routes(), *Subscriptions(gateway).routes(), *DurableStreams(gateway).routes()]
    )
    app.add_routes([*AgUi(gateway).routes(), *AiSdk(gateway).routes(), *TanStack(gateway).routes()])
    if gateway.settings.demo is not None:
        _Demo(gateway.settings.demo).add_to(app.router)
    return app


@asynccontextmanager
async def serving(
    settings: Settings, sock: socket.socket, admin: socket.socket | None = None, traces: Traces = PASSED_ON
) -> AsyncIterator[Gateway]:
    """Run a gateway on a bound socket for as long as the block lasts. Raises what the broker raises; that it is away,
    or elects, when that has lasted for `settings.broker_wait_s`.

    `admin`: another one, for metrics and health. `traces`: who makes spans of what is asked.
    """
    metrics = Metrics()
    keys = settings.keys(metrics)
    sockets = [sock] if admin is None else [sock, admin]
    address = url_of(sock, tls=settings.tls_cert is not None)
    async with keys, AsyncExitStack() as stack:
        gateway = await patiently(stack, lambda: _opened(settings, address, keys, metrics, traces), settings, sockets)
        # A client that leaves ends its request: else streams and long polls would stay.
        runner = web.AppRunner(
            application(gateway),
            handler_cancellation=True,
            handle_signals=False,
            shutdown_timeout=1.0,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await DoorSite(runner, sock, gateway.door, settings.head_s, gateway.tls).start()
        if admin is not None:
            await stack.enter_async_context(administering(gateway, admin))
        try:
            yield gateway
        finally:
            await gateway.drain()
            await gateway.stop()


@asynccontextmanager
async def _opened(
    settings: Settings, address: str, keys: KeyKeeper, metrics: Metrics, traces: Traces
) -> AsyncIterator[Gateway]:
    """Have a gateway do all that it does at the broker; nobody can reach it yet. Raises what the broker raises."""
    fabric = Fabric.connect(
        settings.nats,
        participant="service:gateway",
        provision=settings.provision,
        name="session-fabric-gateway",
        credentials=settings.nats_introduction(),
        keys=None if settings.encryption_keys is None else Keys.read(settings.encryption_keys),
        metrics=metrics.fabric,
        traces=traces,
    )
    async with fabric as connected, Revocations(connected.broker) as revocations, AsyncExitStack() as stack:
        standing, seeds = Standing(keys, revocations), settings.native_seeds()
        gateway = Gateway(
            connected,
            await connected.durable_streams(),
            authenticator(settings, keys, revocations.revoked),
            settings,
            standing,
            metrics,
            traces,
        )
        gateway.address = address
        stack.push_async_callback(gateway.stop)
        await gateway.start()
        # Who came to the broker with a token is asked for it, whoever else is let in here.
        tokens = gateway.authenticator if seeds is None else by_token(settings, keys, revocations.revoked)
        natives = connected.answering(grants_by(tokens), Charged(gateway.accounts))
        if natives is not None:
            await stack.enter_async_context(natives)
            look_again = natives.look_again
            stack.callback(standing.on_changed(lambda _: look_again()))
        if seeds is not None:
            await stack.enter_async_context(Authority(connected, tokens, standing, seeds))
        yield gateway


def bind(host: str, port: int, *, shared: bool = False, flag: str = "--port") -> socket.socket:
    """Take a port; `shared` with other processes of ours; `flag` sets it. Raises `PortBusy`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host.strip("[]"), port))
    except OSError as error:
        sock.close()
        raise PortBusy(
            f"Port {port} of {host} cannot be opened: {error.strerror or error}.",
            hint=f"Choose another one with {flag}, or {flag} 0 for a free one.",
            port=port,
        ) from error
    return sock


def url_of(sock: socket.socket, *, tls: bool = False) -> str:
    host, port = sock.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


class _Own:
    """The gateway's own pages, and the socket."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._openapi = document()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/ws", self.socket, allow_head=False),
            web.get("/openapi.json", self.openapi),
        ]

    async def socket(self, request: web.Request) -> web.StreamResponse:
        gateway = self._gateway
        gateway.refuse_while_draining()
        socket = Socket((LANES, SUBPROTOCOL), gateway.settings.limits.max_frame_bytes)
        check_handshake(request.headers)
        address = gateway.door.greets(request)
        await socket.prepare(request)
        if socket.ws_protocol == LANES:
            await Lanes(gateway, request, socket, address).run()
        else:
            await Connection(gateway, Whole(gateway, request, socket, address)).run()
        return socket

    async def openapi(self, _: web.Request) -> web.Response:
        return web.json_response(self._openapi)


class _Demo:
    """The static files of a directory; `/` is its index.html."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/", self.get)
        files = _Files(r"/{path:(?!v1/)[A-Za-z0-9_-][A-Za-z0-9_./-]*}", self._file)
        router.register_resource(files)
        for method in ("GET", "HEAD"):
            files.add_route(method, self.get)

    async def get(self, request: web.Request) -> web.StreamResponse:
        file = self._file(request.match_info.get("path", "index.html"))
        if file is None:
            raise web.HTTPNotFound
        return web.FileResponse(file, headers={"Cache-Control": "no-cache", "Content-Security-Policy": PAGE_POLICY})

    def _file(self, path: str) -> Path | None:
        try:
            found = (self._directory / path).resolve()
            return found if found.is_relative_to(self._directory) and found.is_file() else None
        except OSError:
            return None  # no file system has such a name


class _Files(web.DynamicResource):
    """All paths that are nothing else: where there is no file, no method is the right one."""

    def __init__(self, path: str, file: Callable[[str], Path | None]) -> None:
        super().__init__(path)
        self._file = file

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        found, methods = await super().resolve(request)
        if found is None and methods and self._file(request.path[1:]) is None:
            return None, set()
        return found, methods

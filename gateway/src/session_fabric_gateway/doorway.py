"""Where connections come in: who is let in, and who is cut for taking too long or for being too many."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Literal, Protocol, cast

import structlog
from aiohttp import HttpVersion10, HttpVersion11, web
from session_fabric.words.errors import InvalidRequest, RateLimited

from session_fabric_gateway.accounts import Accounts
from session_fabric_gateway.addresses import Network, client_of, parse_address, trusted
from session_fabric_gateway.answers import problem
from session_fabric_gateway.codes import Defect
from session_fabric_gateway.intake import Intake
from session_fabric_gateway.metrics import Metrics
from session_fabric_gateway.strangers import MOST_HEAD_BYTES, Cut, Pace, Progress, Strangers

log = structlog.get_logger()

# Of each line of a head, aiohttp's own limit; `MOST_HEAD_BYTES` is that of all together.
MOST_LINE_BYTES: Final = 8190
MOST_HEADERS: Final = 100
_FORWARDED: Final = "X-Forwarded-For"
# One that is over a rate is not answered again for so long: what it sends waits with it, in its own buffers.
_REFUSED_PAUSE_S: Final = 0.25


_NO_HTTP: Final = InvalidRequest(
    "The request's head is not HTTP/1.1, or is too long.",
    hint=f"A line has at most {MOST_LINE_BYTES} bytes; there are at most {MOST_HEADERS} headers.",
)

# Whether one that comes may stay: there was room, another had to go for it, or it may not.
Room = Literal["free", "made", "none"]


class Entrant(Protocol):
    """A connection that is coming in; a `Visitor`, or what stands for it before there is one."""

    def cut(self, why: Cut) -> None:
        """Let go of it without a word."""


class SlowBody(TimeoutError):
    """Raised in whoever reads a body that comes too slowly."""


class Visitor(Intake):
    """aiohttp's protocol of one connection, looked after."""

    __slots__ = ("_arrival", "_door", "_request", "_unheard", "cut_for", "progress", "streaming")

    def __init__(self, door: Doorway, manager: web.Server, arrival: Entrant, **options: Any) -> None:
        super().__init__(manager, **options)
        self._arrival: Entrant | None = arrival
        self._door = door
        self._request: web.BaseRequest | None = None
        self._unheard = 0
        self.cut_for: Cut | None = None
        self.progress = Progress(time.monotonic())
        self.streaming = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self._arrival is not None
        self._door.arrived(self, self._arrival)
        self._arrival = None
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._door.left(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # What is left of a body that was refused is no head: it is read and dropped, so that its sender hears why.
        head = self._request is None and not self.ending
        if data and (head or (self.streaming and self in self._door.strangers)):
            if self._unheard > MOST_HEAD_BYTES:
                self.cut("long_head")
                return
            self._unheard += len(data)
            self.progress.heard(time.monotonic())
        super().data_received(data)

    async def _handle_request(
        self,
        request: web.BaseRequest,
        start_time: float | None,
        request_handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> tuple[web.StreamResponse, bool]:
        """From a whole head to the end of its answer."""
        self._request = request
        self._unheard = 0
        self.progress.began(time.monotonic())
        request_handler = self._door.refusal_of(request) or request_handler
        try:
            answered = await super()._handle_request(request, start_time, request_handler)
            if answered[0].status == 429:
                await asyncio.sleep(_REFUSED_PAUSE_S)
            return answered
        finally:
            self._request = None
            self.streaming = False  # the next request of this connection is looked after as any
            self.progress.ended(time.monotonic())

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request as every error is answered; aiohttp's own answer quotes it, and logs it."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way")
        response = self._door.answer_failed(status, exc)
        response.force_close()
        return response

    def cut(self, why: Cut) -> None:
        """Let go of it without a word."""
        if self.cut_for is None:
            self.cut_for = why
            self._door.count_cut(why)
        if self.transport is not None:
            self.transport.abort()

    def check(self, now: float, pace: Pace) -> None:
        """Cut it if it takes too long."""
        request, transport = self._request, self.transport
        if self.streaming or transport is None or transport.is_closing():
            return  # what streams has vitals of its own
        if request is None:
            why = self.progress.check_head(now, pace, stranger=self in self._door.strangers)
            if why is not None:
                self.cut(why)
            return
        content = request.content
        # What we do not read for now ourselves is not the client's fault.
        if not content.is_eof() and not self._reading_paused:
            if self.cut_for == "slow_body":
                transport.abort()  # nobody has been reading who could have been told
            elif self.progress.check_body(now, pace, content.total_bytes):
                self.cut_for = "slow_body"
                self._door.count_cut("slow_body")
                content.set_exception(SlowBody())
                return
        written, waiting = request.writer.output_size, transport.get_write_buffer_size()
        if self.progress.check_answer(now, pace, written=written, waiting=waiting):
            self.cut("slow_reader")


class Doorway:
    """The connections of one process, from the first byte on."""

    def __init__(
        self, accounts: Accounts, metrics: Metrics, proxies: Sequence[Network], pace: Pace, headers: dict[str, str]
    ) -> None:
        allowances = accounts.allowances
        self.strangers: Strangers[Entrant] = Strangers(allowances.address.strangers, allowances.gateway.strangers)
        self._accounts = accounts
        self._metrics = metrics
        self._proxies = proxies
        self.pace = pace
        self._headers = headers
        self._visitors: set[Visitor] = set()
        self._warned = False

    def __len__(self) -> int:
        return len(self._visitors)

    # --- connections --------------------------------------------------------------------------------

    def knocks(self, one: Entrant, peer: object) -> Room:
        """Say whether there is room for a connection from there; where there is, it has it."""
        host = str(peer[0]) if isinstance(peer, tuple) else None
        address = client_of(host, None, ())
        if self._proxies and trusted(parse_address(host or ""), self._proxies):
            return "free"  # whose it is, the head of a request will tell
        try:
            self._accounts.spend_of_address(address, time.monotonic(), "connections")
        except RateLimited:
            self.count_cut("address_connections")
            return "none"
        return "made" if self._stranger(one, address) else "free"

    def arrived(self, visitor: Visitor, arrival: Entrant) -> None:
        """Take in a connection that has been let in as `arrival`."""
        if arrival in self.strangers:
            self._stranger(visitor, self.strangers.remove(arrival))
        self._visitors.add(visitor)

    def left(self, visitor: Visitor) -> None:
        self._visitors.discard(visitor)
        self.strangers.remove(visitor)

    def _stranger(self, one: Entrant, address: str) -> bool:
        """Take one in that nobody knows; say whether another had to go for it."""
        goes = self.strangers.add(one, address)
        if goes is not None:
            goes[0].cut(goes[1])
        return goes is not None

    def count_cut(self, why: Cut) -> None:
        self._metrics.cuts.labels(why).inc()

    def visitors(self) -> list[Visitor]:
        """Return all connections as they are now, for who cuts those that take too long."""
        return list(self._visitors)

    def answer_failed(self, status: int, error: BaseException | None) -> web.Response:
        """Answer what never came to be a request, or failed outside of all that answers."""
        if status >= 500:
            log.error("request_failed", error=type(error).__name__)
            return self._told(problem(Defect("The request failed.")), Defect.code)
        return self._told(problem(_NO_HTTP))

    def refusal_of(self, request: web.BaseRequest) -> Callable[[web.BaseRequest], Awaitable[web.Response]] | None:
        """Return what answers a request that is refused by its form, whatever it is for."""
        if request.headers.get("Expect", "").lower() not in ("", "100-continue"):
            # aiohttp's own answer quotes it
            wrong = InvalidRequest("The request expects what this gateway does not do.", hint="Expect 100-continue.")
            return partial(self._refuse, wrong, 417)
        if request.version not in (HttpVersion10, HttpVersion11):
            return partial(self._refuse, _NO_HTTP, 505)
        if request.headers.get("Transfer-Encoding", "chunked").strip().lower() != "chunked":
            # aiohttp takes such a body as it comes, still coded. RFC 9112, section 6.1, has the status.
            wrong = InvalidRequest("The body is transferred in another coding than chunks.", hint="Send it as it is.")
            return partial(self._refuse, wrong, 501)
        return None

    async def _refuse(self, wrong: InvalidRequest, status: int, _: web.BaseRequest) -> web.Response:
        response = self._told(problem(wrong, status))
        response.force_close()  # whether a body follows is not known
        return response

    def _told(self, response: web.Response, code: str = "") -> web.Response:
        self._metrics.refusals.labels(code or f"http_{response.status}").inc()
        response.headers.update(self._headers)
        return response

    # --- requests -----------------------------------------------------------------------------------

    def address_of(self, request: web.Request) -> str:
        """Return the name under which a client is counted as long as nobody knows who it is."""
        forwarded = ",".join(request.headers.getall(_FORWARDED, ())) or None
        peer = request.remote
        if forwarded and not self._warned and not trusted(parse_address(peer or ""), self._proxies):
            self._warned = True
            log.warning("forwarded_for_ignored", hint="name your proxy by --trusted-proxy")
        return client_of(peer, forwarded, self._proxies)

    def greets(self, request: web.Request) -> str:
        """Take in a socket, which is a stranger until hello; return its address. Raises `RateLimited`."""
        visitor = visitor_of(request)
        address = self.address_of(request)
        if visitor not in self.strangers:  # a proxy's
            self._accounts.spend_of_address(address, visitor.progress.since, "connections")
            self._stranger(visitor, address)
        visitor.streaming = True
        return address

    def streams(self, request: web.Request) -> None:
        """An answer that has no end, and is looked after by itself."""
        visitor_of(request).streaming = True

    def known(self, request: web.Request) -> None:
        """Whose it is, is known: a good token has come."""
        self.strangers.remove(visitor_of(request))


def visitor_of(request: web.Request) -> Visitor:
    return cast(Visitor, request.protocol)

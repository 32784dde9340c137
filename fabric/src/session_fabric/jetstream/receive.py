"""Our connection to the broker: nats-py's client with synchronous taps, and messages spelled in one go.

nats-py spends 7-8 us on a message with headers before a callback sees it, 13-20 us behind a queue; a tap
costs under 2. Private parts are used (`_ps`, `_process_msg`, `_subs`): the version is pinned in pyproject.toml and
tests/fabric/jetstream/test_receive.py holds what is relied upon.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from nats.aio.client import DEFAULT_BUFFER_SIZE, Client
from nats.errors import AuthorizationError, FlushTimeoutError, StaleConnectionError
from nats.errors import Error as NatsError
from nats.protocol.parser import AUTHORIZATION_VIOLATION, STALE_CONNECTION
from nkeys import NkeysError  # type: ignore[import-untyped]

from session_fabric.jetstream.credentials import TlsFiles
from session_fabric.jetstream.incoming import OnePassParser, Tcp
from session_fabric.jetstream.reasons import Unencrypted
from session_fabric.loops import OwnLoop
from session_fabric.words.closing import Closed
from session_fabric.words.delivered import Message
from session_fabric.words.errors import BrokerUnavailable
from session_fabric.words.logs import log

# subject, reply, raw header block (empty: none), payload
Tap = Callable[[bytes, bytes, bytes, bytes], None]
# The same, of messages that came one behind the other.
ManyTap = Callable[[Sequence[Message]], None]

# What may stand in a control line as a subject; of all else nats-py says what is wrong with it.
_SUBJECT = re.compile(r"[^ \t\r\n]+")
# How long a broker that does not read may hold up the end of a connection.
_CLOSE_S = 2.0
# What one turn of the event loop gathers goes in pieces of so many bytes, a dozen appends: the broker begins with the
# first ones while the others are still being spelled. A piece costs a call of the kernel.
_PIECE = 4096


def _spelled(subject: str, reply: str, payload: bytes, headers: Mapping[str, str]) -> bytes | None:
    """Return a message as it is sent; None where a header would be more than one."""
    target = f"{subject} {reply}" if reply else subject
    if not headers:
        return b"PUB %b %d\r\n%b\r\n" % (target.encode(), len(payload), payload)
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
        return None
    head = f"NATS/1.0\r\n{lines}\r\n".encode()
    line = f"HPUB {target} {len(head)} {len(head) + len(payload)}\r\n".encode()
    return b"%b%b%b\r\n" % (line, head, payload)


class Connection(Client):
    """nats-py's client with taps: subscriptions whose messages go straight to a synchronous callable."""

    def __init__(self) -> None:
        super().__init__()
        self._taps: dict[int, Tap] = {}
        self._many_taps: dict[bytes, ManyTap] = {}
        self._ps: OnePassParser = OnePassParser(self)
        self._own_loop: OwnLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._to_be_sent = False
        self._ending = False
        self._may_be_plain = False
        self._caller: asyncio.Task[Any] | None = None
        self._cancelled = 0
        self._after_taps: list[Callable[[], None]] = []

    @property
    def server_facts(self) -> Mapping[str, Any]:
        """Return what the node at which we are says of itself."""
        return {**self._server_info, "tls_required": False} if self._may_be_plain else self._server_info

    @property
    def server_has_jetstream(self) -> bool:
        """Say whether the node at which we are has JetStream, as it says itself."""
        return bool(self._server_info.get("jetstream"))

    @property
    def in_cluster(self) -> bool:
        return bool(self._server_info.get("cluster"))

    @property
    def at_only_node(self) -> bool:
        """Say whether the node at which we are is all that there is: no replica can answer in its place."""
        return self.server_has_jetstream and not self.in_cluster

    @property
    def ended(self) -> bool:
        """Say whether `close` was called."""
        return self._ending

    def check_loop(self) -> None:
        """Raise `InvalidRequest` in another event loop than the one that it was connected in."""
        if self._own_loop is not None:
            self._own_loop.check()

    async def close(self) -> None:
        """Close, and see the search for a server end too. Cancelled, no socket is left open.

        nats-py cancels it once; where it waits by `wait_for` that may be lost (Python 3.11), and it would never end.
        """
        self._ending = True
        if not self.is_connected:
            # nats-py would try to send what waits through a socket that is gone.
            self._pending, self._pending_data_size = [], 0
        try:
            async with asyncio.timeout(_CLOSE_S):
                await super().close()
        except (TimeoutError, OSError):
            pass
        finally:
            if self._transport is not None:
                self._transport.close()  # type: ignore[no-untyped-call]
        search = self._reconnection_task
        if search is not None and search is not asyncio.current_task() and not search.done():
            search.cancel()
            await asyncio.wait({search}, timeout=float(self.options["connect_timeout"]) + 1)
            if self._transport is not None:
                self._transport.close()  # type: ignore[no-untyped-call]  # what the search found at the last moment

    async def connect(self, *servers: Any, **options: Any) -> None:
        """Connect; a caller's cancellation ends it even where nats-py has lost it over one of its tries."""
        self._own_loop = OwnLoop()
        task = asyncio.current_task()
        self._caller, self._cancelled = task, task.cancelling() if task else 0
        try:
            await super().connect(*servers, **options)
            self._check_caller()
        finally:
            self._caller = None

    def _check_caller(self) -> None:
        """Raise `CancelledError` where nats-py has lost the caller's cancellation."""
        if self._caller is not None and self._caller.cancelling() > self._cancelled:
            raise asyncio.CancelledError

    async def _connect_to_server(self, server: Any) -> None:
        self._check_caller()
        if self._ending:
            raise asyncio.CancelledError
        if server.uri.scheme == "ws" and "tls" in self.options:
            raise Unencrypted
        if isinstance(tls := self.options.get("tls"), TlsFiles):
            tls.renew()
        if server.uri.scheme in ("ws", "wss"):
            await super()._connect_to_server(server)
            return
        server.last_attempt = time.monotonic()
        if self._transport is None:
            self._transport = Tcp(self._take)
        self._ps.reset()  # the last of the connection before may be half a message
        await self._transport.connect(server.uri, DEFAULT_BUFFER_SIZE, self.options["connect_timeout"])

    async def _select_next_server(self) -> None:
        """Try the node that was lost last: one that hangs takes connections, and says nothing for a whole time-out."""
        pool = self._server_pool
        if len(pool) > 1 and pool[0] is self._current_server:
            pool.append(pool.pop(0))
        await super()._select_next_server()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Have TLS where it is wanted: unless the broker insists, nats-py shows its credentials without."""
        server = self._current_server
        wanted = "tls" in self.options or (server is not None and server.uri.scheme == "tls")
        if initial_connection and wanted and not info.get("tls_required") and isinstance(self._transport, Tcp):
            if not info.get("tls_available"):
                raise Unencrypted  # and nothing is taken from it: where other nodes are neither
            # For nats-py, which looks for the nodes that it is told of under this one's name then.
            info["tls_required"] = True
            self._may_be_plain = True
        await super()._process_info(info, initial_connection)

    def _connect_command(self) -> bytes:
        """Show the key that is in the file now: nats-py would sign with it, and name the one of the first time."""
        if self._nkeys_seed is not None:
            with suppress(OSError, NkeysError):  # what cannot be read now may be later
                self._setup_nkeys_seed_connect()
        return bytes(super()._connect_command())

    async def _process_err(self, err_msg: str) -> None:
        """Tell what the broker has said. What is over then, it ends itself, and a server is looked for again.

        nats-py closes for good, after a moment with another password at the broker, or for one subscription too many.
        """
        if STALE_CONNECTION in err_msg or not self.is_connected:
            await super()._process_err(err_msg)
            return
        said = err_msg.strip("'")
        self._err = AuthorizationError() if AUTHORIZATION_VIOLATION in said else NatsError(f"nats: {said}")
        await self._error_cb(self._err)

    async def _process_connect_init(self) -> None:
        self._may_be_plain = False
        try:
            await super()._process_connect_init()
        except BaseException:
            # nats-py goes on to the next server without closing the socket of one that accepted and said nothing.
            if self._transport is not None:
                self._transport.close()  # type: ignore[no-untyped-call]
            raise

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        """Wake the flusher, and wait for it if asked. nats-py's own swallows the caller's cancellation."""
        flushed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self.is_connected or self._flush_queue is None:
            flushed.set_result(None)
        elif self._flusher_task is None or self._flusher_task.done():
            return await super()._flush_pending(force_flush)
        else:
            await self._flush_queue.put(flushed)
            if force_flush:
                try:
                    async with asyncio.timeout(self._flush_timeout):
                        await flushed
                except TimeoutError:
                    await self._error_cb(FlushTimeoutError())
        return flushed

    async def _send_publish(
        self, subject: str, reply: str, payload: bytes, payload_size: int, headers: dict[str, str] | None
    ) -> None:
        """Spell a message in one go: nats-py takes 15 us more over five headers."""
        self.check_loop()
        if not headers or (message := _spelled(subject, reply, payload, headers)) is None:
            await super()._send_publish(subject, reply, payload, payload_size, headers)
            return
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += payload_size
        await self._send_command(message)
        self._send_soon()

    def send(self, subject: str, reply: str, payload: bytes, headers: Mapping[str, str] | None) -> bool:
        """Publish without waiting, if that can be done at once; False where `publish` has to wait, or has a say."""
        if len(payload) > self._max_payload or not _SUBJECT.fullmatch(subject):
            return False
        message = _spelled(subject, reply, payload, headers or {})
        return message is not None and self._put(message)

    def pass_on(self, subject: bytes, head: bytes, payload: bytes) -> bool:
        """Publish bytes as they came, without waiting; False where the connection is lost, or has too much to send."""
        line = b"HPUB %b %d %d\r\n" % (subject, len(head), len(head) + len(payload))
        message = b"%b%b%b\r\n" % (line, head, payload)
        if not head:
            message = b"PUB %b %d\r\n%b\r\n" % (subject, len(payload), payload)
        return self._put(message)

    def _put(self, message: bytes) -> bool:
        """Have a message sent with what else waits for it; False where that is too much already, or nobody sends."""
        if not self.is_connected or self._pending_data_size > self._max_pending_size:
            return False
        self._pending.append(message)
        self._pending_data_size += len(message)
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(message)
        if self._pending_data_size >= _PIECE:
            self._send_pending()
        else:
            self._send_soon()
        return True

    def _send_soon(self) -> None:
        if not self._to_be_sent:
            # Asked for once: which loop runs is a call of the kernel (Python 3.11).
            loop = self._loop = self._loop or asyncio.get_running_loop()
            loop.call_soon(self._send_gathered)
            self._to_be_sent = True

    def _send_gathered(self) -> None:
        self._to_be_sent = False
        self._send_pending()

    def _send_pending(self) -> None:
        """Send what has been gathered; nats-py's flusher does where the broker holds back."""
        if not self.is_connected or not self._pending:
            return  # it goes when the broker is found again
        if isinstance(self._transport, Tcp) and self._transport.write_now(self._pending):
            self._pending, self._pending_data_size = [], 0
        elif self._flush_queue is not None and self._flush_queue.empty():
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            # Given up by its caller, and answered now: nats-py would end its read loop over it.
            self._pongs.pop(0)
            self._pongs_received += 1
            self._pings_outstanding = 0
            return
        await super()._process_pong()

    async def _read_loop(self) -> None:
        await super()._read_loop()
        task = asyncio.current_task()
        if self.is_connected and not (task and task.cancelling()):
            # An error that nats-py only logs: without this the connection would stay, and be deaf.
            await self._process_op_err(StaleConnectionError())

    def after_taps(self, then: Callable[[], None]) -> None:
        """Call `then` when taps have had what came in one piece: whoever gathers need not wait for the loop."""
        self._after_taps.append(then)

    def _take(self, data: bytes) -> bytes:
        rest = self._ps.take(data)
        for then in self._after_taps:
            try:
                then()
            except Exception:
                log.exception("tap_failed")
        return rest

    async def tap_many(self, subject: str, sink: ManyTap) -> int:
        """Subscribe as `tap` does; `sink` gets what has come one behind the other in one call."""
        self.check_loop()
        number = self._sid + 1
        self._many_taps[b"%d" % number] = sink
        return await self._subscribe_tap(number, subject, "")

    async def tap(self, subject: str, sink: Tap, *, queue: str = "") -> int:
        """Subscribe; return the subscription's number. `sink` must not block; what it raises is logged.

        `queue`: of all who subscribe under this name one hears each message.
        """
        self.check_loop()
        # Registered before the first await, so that no message can come between. A future instead of a callback
        # spares a queue and a task a subscription; it is never completed.
        number = self._sid + 1
        self._taps[number] = sink
        return await self._subscribe_tap(number, subject, queue)

    async def _subscribe_tap(self, number: int, subject: str, queue: str) -> int:
        if self.ended:
            self._taps.pop(number, None)
            self._many_taps.pop(b"%d" % number, None)
            raise Closed
        unused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        subscription = await self.subscribe(subject, queue=queue, future=unused)
        if subscription._id != number:
            raise AssertionError("nats-py numbers subscriptions otherwise than expected")
        return number

    async def tap_now(self, subject: str, sink: Tap, *, queue: str = "", timeout_s: float = 5.0) -> int:
        """Subscribe; return when the broker has registered it. Raises `BrokerUnavailable`, nothing left behind."""
        number = await self.tap(subject, sink, queue=queue)
        try:
            await self.rtt(timeout_s)  # type: ignore[arg-type]  # a float works
        except (NatsError, TimeoutError, OSError) as error:
            await self.untap(number)
            raise BrokerUnavailable(f"The broker did not take a subscription within {timeout_s:g} s.") from error
        except BaseException:
            await self.untap(number)
            raise
        return number

    async def rtt(self, timeout: int = 10) -> float:
        """Measure the round trip; the answer says that the broker has taken in all that was sent before.

        nats-py writes its PING straight to the socket, past the SUBs that still wait for its flusher; and its own
        `rtt` waits by `wait_for`, which in Python 3.11 swallows a cancellation that comes together with the answer.
        """
        self.check_loop()
        if self.ended:
            raise Closed
        if not self.is_connected:
            raise BrokerUnavailable("The broker is not connected.", hint="It is being looked for; try again.")
        loop = asyncio.get_running_loop()
        pong: asyncio.Future[bool] = loop.create_future()
        async with asyncio.timeout(timeout):
            await self._flush_pending(force_flush=True)
            begun = loop.time()
            await self._send_ping(pong)
            await pong
        return loop.time() - begun

    async def drain(self, *numbers: int) -> None:
        """Unsubscribe, and return when what was on its way has gone through the taps. Away: at once."""
        try:
            for number in numbers:
                subscription = self._subs.get(number)
                if subscription is not None and self.is_connected:
                    await subscription.unsubscribe()
            await self.rtt(2)
        except (NatsError, TimeoutError, OSError, BrokerUnavailable):
            pass  # a broken connection brings nothing any more
        finally:
            for number in numbers:
                await self.untap(number)

    async def untap(self, number: int) -> None:
        self._taps.pop(number, None)
        self._many_taps.pop(b"%d" % number, None)
        subscription = self._subs.get(number)
        if subscription is not None and not self.is_closed:
            await subscription.unsubscribe()

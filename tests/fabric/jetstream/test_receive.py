"""The receive path: whatever the network cuts the stream of bytes into, the taps get the same messages."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from typing import Any
from urllib.parse import urlparse

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.errors import ProtocolError, StaleConnectionError
from nats.protocol.parser import Parser
from session_fabric.jetstream.incoming import Arriving, OnePassParser, Tcp
from session_fabric.jetstream.receive import Connection
from session_fabric.words.errors import BrokerUnavailable

from tests.support.servers import NatsNode, nats_node
from tests.support.waiting import eventually

Message = tuple[int, bytes, bytes, bytes, bytes]
TAPPED = (1, 2)
UNTAPPED = 3
TAPPED_TOGETHER = (4, 5)


class Heard:
    """The part of a client that a parser calls: it notes what it is told."""

    def __init__(self) -> None:
        self.all: list[Message | str] = []
        self._taps = {sid: self._tap(sid) for sid in TAPPED}
        self._many_taps: dict[bytes, Any] = {b"%d" % sid: self._many(sid) for sid in TAPPED_TOGETHER}

    def _tap(self, sid: int) -> Any:
        return lambda subject, reply, head, payload: self.all.append((sid, subject, reply, head, payload))

    def _many(self, sid: int) -> Any:
        return lambda messages: self.all.extend((sid, *message) for message in messages)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, payload: bytes, head: bytes | None) -> None:
        assert sid == UNTAPPED, "nats-py got a message that belongs to a tap"
        self.all.append((sid, bytes(subject), bytes(reply), head or b"", payload))

    async def _process_ping(self) -> None:
        self.all.append("ping")

    async def _process_pong(self) -> None:
        self.all.append("pong")

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.all.append(f"info {info}")

    async def _process_err(self, text: str) -> None:
        self.all.append(f"err {text}")


def spell(item: Message | str) -> bytes:
    if isinstance(item, str):
        return {"ping": b"PING\r\n", "pong": b"PONG\r\n", "ok": b"+OK\r\n"}.get(item) or (
            b'INFO {"a":1}\r\n' if item.startswith("info") else b"-ERR 'oh no'\r\n"
        )
    sid, subject, reply, head, payload = item
    # What comes from another account has an empty reply and its space.
    middle = subject + b" %d " % sid + (reply + b" " if reply or subject.startswith(b"$SYS") else b"")
    if head:
        line = b"HMSG " + middle + b"%d %d\r\n" % (len(head), len(head) + len(payload))
    else:
        line = b"MSG " + middle + b"%d\r\n" % len(payload)
    return line + head + payload + b"\r\n"


# Bodies that look like the protocol itself.
TRICKY = [b"", b"\r\n", b"PING\r\n", b"MSG a 1 3\r\nabc\r\n", b"\r", b"MSG ", b"H", b"\x00\xff" * 3]
subjects = st.sampled_from(
    [b"a", b"sf-live.t.s.ev._.agent=3Aw", b"_INBOX.x.7", b"HMSG", b"$JS.ACK.S.c.1.2.3.4.5", b"$SYS.A"]
)
messages = st.tuples(
    st.sampled_from([*TAPPED, UNTAPPED, *TAPPED_TOGETHER]),
    subjects,
    st.sampled_from([b"", b"reply.to.me"]),
    st.sampled_from([b"", b"NATS/1.0\r\n\r\n", b"NATS/1.0 404 No\r\n\r\n", b"NATS/1.0\r\nA: b\r\nMSG: 1 2\r\n\r\n"]),
    st.sampled_from(TRICKY) | st.binary(max_size=40),
)
lines = st.sampled_from(["ping", "pong", "ok", "info {'a': 1}", "err 'oh no'"])


async def parse(items: Sequence[Message | str], cuts: Sequence[int], *, shown: bool = False) -> list[Message | str]:
    """Parse them cut into chunks; `shown`: taps take theirs first, and the read loop has what is left."""
    heard = Heard()
    parser = OnePassParser(heard)
    data = b"".join(spell(item) for item in items)
    at = 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        chunk, at = data[at:cut], cut
        await parser.parse(parser.take(chunk) if shown else chunk)
    assert not parser._rest
    return heard.all


@given(st.lists(messages | lines, max_size=8), st.lists(st.integers(0, 5000), max_size=12), st.booleans())
@example(["ping", (1, b"a", b"", b"", b"x")], [2], True)
@example([(1, b"a", b"", b"", b"x"), "pong", (2, b"b", b"", b"", b"y")], [13], False)
def test_however_a_stream_is_cut_the_same_messages_arrive(
    items: list[Message | str], cuts: list[int], shown: bool
) -> None:
    expected = [item for item in items if item != "ok"]
    assert asyncio.run(parse(items, cuts, shown=shown)) == expected


@given(st.lists(messages | lines, max_size=8), st.lists(st.integers(0, 5000), max_size=12), st.integers(0, 3))
def test_in_whatever_turns_what_comes_and_who_reads_it_take_it_the_order_stays(
    items: list[Message | str], cuts: list[int], turns: int
) -> None:
    async def through_a_stream() -> list[Message | str]:
        heard = Heard()
        parser = OnePassParser(heard)
        arriving = Arriving(1 << 16, parser.take)

        async def read_loop() -> None:
            while chunk := await arriving.read(7):
                await parser.parse(chunk)

        reading = asyncio.create_task(read_loop())
        data, at = b"".join(spell(item) for item in items), 0
        for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
            for _ in range(turns):
                await asyncio.sleep(0)
            arriving.feed_data(data[at:cut])
            at = cut
        arriving.feed_eof()
        await reading
        return heard.all

    assert asyncio.run(through_a_stream()) == [item for item in items if item != "ok"]


def test_byte_by_byte_the_same_messages_arrive() -> None:
    items: list[Message | str] = ["info {'a': 1}", "ping"]
    items += [(sid, b"s", b"r", b"NATS/1.0\r\n\r\n", body) for sid in (1, 4) for body in TRICKY] + [
        (3, b"s", b"", b"", b"x"),
        "pong",
    ]
    data = b"".join(spell(item) for item in items)
    assert asyncio.run(parse(items, range(len(data)))) == items


@pytest.mark.parametrize("data", [b"NONSENSE\r\n", b"MSG a b c d e f g\r\n", b"MSG a 1 x\r\n", b"P" * 70_000])
async def test_what_is_no_protocol_breaks_the_connection_rather_than_being_skipped(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        await OnePassParser(Heard()).parse(data)


async def test_a_tap_that_raises_harms_neither_the_next_message_nor_other_taps() -> None:
    heard = Heard()
    calls = 0

    def bad(*_: bytes) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("a defect")

    heard._taps[2] = bad
    parser = OnePassParser(heard)
    item: Message = (1, b"a", b"", b"", b"x")
    await parser.parse(spell((2, b"b", b"", b"", b"1")) + spell(item) + spell((2, b"b", b"", b"", b"2")) + spell(item))
    assert (calls, heard.all) == (2, [item, item])


async def test_a_tap_for_many_that_raises_harms_neither_what_is_behind_nor_other_taps() -> None:
    heard = Heard()

    def bad(_: object) -> None:
        raise RuntimeError("a defect")

    heard._many_taps[b"5"] = bad
    item: Message = (4, b"a", b"r", b"NATS/1.0\r\n\r\n", b"x")
    await OnePassParser(heard).parse((spell((5, *item[1:])) * 2 + spell(item)) * 2)
    assert heard.all == [item, item]


async def test_messages_of_one_subscription_that_come_together_are_handed_over_together() -> None:
    heard, calls = Heard(), list[int]()
    heard._many_taps[b"4"] = lambda messages: calls.append(len(messages))
    item: Message = (4, b"a", b"r", b"NATS/1.0\r\n\r\n", b"\r\nHMSG a 4 r 12 12\r\nNATS/1.0\r\n\r\n")
    await OnePassParser(heard).parse(spell(item) * 3 + spell((1, *item[1:])) + spell(item) * 2)
    assert calls == [3, 2]


async def test_a_large_message_in_many_chunks_arrives_whole() -> None:
    item: Message = (1, b"a", b"", b"NATS/1.0\r\n\r\n", bytes(range(256)) * 4000)
    assert await parse([item], range(0, 1_100_000, 4096)) == [item]


# --- what is relied upon of nats-py -------------------------------------------------------------------


def test_nats_py_is_of_the_version_whose_private_parts_are_known() -> None:
    assert version("nats-py").startswith("2.16.")
    client = Client()
    for name in ("_ps", "_subs", "_sid", "_pongs", "_pongs_received", "_pings_outstanding", "_flush_queue"):
        assert hasattr(client, name), name
    for name in (
        "_process_msg",
        "_process_pong",
        "_process_connect_init",
        "_process_op_err",
        "_flush_pending",
        "_send_ping",
        "_read_loop",
        "_connect_to_server",
    ):
        assert asyncio.iscoroutinefunction(getattr(client, name)), name
    assert isinstance(client._ps, Parser)
    assert client._ps.state == 1
    assert not client._ps.buf


@pytest.fixture
async def connected(shared_server: NatsNode) -> AsyncIterator[Connection]:
    connection = await opened(shared_server)
    yield connection
    await connection.close()


async def opened(server: NatsNode) -> Connection:
    async def ignored(_: Exception) -> None: ...

    connection = Connection()
    await connection.connect(
        server.url,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.05,
        connect_timeout=1,
        pending_size=64 * 1024 * 1024,
        error_cb=ignored,
    )
    return connection


async def test_a_tap_hears_from_when_it_was_taken_until_it_is_given_back(connected: Connection) -> None:
    got: list[bytes] = []
    number = await connected.tap_now("x.*", lambda _s, _r, _h, payload: got.append(payload))
    for n in range(100):
        await connected.publish(f"x.{n}", b"%d" % n)
    await eventually(lambda: len(got) == 100)
    assert got == [b"%d" % n for n in range(100)]
    await connected.untap(number)
    await connected.publish("x.y", b"late")
    await connected.rtt()
    assert len(got) == 100
    assert not connected._subs
    assert not connected._taps


async def test_a_plain_subscription_works_beside_taps(connected: Connection) -> None:
    got: list[tuple[bytes, str | None]] = []
    await connected.tap_now("a", lambda *_: None)

    async def plain(message: Any) -> None:
        got.append((message.data, (message.headers or {}).get("A")))

    await connected.subscribe("b", cb=plain)
    await connected.publish("a", b"1")
    await connected.publish("b", b"2", headers={"A": "x"})
    await eventually(lambda: got == [(b"2", "x")])


async def test_messages_of_a_tap_that_was_just_given_back_are_dropped(connected: Connection) -> None:
    other = []
    last = await connected.tap_now("b", lambda *message: other.append(message))
    for _ in range(50):
        number = await connected.tap("a", lambda *_: None)
        for _ in range(5):
            await connected.publish("a", b"x")
        await connected.untap(number)
    await connected.publish("b", b"x")
    await eventually(lambda: other)
    assert connected.is_connected
    await connected.untap(last)


async def test_a_socket_that_is_connected_anew_leaves_none_open(shared_server: NatsNode) -> None:
    tcp, uri = Tcp(lambda data: data), urlparse(shared_server.url)
    await tcp.connect(uri, 1024, 5.0)
    first = tcp._io_writer
    await tcp.connect(uri, 1024, 5.0)
    assert first is not None
    assert first.is_closing()
    for turns in range(12):  # cancelled at every moment of connecting
        connecting = asyncio.create_task(tcp.connect(uri, 1024, 5.0))
        for _ in range(turns):
            await asyncio.sleep(0)
        connecting.cancel()
        await asyncio.wait({connecting})
    tcp.close()  # type: ignore[no-untyped-call]
    with pytest.MonkeyPatch.context() as patch:
        unclosed: list[object] = []
        patch.setattr(sys, "unraisablehook", lambda unraisable: unclosed.append(unraisable.exc_value))
        gc.collect()
    assert unclosed == []


async def test_the_node_that_was_lost_is_tried_last(own_server: NatsNode, shared_server: NatsNode) -> None:
    errors: list[Exception] = []

    async def noted(error: Exception) -> None:
        errors.append(error)

    for _ in range(6):  # in which order the nodes are tried is thrown anew each time
        connection = Connection()
        servers = [own_server.url, shared_server.url]
        await connection.connect(
            servers, dont_randomize=True, reconnect_time_wait=0.05, connect_timeout=2, error_cb=noted
        )
        connection.options["dont_randomize"] = False
        assert connection.connected_url is not None
        assert connection.connected_url.port == own_server.port
        own_server.freeze()
        try:
            await connection._process_op_err(StaleConnectionError())
            await eventually(partial(getattr, connection, "is_connected"), 10.0)
            assert connection.connected_url.port == shared_server.port
        finally:
            own_server.thaw()
        await connection.close()
    assert [error for error in errors if isinstance(error, TimeoutError)] == []


async def test_a_ping_that_was_given_up_does_not_deafen_the_connection(own_server: NatsNode) -> None:
    connection = await opened(own_server)
    got: list[bytes] = []
    await connection.tap_now("a", lambda _s, _r, _h, payload: got.append(payload))
    own_server.freeze()
    try:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await connection.rtt(0.05)  # type: ignore[arg-type]
        cancelled = asyncio.create_task(connection.rtt())
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait({cancelled})
    finally:
        own_server.thaw()
    await connection.publish("a", b"heard")
    await eventually(lambda: got == [b"heard"])
    assert 0 < await connection.rtt() < 5
    assert connection.stats["reconnects"] == 0
    await connection.close()


async def test_a_defect_in_the_read_path_leads_to_a_new_connection_and_not_to_a_deaf_one(
    shared_server: NatsNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await opened(shared_server)
    got: list[bytes] = []
    await connection.tap_now("defect", lambda _s, _r, _h, payload: got.append(payload))
    taken = connection._ps._taken

    def broken(data: bytes, at: int) -> tuple[bytes, int]:
        if b"poison" in data:
            raise RuntimeError("a defect")
        return taken(data, at)

    monkeypatch.setattr(connection._ps, "_taken", broken)
    await connection.publish("defect", b"poison")
    await eventually(lambda: connection.stats["reconnects"] == 1)

    async def heard() -> bool:
        await connection.publish("defect", b"after")
        return b"after" in got

    await eventually(heard, every_s=0.05)
    await connection.close()


async def test_a_cancelled_call_is_cancelled(connected: Connection) -> None:
    """nats-py and `wait_for` of Python 3.11 swallow cancellations that come together with an answer."""
    for turns in range(40):
        task = asyncio.create_task(connected.tap_now("a", lambda *_: None))
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.cancel():
            await asyncio.wait({task})
            assert task.cancelled()
        else:
            await connected.untap(task.result())
    assert not connected._taps


async def test_without_a_broker_nothing_is_pinged_or_tapped(own_server: NatsNode) -> None:
    connection = await opened(own_server)
    own_server.kill()
    await eventually(lambda: not connection.is_connected)
    with pytest.raises(BrokerUnavailable):
        await connection.rtt()
    with pytest.raises(BrokerUnavailable):
        await connection.tap_now("a", lambda *_: None)
    assert not connection._taps
    await connection.close()


async def test_a_connection_that_is_closed_while_its_broker_is_away_leaves_nothing_running(
    own_server: NatsNode,
) -> None:
    async def close_while_away(connection: Connection) -> None:
        own_server.kill()
        await eventually(lambda: connection.is_reconnecting)
        await connection.close()
        assert connection.is_closed
        assert not [t for t in asyncio.all_tasks() if "_attempt_reconnect" in repr(t)]

    for _ in range(5):
        await close_while_away(await opened(own_server))
        await own_server.restart()


async def test_a_search_for_the_first_broker_ends_though_a_cancellation_of_it_is_lost() -> None:
    asking, failed = Connection(), asyncio.Event()

    async def loses(_: Exception) -> None:
        failed.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    search = asyncio.create_task(asking.connect("nats://127.0.0.1:1", max_reconnect_attempts=-1, error_cb=loses))
    await asyncio.wait_for(failed.wait(), 10)
    search.cancel()
    done, _ = await asyncio.wait({search}, timeout=10)
    search.cancel()
    assert done
    assert search.cancelled()
    await asking.close()


async def test_a_broker_that_does_not_read_does_not_hold_up_the_end(own_server: NatsNode) -> None:
    connection = await opened(own_server)
    own_server.freeze()
    try:
        for _ in range(16):
            await connection.publish("a", bytes(512 * 1024))
        async with asyncio.timeout(4):
            await connection.close()
        assert connection.is_closed
    finally:
        own_server.thaw()


async def test_taps_hear_again_after_a_restart(tmp_path: Any) -> None:
    async with nats_node(tmp_path / "nats") as node:
        connection = await opened(node)
        got: list[bytes] = []
        await connection.tap_now("a", lambda _s, _r, _h, payload: got.append(payload))
        node.kill()
        await node.restart()

        async def heard() -> bool:
            await connection.publish("a", b"x")
            return bool(got)

        await eventually(heard, every_s=0.05)
        await connection.close()


@pytest.mark.parametrize(
    "headers",
    [None, {}, {"A": "b"}, {"Nats-Msg-Id": "é😀 x", "Sf-Delta": "0 m1"}, {"A": "two\r\nlines"}, {"A": ""}],
)
@pytest.mark.parametrize("payload", [b"", b"x" * 1000])
async def test_what_is_sent_is_what_nats_py_would_have_sent(
    connected: Connection, headers: dict[str, str] | None, payload: bytes
) -> None:
    got: list[Any] = []

    async def plain(message: Any) -> None:
        got.append((message.headers, message.reply, message.data))

    await connected.subscribe("spelled", cb=plain)
    for reply in ("", "to.me"):
        await connected.publish("spelled", payload, reply=reply, headers=headers)
        await Client._send_publish(connected, "spelled", reply, payload, len(payload), headers)
        if not connected.send("spelled", reply, payload, headers):
            assert headers == {"A": "two\r\nlines"}  # nats-py has a say
            await connected.publish("spelled", payload, reply=reply, headers=headers)
    await eventually(lambda: len(got) == 6)
    assert got[0] == got[1] == got[2]
    assert got[3] == got[4] == got[5]


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB b 1\r\nx\r\n"])
async def test_what_is_no_subject_is_not_sent(connected: Connection, subject: str) -> None:
    assert not connected.send(subject, "", b"x", None)
    assert not connected.send("a", "", b"x" * (connected.max_payload + 1), None)


async def test_of_much_that_is_sent_in_one_turn_the_first_is_on_its_way_before_it_ends(connected: Connection) -> None:
    with socket.create_connection(urlparse(connected.connected_url.geturl()).netloc.rsplit(":", 1)) as listener:
        listener.settimeout(10)
        lines = listener.makefile("rb")
        listener.sendall(b"CONNECT {}\r\nSUB early 1\r\nPING\r\n")
        while next(lines) != b"PONG\r\n":
            pass
        # From here to the last assertion nothing awaits: the event loop turns no further.
        for number in range(100):
            assert connected.send("early", "", b"%0100d" % number, None)
        assert next(lines) == b"MSG early 1 100\r\n"
        assert int(next(lines)) == 0
        await connected.rtt()
        assert [int(next(lines)) for _ in range(99) if next(lines)] == [*range(1, 100)]


async def test_without_a_broker_nothing_is_sent_at_once(own_server: NatsNode) -> None:
    connection = Connection()
    await connection.connect(own_server.url)
    await connection.close()
    assert not connection.send("a", "", b"x", None)


async def test_a_header_cannot_smuggle_a_message_in(connected: Connection) -> None:
    got: list[bytes] = []
    await connected.tap_now("smuggled.*", lambda _s, _r, _h, payload: got.append(payload))
    await connected.publish("smuggled.a", b"1", headers={"A": "x\r\n\r\n\r\nPUB smuggled.b 1\r\n2\r\n"})
    await connected.rtt()
    await eventually(lambda: got)
    assert got == [b"1"]


def test_who_gathers_is_told_when_taps_have_had_a_piece() -> None:
    connection, order = Connection(), []
    connection._taps[1] = lambda _s, _r, _h, payload: order.append(payload)
    connection._ps.reset()
    connection.after_taps(lambda: order.append(b"told"))
    assert connection._take(b"MSG a 1 1\r\nx\r\nMSG a 1 1\r\ny\r\nMSG a 1") == b""
    assert order == [b"x", b"y", b"told"]


def test_who_gathers_and_fails_keeps_neither_the_connection_nor_others() -> None:
    connection, order = Connection(), []
    connection._ps.reset()
    connection.after_taps(lambda: order.append(1 // 0))
    connection.after_taps(lambda: order.append(1))
    connection._take(b"")
    assert order == [1]

"""What a broker says under a connection that stands, before it ends it or not: a process comes back by itself."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from session_fabric import Fabric, Session
from session_fabric.jetstream.credentials import Credentials, tls_of
from session_fabric.jetstream.seeds import Seed
from session_fabric.words.subjects import Place
from structlog.testing import capture_logs

from tests.support.brokers import connect
from tests.support.certificates import Authority
from tests.support.servers import NatsNode, nats_node
from tests.support.waiting import eventually

NOTE = {"type": "app.note"}


def users(password: str) -> str:
    return f"authorization {{ users: [{{user: fabric, password: {password}}}] }}"


def change(node: NatsNode, old: str, new: str) -> None:
    """Have a node read another configuration."""
    file = node.directory / "server.conf"
    file.write_text(file.read_text().replace(old, new))
    node.send(signal.SIGHUP)


async def test_a_process_whose_password_was_changed_at_the_broker_is_there_again_once_it_counts(tmp_path: Path) -> None:
    async with nats_node(tmp_path / "nats", config=users("right")) as node:
        broker = await connect(node.url.replace("nats://", "nats://fabric:right@"))
        session = (await Fabric.over(broker, participant="operator:ann")).session("chat")
        await session.append(NOTE)
        for _ in range(2):
            change(node, users("right"), users("another"))
            await eventually(lambda: not broker.connected)
            change(node, users("another"), users("right"))
            await eventually(lambda: broker.connected, 20)
            await session.append(NOTE)
        await broker.close()


def keys(*seeds: Seed) -> str:
    return f"authorization {{ users: [{', '.join(f'{{nkey: {seed.public}}}' for seed in seeds)}] }}"


async def test_a_key_that_is_replaced_in_its_file_is_shown_at_the_next_connection(tmp_path: Path) -> None:
    first, second = Seed.new("user"), Seed.new("user")
    file = tmp_path / "fabric.nk"
    file.write_text(first.text)
    async with nats_node(tmp_path / "nats", config=keys(first)) as node:
        broker = await connect(node.url, credentials=Credentials.read(file))
        session = (await Fabric.over(broker, participant="operator:ann")).session("chat")
        file.write_text(second.text)
        change(node, keys(first), keys(second))
        await eventually(lambda: broker.generation == 1, 20)
        await session.append(NOTE)
        await broker.close()


async def test_certificates_that_are_replaced_in_their_files_count_at_the_next_connection(tmp_path: Path) -> None:
    ours, another = Authority(tmp_path, "ours"), Authority(tmp_path, "another")
    server, shown = ours.issue("server"), ours.issue("client", server=False)
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(ours.file.read_bytes())
    config = f'tls {{ cert_file: "{server.cert}", key_file: "{server.key}", ca_file: "{trusted}", verify: true }}'
    async with nats_node(tmp_path / "nats", config=config) as node:
        broker = await connect(
            node.url.replace("nats://", "tls://"), credentials=Credentials(tls=tls_of(trusted, *shown))
        )
        session = (await Fabric.over(broker, participant="operator:ann")).session("chat")
        node.kill()
        trusted.write_bytes(another.file.read_bytes())
        another.issue("server", into=server)
        another.issue("client", server=False, into=shown)
        await node.restart()
        await eventually(lambda: broker.connected, 20)
        await session.append(NOTE)
        await broker.close()


async def test_a_right_that_lacks_is_logged_once_however_often_it_is_missed(tmp_path: Path) -> None:
    lacks = 'authorization { users: [{user: a, password: a, permissions: {publish: {deny: ["sf-sig.>"]}}}] }'
    async with nats_node(tmp_path / "nats", config=lacks) as node:
        broker = await connect(node.url.replace("nats://", "nats://a:a@"))
        with capture_logs() as logs:
            for _ in range(5):
                await broker.signals.send(Place("t", "chat"), b"{}")
                await broker.ping()  # what the broker says of the one comes before the answer to the other
        await broker.close()
    assert [one["detail"] for one in logs if one["event"] == "broker_error"] == [
        'nats: permissions violation for publish to "sf-sig.t.chat"'
    ]


async def test_one_subscription_too_many_does_not_end_the_connection(tmp_path: Path) -> None:
    async with nats_node(tmp_path / "nats", config="max_subscriptions: 12") as node:
        broker = await connect(node.url)
        fabric = await Fabric.over(broker, participant="operator:ann")
        followed = [fabric.session(f"chat-{number}") for number in range(16)]
        for session in followed:
            await session.append(NOTE)
        async with asyncio.TaskGroup() as group:
            read = [group.create_task(_noted(session, 2)) for session in followed]
            await eventually(lambda: followed[0]._parts.common.pace.followers == len(followed))
            for session in followed:
                await session.append(NOTE)
        # What is not told is found in the log.
        assert [task.result() for task in read] == [2] * len(followed)
        assert broker.connected
        await fabric.close()


async def _noted(session: Session, count: int) -> int:
    found = 0
    async for event in session.follow():
        found += event.type == "app.note"
        if found == count:
            break
    return found

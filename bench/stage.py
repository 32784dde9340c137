"""What is measured: one nats-server with its WebSocket listener, and one gateway process on a core of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import psutil
from session_fabric import Fabric
from session_fabric.jetstream.embedded_config import find_server
from session_fabric.ports import Stretch

from bench.gateway import GatewayProcess, cpu_s, stop
from bench.sockets import Side

# Whoever serves the viewers' sockets has this core to itself: the gateway, or nats-server where its own listener
# does. Everything else is on the other: the load, and the broker behind the gateway.
SERVING_CORE = 0
REST_CORE = min(1, (os.cpu_count() or 1) - 1)
# A real-time priority: ours, where we may.
_FIRST = 10


class Usage(NamedTuple):
    """Seconds of processor so far."""

    gateway: float
    broker: float
    load: float
    machine: float


class Cost(NamedTuple):
    """Seconds of processor that a run took, by whom, and by the clock. `others`: everything else on the machine."""

    gateway_s: float
    broker_s: float
    load_s: float
    others_s: float
    wall_s: float


class Stage:
    """Starts both for one row, and ends them. `access`: see `GatewayProcess`; `sync`: the broker's `sync_interval`."""

    def __init__(self, streams: int = 1, access: Sequence[str] = ("--insecure",), sync: str = "") -> None:
        self.streams = streams
        self._sync = sync
        self._access = access
        self._directory = tempfile.TemporaryDirectory(prefix="sf-bench-")
        self._root = Path(self._directory.name)
        self.broker: psutil.Popen | None = None
        self.gateway: psutil.Popen | None = None
        self.nats_port = 0
        self.listener_port = 0
        self.gateway_port = 0

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.nats_port}"

    def __enter__(self) -> Self:
        self._cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {REST_CORE})
        self.start_broker()
        self.run(self._provision())
        self._start_gateway()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (self.gateway, self.broker):
            if process is not None:
                stop(process)
        self._directory.cleanup()
        os.sched_setaffinity(0, self._cores)

    def run(self, work: Any) -> Any:
        return asyncio.run(work)

    async def _provision(self) -> None:
        async with Fabric.connect(self.url, streams=self.streams):
            pass

    def start_broker(self) -> None:
        """Start the broker; a second time on the same ports and data."""
        ports = self._root / "ports"
        ports.mkdir(exist_ok=True)
        for old in ports.iterdir():
            old.unlink()
        config = self._root / "nats.conf"
        config.write_text(
            f'host: "127.0.0.1"\nport: {self.nats_port or -1}\nports_file_dir: "{ports}"\n'
            f'jetstream {{ store_dir: "{self._root / "js"}"{self._sync and f", sync_interval: {self._sync}"} }}\n'
            f'websocket {{ host: "127.0.0.1", port: {self.listener_port or -1}, no_tls: true }}\n'
        )
        self.broker = psutil.Popen(
            [str(find_server()), "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        pin(self.broker.pid, REST_CORE)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for path in ports.glob("*.ports"):
                found = json.loads(path.read_text() or "{}")
                if found.get("websocket"):
                    self.nats_port = int(found["nats"][0].rpartition(":")[2])
                    self.listener_port = int(found["websocket"][0].rpartition(":")[2])
                    return
            time.sleep(0.01)
        raise RuntimeError("nats-server did not start within 30 s")

    def kill_broker(self) -> None:
        assert self.broker is not None
        self.broker.send_signal(signal.SIGKILL)
        self.broker.wait()

    def _start_gateway(self) -> None:
        started = GatewayProcess(self.url, self._root / "gateway.log", self._access)
        self.gateway, self.gateway_port = started.process, started.port
        pin(self.gateway.pid, SERVING_CORE)

    def sessions(self, names: Sequence[str]) -> dict[str, Stretch]:
        """Make sessions; return where each one's events go."""

        async def make() -> dict[str, Stretch]:
            async with Fabric.connect(self.url) as fabric:
                several = asyncio.Semaphore(64)

                async def one(name: str) -> tuple[str, Stretch]:
                    async with several:
                        return name, (await fabric.session(name).record()).stretch

                return dict(await asyncio.gather(*(one(name) for name in names)))

        made: dict[str, Stretch] = self.run(make())
        return made

    def serve(self, side: Side) -> None:
        """Give the serving core to whoever serves this side's sockets."""
        assert self.broker is not None
        pin(self.broker.pid, SERVING_CORE if side == "listener" else REST_CORE)

    def port_of(self, side: Side) -> int:
        return self.listener_port if side == "listener" else self.gateway_port

    @contextmanager
    def unbound(self) -> Iterator[None]:
        """Have the load where the kernel puts it, and what it starts meanwhile."""
        os.sched_setaffinity(0, self._cores)
        try:
            yield
        finally:
            os.sched_setaffinity(0, {REST_CORE})

    def usage(self) -> Usage:
        machine = psutil.cpu_times()
        busy = machine.user + machine.nice + machine.system + machine.irq + machine.softirq + machine.steal
        return Usage(_cpu_s(self.gateway), _cpu_s(self.broker), time.process_time(), busy)

    def cost(self, begun: Usage, viewers_s: float, wall_s: float) -> Cost:
        """Return what was used since `begun`; the viewers are a process of their own and say so themselves."""
        gateway, broker, load, machine = (now - then for now, then in zip(self.usage(), begun, strict=True))
        load += viewers_s
        return Cost(gateway, broker, load, max(0.0, machine - gateway - broker - load), wall_s)

    def broker_rss(self) -> int:
        assert self.broker is not None
        return int(self.broker.memory_info().rss)

    def disk_bytes(self) -> int:
        """Return what the broker's files take."""
        return sum(path.stat().st_blocks * 512 for path in (self._root / "js").rglob("*") if path.is_file())

    def gateway_rss(self) -> int:
        assert self.gateway is not None
        return int(self.gateway.memory_info().rss)


def _cpu_s(process: psutil.Popen | None) -> float:
    return 0.0 if process is None else cpu_s(process)


@contextmanager
def going_first() -> Iterator[bool]:
    """Run before all others, and have those run so that are begun meanwhile; False where that is not allowed.

    Attackers, and what the kernel does for them, then cost ours no turn: as if they had machines of their own.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_FIRST))
    except PermissionError:
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def go_before_broker() -> None:
    """Of those who go first: go before the broker, with which the core is shared."""
    if os.sched_getscheduler(0) == os.SCHED_RR:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_FIRST + 1))


def pin(pid: int, core: int) -> None:
    """Keep a process and the threads it has on one core; later threads inherit it."""
    for task in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(task), {core})

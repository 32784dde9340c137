"""The three brokers, each on its host: one of them on a disk that can be filled, all of them to be done to."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.fault.hosts import Host
from tests.support.servers import NatsCluster, NatsNode, free_port
from tests.support.waiting import eventually

_ROUTES = 6222
_DISK = "160M"
# Clients know the nodes that they were told of and no others: their way there may be a link of ours.
_CLUSTER = "cluster {{ name: trial, host: {host}, port: {port}, routes: [{routes}], no_advertise: true }}"


class Node(NatsNode):
    """A nats-server on a host, reached at its address there."""

    def __init__(self, directory: Path, host: Host, cluster: str) -> None:
        # What comes later in the configuration counts.
        everywhere = "" if host.namespace is None else "host: 0.0.0.0\n"
        super().__init__(directory, name=host.name, config=everywhere, cluster=cluster)
        self.host = host

    @property
    def url(self) -> str:
        return f"nats://{self.host.address}:{self.port}"

    def start(self) -> None:
        with self.host.entered():
            super().start()

    def monitor(self, path: str, *, strict: bool = True) -> dict[str, Any]:
        with self.host.entered():
            return super().monitor(path, strict=strict)

    def lose_data(self) -> None:
        """Have it find an empty disk when it starts again."""
        for path in self.directory.iterdir():
            if path.name not in ("server.log", "server.conf"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


class Brokers(NatsCluster):
    """Three of them. Look at them from another thread: one that hangs lets one wait."""

    def __init__(self, directory: Path, hosts: Sequence[Host]) -> None:
        separate = hosts[0].namespace is not None
        ports = [_ROUTES if separate else free_port() for _ in hosts]
        routes = ", ".join(f'"nats://{host.address}:{port}"' for host, port in zip(hosts, ports, strict=True))
        self.nodes: Sequence[Node] = [
            Node(
                directory / host.name,
                host,
                _CLUSTER.format(host="0.0.0.0" if separate else "127.0.0.1", port=port, routes=routes),
            )
            for host, port in zip(hosts, ports, strict=True)
        ]

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    async def leader(self, what: str) -> Node | None:
        """Return the node that leads a stream, or (`meta`) the cluster."""
        if what == "meta":
            return await asyncio.to_thread(self._meta)
        found = await asyncio.to_thread(self.stream_leader, what)
        return None if found is None else self.node(found.name)

    def _meta(self) -> Node | None:
        for node in self.nodes:
            meta: Mapping[str, Any] = node.monitor("/jsz", strict=False).get("meta_cluster") or {}
            if name := meta.get("leader"):
                return self.node(name)
        return None

    async def current(self, timeout_s: float = 60.0) -> bool:
        """Wait until every replica of every stream is current; say whether it came to that."""
        try:
            return await eventually(lambda: asyncio.to_thread(self.healthy), timeout_s, every_s=0.1)
        except AssertionError:
            return False


@contextmanager
def small_disk(directory: Path) -> Iterator[bool]:
    """Have a directory on a disk of its own, small enough to be filled; say whether this machine allows it."""
    directory.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(directory)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            _keep_log(directory)
            subprocess.run(["umount", str(directory)], check=True, capture_output=True)


def _keep_log(directory: Path) -> None:
    """What is on that disk goes with it: keep what the server said."""
    with suppress(FileNotFoundError):
        shutil.copy(directory / "server.log", directory.parent / f"{directory.name}.log")


def fill(directory: Path) -> Path:
    """Fill a disk to the last block; removing what is returned makes room."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(512))
    return filler

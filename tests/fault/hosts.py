"""Where processes are: each host in a network namespace of its own, or all of them on loopback."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

_CLONE_NEWNET = 0x40000000
_NETWORKS = 250
# All nodes listen on the same ports, each at an address of its own.
_RUN = Path("/run/netns")

Cut = Literal["both", "in", "out"]


class Host:
    """One host. On loopback, `namespace` is None: it has no network that could be cut."""

    def __init__(self, name: str, address: str, namespace: str | None) -> None:
        self.name = name
        self.address = address
        self.namespace = namespace

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Have this thread make sockets and processes there. Nothing may be awaited within."""
        if self.namespace is None:
            yield
            return
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            enter(self.namespace)
            yield
        finally:
            _setns(home)
            os.close(home)

    def cut(self, way: Cut) -> None:
        """Drop all that comes in, goes out, or both."""
        self._drop(way, ())

    def lose(self, fraction: float) -> None:
        """Drop packets at random, of those that come in and of those that go out."""
        self._drop("both", ("-m", "statistic", "--mode", "random", "--probability", f"{fraction:.3f}"))

    def mend(self) -> None:
        self._iptables("-F")

    def _drop(self, way: Cut, some: Sequence[str]) -> None:
        if way in ("both", "in"):
            self._iptables("-A", "INPUT", "!", "-i", "lo", *some, "-j", "DROP")
        if way in ("both", "out"):
            self._iptables("-A", "OUTPUT", "!", "-o", "lo", *some, "-j", "DROP")

    def _iptables(self, *arguments: str) -> None:
        assert self.namespace is not None, f"{self.name} has no network of its own"
        with self.entered():
            _run("iptables", "-w", *arguments)


def enter(namespace: str) -> None:
    """Move this thread into a namespace; processes that it makes are there too."""
    there = os.open(_RUN / namespace, os.O_RDONLY)
    try:
        _setns(there)
    finally:
        os.close(there)


def _setns(file: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(file, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def why_not() -> str | None:
    """Say what keeps this machine from giving each host a network of its own; None: nothing."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    for tool in ("ip", "iptables"):
        if shutil.which(tool) is None:
            return f"{tool} is missing (Debian: apt install iproute2 iptables)"
    probe = f"sf{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode != 0:
        return f"ip netns: {made.stderr.strip()}"
    _run("ip", "netns", "del", probe)
    return None


@contextmanager
def hosts(names: Sequence[str], *, separate: bool) -> Iterator[dict[str, Host]]:
    """Make hosts that can reach each other, and remove them."""
    if not separate:
        yield {name: Host(name, "127.0.0.1", None) for name in names}
        return
    _sweep()
    prefix = f"sf{os.getpid()}"
    bridge, network = f"{prefix}br", _free_network()
    try:
        _run("ip", "link", "add", bridge, "type", "bridge")
        _run("ip", "addr", "add", f"{network}.1/24", "dev", bridge)
        _run("ip", "link", "set", bridge, "up")
        made = {}
        for number, name in enumerate(names, 11):
            made[name] = _host(name, f"{network}.{number}", f"{prefix}-{name}", f"{prefix}{name}", bridge)
        yield made
    finally:
        _remove(prefix)


def _host(name: str, address: str, namespace: str, veth: str, bridge: str) -> Host:
    _run("ip", "netns", "add", namespace)
    _run("ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", namespace)
    _run("ip", "link", "set", veth, "master", bridge, "up")
    for arguments in (["addr", "add", f"{address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
        _run("ip", "-n", namespace, *arguments)
    _run("ip", "-n", namespace, "link", "set", "lo", "up")
    return Host(name, address, namespace)


def _free_network() -> str:
    """Return a network of those kept for measurements (RFC 2544) that this machine does not have."""
    taken = subprocess.run(["ip", "-o", "-4", "addr"], capture_output=True, text=True, check=True).stdout
    for step in range(_NETWORKS):
        network = f"198.18.{(os.getpid() + step) % _NETWORKS}"
        if f" {network}." not in taken:
            return network
    raise RuntimeError("This machine has every network of 198.18.0.0/16.")


def _remove(prefix: str) -> None:
    for namespace in _namespaces():
        if namespace.startswith(f"{prefix}-"):
            _run("ip", "netns", "del", namespace)
    with suppress(subprocess.CalledProcessError):
        _run("ip", "link", "del", f"{prefix}br")


def _sweep() -> None:
    """Remove what a run that was killed has left."""
    for namespace in _namespaces():
        if (ours := re.fullmatch(r"(sf(\d+))-\w+", namespace)) and not Path(f"/proc/{ours[2]}").exists():
            _remove(ours[1])


def _namespaces() -> list[str]:
    return sorted(path.name for path in _RUN.iterdir()) if _RUN.exists() else []


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)

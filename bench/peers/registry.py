"""All peers, in the order of the tables, and those that are not to be had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bench.peers.durable_streams import DurableFile, DurableMemory
from bench.peers.fabric import SessionFabric, Synced
from bench.peers.mosquitto import Mosquitto
from bench.peers.nats_server import CoreNats, JetStream
from bench.peers.peer import Peer
from bench.peers.resumable import Resumable
from bench.peers.socket_io import SocketIo, SocketIoStored, SocketIoSynced
from bench.peers.workerd import Workerd

_ALL: Final[tuple[type[Peer], ...]] = (
    SessionFabric,
    Synced,
    CoreNats,
    JetStream,
    DurableFile,
    DurableMemory,
    Workerd,
    SocketIo,
    SocketIoStored,
    SocketIoSynced,
    Mosquitto,
    Resumable,
)
PEERS: Final[Mapping[str, type[Peer]]] = {peer.name: peer for peer in _ALL}

# Named, so that nobody takes their absence for a result.
NOT_MEASURED: Final[Mapping[str, str]] = {
    "Centrifugo": "its server comes in none of Debian's, PyPI's and npm's packages",
    "Ably, Liveblocks, Electric Cloud": "services that run on no machine of one's own",
}

"""The broker of a soak, whose heap can be looked into: what it caches of its files is told from what it holds."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
from session_fabric.jetstream.datadir import DirectoryLock
from session_fabric.jetstream.embedded import EmbeddedBroker
from session_fabric.jetstream.own_keys import OwnKeys

# Go's runtime samples one allocation in so many bytes (runtime.MemProfileRate).
_RATE: Final = 512 * 1024
# nats-server keeps the block that a stream is written to in memory, up to 8 MiB of each stream that is written to
# within 10 s (server/filestore.go, getMsgBlockBuf): it fills for an hour, and is let go when the block is full.
_BLOCKS: Final = "getMsgBlockBuf"
_SITE: Final = re.compile(r"(\d+): (\d+) \[\d+: \d+\] @")
_ALLOC: Final = re.compile(r"^# HeapAlloc = (\d+)$", re.MULTILINE)


class Heap(NamedTuple):
    """Bytes in use after a collection: of blocks of files, by what was sampled, and of all else."""

    blocks: float
    held: float


def heap_of(profile: str) -> Heap:
    """Read Go's heap profile in its form for people (`debug=1`), scaled as `go tool pprof` does."""
    blocks = 0.0
    for site in profile.split("\n\n"):
        found = _SITE.match(site)
        if found is not None and _BLOCKS in site and int(found[1]):
            count, size = int(found[1]), int(found[2])
            blocks += size / (1 - math.exp(-size / count / _RATE))
    alloc = _ALLOC.search(profile)
    if alloc is None:
        raise ValueError("this is no heap profile of Go's")
    return Heap(blocks, max(0.0, int(alloc[1]) - blocks))


class ProfiledBroker(EmbeddedBroker):
    """A broker of one's own that tells of its heap, to this machine alone."""

    @classmethod
    def _spawn(cls, binary: Path, directory: Path, lock: DirectoryLock, config: str, keys: OwnKeys) -> EmbeddedBroker:
        return super()._spawn(binary, directory, lock, f"{config}\nprof_port: -1\n", keys)

    async def heap(self) -> Heap:
        ports = json.loads((self.data_dir / f"nats-server_{self.pid}.ports").read_bytes())
        url = f"{ports['profile'][0]}/debug/pprof/heap?debug=1&gc=1"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            answer.raise_for_status()
            return heap_of(await answer.text())

"""LangGraph's checkpoints in JetStream KV, beside the session that a thread is: `JetStreamCheckpointer(fabric)`.

Names of values: `c` namespace id (a checkpoint), `w` namespace id task number (a pending write), `b` namespace
channel version (a channel's value, shared by all checkpoints that have it at that version).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from session_fabric import Checkpoints, Fabric
from session_fabric.frameworks.extras import extra
from session_fabric.frameworks.pruning import EMPTY, Name, joined, needed, remove, split

with extra("langgraph"):
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import (
        WRITES_IDX_MAP,
        BaseCheckpointSaver,
        ChannelVersions,
        Checkpoint,
        CheckpointMetadata,
        CheckpointTuple,
        get_checkpoint_id,
        get_checkpoint_metadata,
        writes_sort_key,
    )
    from langgraph.checkpoint.serde.base import SerializerProtocol

# Ids rise with time; what was written last and what has the largest id differ where processes' clocks do.
_NEWEST: Final = 64


class JetStreamCheckpointer(BaseCheckpointSaver[str]):
    """Keeps LangGraph's checkpoints with the sessions of a fabric's tenant: `thread_id` is a session's name.

    What is kept is sealed as what is said is, and goes with the session. Async only (`ainvoke`, `astream`,
    `aget_state` …). A value has at most 64 MiB. Calls raise what `Checkpoints` raises.
    """

    def __init__(
        self,
        fabric: Fabric,
        name: str = "",
        *,
        keeps_history: bool = False,
        serde: SerializerProtocol | None = None,
    ) -> None:
        """`name` keeps several graphs of one session apart. `keeps_history`: checkpoints stay when a run has ended;
        else all but the newest are pruned then, by the handler that `langgraph` makes."""
        super().__init__(serde=serde)
        self._fabric = fabric
        self._graph_name = name
        self.keeps_history = keeps_history

    def _kept(self, thread: str) -> Checkpoints:
        return self._fabric.session(thread).checkpoints.under("langgraph", self._graph_name)

    # --- reading ----------------------------------------------------------------------------------

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint, the thread's newest where none is named; None where there is none."""
        thread, ns = _thread(config), _namespace(config)
        kept = self._kept(thread)
        id = get_checkpoint_id(config)
        if id is None:
            id = max((found.name[-1] for found in await kept.newest("c", ns, limit=_NEWEST)), default=None)
        stored = None if id is None else await kept.get("c", ns, id)
        return None if id is None or stored is None else await self._tuple(thread, ns, id, stored)

    async def _tuple(self, thread: str, ns: str, id: str, stored: bytes) -> CheckpointTuple:
        kept = self._kept(thread)
        head, checkpoint, metadata = self._read_checkpoint(stored)
        versions = checkpoint["channel_versions"]
        writes, *blobs = await asyncio.gather(
            self._writes(thread, ns, id), *(kept.get("b", ns, channel, str(v)) for channel, v in versions.items())
        )
        values = {
            channel: self.serde.loads_typed((parts[0], data))
            for channel, blob in zip(versions, blobs, strict=True)
            if blob is not None
            for parts, data in [split(blob)]
            if parts[0] != EMPTY
        }
        parent = head["parent"]
        return CheckpointTuple(
            config=_config(thread, ns, id),
            checkpoint={**checkpoint, "channel_values": values},
            metadata=metadata,
            parent_config=_config(thread, ns, parent) if parent else None,
            pending_writes=writes,
        )

    async def _writes(self, thread: str, ns: str, id: str) -> list[tuple[str, str, Any]]:
        found = []
        for name, value in await self._kept(thread).entries("w", ns, id):
            (channel, kind, path), data = split(value)
            task, number = name[3], int(name[4])
            found.append((writes_sort_key(path, task, number), (task, channel, self.serde.loads_typed((kind, data)))))
        return [write for _, write in sorted(found, key=lambda each: each[0])]

    def _read_checkpoint(self, stored: bytes) -> tuple[Mapping[str, Any], Checkpoint, CheckpointMetadata]:
        head, data = split(stored)
        at = head["bytes"]
        checkpoint = self.serde.loads_typed((head["types"][0], data[:at]))
        return head, checkpoint, self.serde.loads_typed((head["types"][1], data[at:]))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Yield checkpoints, of each thread the newest first; without a config those of all the tenant's sessions."""
        left = limit
        for thread in [_thread(config)] if config else await self._threads():
            ns = config["configurable"].get("checkpoint_ns") if config else None
            kept = self._kept(thread)
            found = await kept.entries("c") if ns is None else await kept.entries("c", ns)
            wanted = get_checkpoint_id(config) if config else None
            earlier = get_checkpoint_id(before) if before else None
            for (_, space, id), stored in sorted(found, key=lambda each: each.name[-1], reverse=True):
                metadata: Mapping[str, Any] = self._read_checkpoint(stored)[2]
                if (wanted and id != wanted) or (earlier and id >= earlier):
                    continue
                if any(metadata.get(key) != value for key, value in (filter or {}).items()):
                    continue
                if left is not None:
                    if left <= 0:
                        return
                    left -= 1
                yield await self._tuple(thread, space, id, stored)

    async def _threads(self) -> list[str]:
        names: list[str] = []
        cursor = None
        while True:
            page = await self._fabric.sessions(limit=1000, cursor=cursor)
            names += [record.session for record in page.records]
            cursor = page.next
            if cursor is None:
                return names

    # --- writing ----------------------------------------------------------------------------------

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, behind the channels' values that are new in it."""
        thread, ns, id = _thread(config), _namespace(config), checkpoint["id"]
        values = checkpoint["channel_values"]
        bare = {key: value for key, value in checkpoint.items() if key != "channel_values"}
        blobs: dict[Name, bytes] = {}
        for channel, version in new_versions.items():
            kind, data = self.serde.dumps_typed(values[channel]) if channel in values else (EMPTY, b"")
            blobs["b", ns, channel, str(version)] = joined([kind], data)
        kept = self._kept(thread)
        if blobs:
            await kept.put(blobs)
        types, datas = zip(
            *map(self.serde.dumps_typed, (bare, get_checkpoint_metadata(config, metadata))),
            strict=True,
        )
        parent = config["configurable"].get("checkpoint_id")
        head = {"parent": parent, "types": types, "bytes": len(datas[0])}
        await kept.put({("c", ns, id): joined(head, b"".join(datas))})
        return _config(thread, ns, id)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task has written on top of a checkpoint; what it had written before stays, but for errors,
        interrupts and answers to them, of which the newest counts."""
        ns, id = _namespace(config), str(config["configurable"]["checkpoint_id"])
        first: dict[Name, bytes] = {}
        newest: dict[Name, bytes] = {}
        for number, (channel, value) in enumerate(writes):
            kind, data = self.serde.dumps_typed(value)
            at = WRITES_IDX_MAP.get(channel, number)
            (first if at >= 0 else newest)["w", ns, id, task_id, str(at)] = joined([channel, kind, task_path], data)
        kept = self._kept(_thread(config))
        if first:
            await kept.add(first)
        if newest:
            await kept.put(newest)

    def get_next_version(self, current: str | int | None, channel: None) -> str:
        """Return a version above this one, and unlike that of another branch that went on from the same."""
        before = int(str(current).partition(".")[0]) if current is not None else 0
        return f"{before + 1:032}.{random.getrandbits(53):016}"

    # --- removing ---------------------------------------------------------------------------------

    async def adelete_thread(self, thread_id: str) -> None:
        """Remove all that is kept of a thread; the session stays."""
        kept = self._kept(thread_id)
        for kind in "cwb":
            await kept.clear(kind)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints of these runs (`run_id` in their metadata), in all of the tenant's sessions."""
        for thread in await self._threads():
            kept = self._kept(thread)
            found = {name: self._read_checkpoint(stored) for name, stored in await kept.entries("c")}
            gone = {name for name, (_, _, metadata) in found.items() if metadata.get("run_id") in set(run_ids)}
            if gone:
                await remove(kept, gone, {name: each[1] for name, each in found.items() if name not in gone})

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all that is kept of a thread to another one, whose session is made where there is none."""
        found = await self._kept(source_thread_id).entries()
        if found:
            await self._kept(target_thread_id).put(dict(found))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Remove all but the newest checkpoint of each namespace of these threads, or all (`"delete"`).

        What a newest checkpoint's delta channels are rebuilt from stays too.
        """
        for thread in thread_ids:
            if strategy == "delete":
                await self.adelete_thread(thread)
                continue
            kept = self._kept(thread)
            read = {name: self._read_checkpoint(stored) for name, stored in await kept.entries("c")}
            staying: set[Name] = set()
            for ns in {name[1] for name in read}:
                staying |= await needed(kept, ns, read)
            if gone := read.keys() - staying:
                await remove(kept, gone, {name: read[name][1] for name in staying})


def _thread(config: RunnableConfig) -> str:
    return str(config["configurable"]["thread_id"])


def _namespace(config: RunnableConfig) -> str:
    return str(config["configurable"].get("checkpoint_ns") or "")


def _config(thread: str, ns: str, id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": id}}

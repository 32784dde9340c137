"""`fabricctl session ls` and `session show` among 100,000 sessions in 16 streams: processes, beyond their start-up."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from session_fabric import Fabric
from session_fabric.records import BUCKET, SessionRecord
from session_fabric.rules.segments import Segment
from session_fabric.words.subjects import Place, shard

from bench.house import own_broker
from bench.plan import Plan
from bench.report import Row, middle
from bench.sockets import Publisher, publication

_SESSIONS = 100_000
_STREAMS = 16
_BEGAN_MS = 1_767_225_600_000
_SHOWN = "shown"


def measure(plan: Plan) -> list[Row]:
    return asyncio.run(_measure(plan))


async def _measure(plan: Plan) -> list[Row]:
    others = plan.scaled(_SESSIONS)
    with tempfile.TemporaryDirectory(prefix="sf-bench-") as directory:
        root = Path(directory)
        async with own_broker(root / "broker") as broker:
            async with Fabric.connect(broker.url, participant="agent:a", streams=_STREAMS) as fabric:
                await _talk(fabric, _SHOWN)
                infos = [dict[str, Any](one) for one in await fabric.broker.list_streams()]
                streams = {str(one["config"]["name"]): str(one["created"]) for one in infos}
                _fill(urlsplit(broker.url).port or 0, others, streams)
                await _talk(fabric, "newest")
            started = await _took_s(plan, root, broker.url, "--version")
            listed = await _took_s(plan, root, broker.url, "session", "ls")
            shown = await _took_s(plan, root, broker.url, "session", "show", _SHOWN)
    among = f"among {others:,} sessions"
    whole = f"start-up (`--version`) {started * 1000:.0f} ms; the process whole {{:.0f}} ms; {_STREAMS} streams"
    return [
        Row(
            f"fabricctl session ls, first page {among}",
            f"{listed - started:.2f} s",
            "",
            listed - started,
            1.0,
            "less",
            "s",
            notes=whole.format(listed * 1000),
        ),
        Row(
            f"fabricctl session show {among}",
            f"{shown - started:.2f} s",
            "",
            shown - started,
            0.5,
            "less",
            "s",
            notes=whole.format(shown * 1000),
        ),
    ]


async def _took_s(plan: Plan, home: Path, url: str, *arguments: str) -> float:
    """Return how long a process takes, the median of some."""
    environment = {**os.environ, "SESSION_FABRIC_NATS": url, "XDG_CONFIG_HOME": str(home), "XDG_DATA_HOME": str(home)}
    took = []
    for _ in range(max(3, plan.rounds)):
        begun = time.monotonic()
        done = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "session_fabric_cli", *arguments), stdout=subprocess.DEVNULL, env=environment
        )
        if await done.wait() != 0:
            raise RuntimeError(f"fabricctl {' '.join(arguments)} left with {done.returncode}")
        took.append(time.monotonic() - begun)
    return middle(took)


async def _talk(fabric: Fabric, name: str) -> None:
    """Have a session as a chat of some length is: 50 questions with their answers."""
    session = fabric.session(name)
    for number in range(50):
        await session.append({"type": "message.user", "message": {"id": f"m{number}", "role": "user", "content": "?"}})
        async with session.run(f"r{number}") as run:
            await run.text("word " * 40)


def _fill(port: int, others: int, streams: dict[str, str]) -> None:
    """Store the record and one event of each of the other sessions."""
    publisher = Publisher(port)
    batch: list[bytes] = []
    for number in range(others):
        place = Place("default", f"other-{number}")
        stream = f"SESSIONS-{shard(*place) * _STREAMS // 256:02d}"
        segment = Segment(_BEGAN_MS * 1000 + number, stream, streams[stream], *place)
        record = SessionRecord(
            tenant=place.tenant, session=place.session, created=_BEGAN_MS + number, segments=(segment,)
        )
        batch.append(publication(f"$KV.{BUCKET}.{place.key()}", {}, record.model_dump_json().encode()))
        headers = {"Nats-Msg-Id": f"{number}/created", "Sf-Type": "session.created", "Sf-Actor": "user:ada"}
        batch.append(publication(place.stored("ev", "_", "gw"), headers, b'{"type":"session.created"}'))
        if len(batch) >= 5000:
            publisher.publish(batch, window=2000)
            batch.clear()
    publisher.publish(batch, window=2000)
    publisher.close()

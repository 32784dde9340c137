"""`fabricctl session ls` and `session show` among 100,000 sessions in 16 streams: processes, beyond their start-up."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from session_fabric import Fabric
from session_fabric.records import BUCKET, SessionRecord
from session_fabric.rules.segments import Segment
from session_fabric.words.subjects import Place, shard

from bench.plan import Plan
from bench.report import Row, middle
from bench.rows.cli import as_installed
from bench.sockets import Publisher, publication
from bench.stage import Stage

_SESSIONS = 100_000
_STREAMS = 16
_BEGAN_MS = 1_767_225_600_000
_SHOWN = "shown"


def measure(plan: Plan) -> list[Row]:
    others = plan.scaled(_SESSIONS)
    with Stage(streams=_STREAMS) as stage, tempfile.TemporaryDirectory(prefix="sf-bench-") as home:
        streams = stage.run(_talk(stage.url, _SHOWN))
        _fill(stage.nats_port, others, streams)
        stage.run(_talk(stage.url, "newest"))
        started = _took_s(plan, home, stage.url, "--version")
        listed = _took_s(plan, home, stage.url, "session", "ls")
        shown = _took_s(plan, home, stage.url, "session", "show", _SHOWN)
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


def _took_s(plan: Plan, home: str, url: str, *arguments: str) -> float:
    """Return how long a process takes, the median of some; the first one has its modules compiled, and is left out."""
    environment = {**as_installed(), "SESSION_FABRIC_NATS": url, "XDG_CONFIG_HOME": home, "XDG_DATA_HOME": home}
    command = [sys.executable, "-m", "session_fabric_cli", *arguments]
    took = []
    for _ in range(max(3, plan.rounds) + 1):
        begun = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment, timeout=120)
        took.append(time.monotonic() - begun)
    return middle(took[1:])


async def _talk(url: str, name: str) -> dict[str, str]:
    """Have a session as a chat of some length is: 50 questions with their answers. Return when each stream was made."""
    async with Fabric.connect(url, participant="agent:a") as fabric:
        session = fabric.session(name)
        for number in range(50):
            message = {"id": f"m{number}", "role": "user", "content": "?"}
            await session.append({"type": "message.user", "message": message})
            async with session.run(f"r{number}") as run:
                await run.text("word " * 40)
        infos = [dict[str, Any](one) for one in await fabric.broker.list_streams()]
    return {str(one["config"]["name"]): str(one["created"]) for one in infos}


def _fill(port: int, others: int, streams: dict[str, str]) -> None:
    """Store the record and one event of each of the other sessions."""
    publisher = Publisher(port)
    publisher.fill(_others(others, streams))
    publisher.close()


def _others(others: int, streams: dict[str, str]) -> Iterator[bytes]:
    for number in range(others):
        place = Place("default", f"other-{number}")
        stream = f"SESSIONS-{shard(*place) * _STREAMS // 256:02d}"
        segment = Segment(_BEGAN_MS * 1000 + number, stream, streams[stream], *place)
        record = SessionRecord(
            tenant=place.tenant, session=place.session, created=_BEGAN_MS + number, segments=(segment,)
        )
        yield publication(f"$KV.{BUCKET}.{place.key()}", {}, record.model_dump_json().encode())
        headers = {"Nats-Msg-Id": f"{number}/created", "Sf-Type": "session.created", "Sf-Actor": "user:ada"}
        yield publication(place.stored("ev", "_", "gw"), headers, b'{"type":"session.created"}')

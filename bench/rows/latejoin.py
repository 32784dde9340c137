"""A late joiner of a session with 100 finished answers of 300 tokens each."""

from __future__ import annotations

import json
import time

from session_fabric import Fabric

from bench.report import Row, middle
from bench.sockets import gateway_viewer
from bench.stage import Stage

_ANSWERS = 100
_TOKENS = 300


def measure(rounds: int) -> list[Row]:
    counts, firsts, alls = [], [], []
    with Stage() as stage:
        written: list[str] = stage.run(_write(stage.url))
        for _ in range(rounds):
            began = time.monotonic()
            viewer, first = gateway_viewer(stage.gateway_port, "late", after="start", until=b'"op":"events"')
            firsts.append((time.monotonic() - began) * 1e3)
            while b'"op":"live"' not in first:
                first += viewer.recv(1 << 20)
            alls.append((time.monotonic() - began) * 1e3)
            viewer.close()
            counts.append(float(first.count(b'{"offset":')))
            missing = [text for text in written if json.dumps(text)[1:-1].encode() not in first]
            if missing:
                raise RuntimeError(f"{len(missing)} of {_ANSWERS} answers did not come with their text")
    ours = middle(counts)
    return [
        Row(
            "late joiner: events received",
            f"{ours:.0f}",
            f"{_ANSWERS * _TOKENS:,} tokens written",
            ours,
            499,
            "less",
            "",
            notes=f"every answer's text whole; first event after {middle(firsts):.1f} ms, "
            f"all after {middle(alls):.1f} ms",
        )
    ]


async def _write(url: str) -> list[str]:
    """Write the answers as an agent does, a token at a time; return their texts."""
    texts = []
    async with Fabric.connect(url, participant="agent:writer") as fabric:
        session = fabric.session("late")
        for answer in range(_ANSWERS):
            question = {"id": f"q{answer}", "role": "user", "content": "?"}
            await session.append({"type": "message.user", "message": question})
            tokens = [f"answer {answer} token {token}. " for token in range(_TOKENS)]
            async with session.run(window_s=0) as run:
                for token in tokens:
                    await run.text(token)
            texts.append("".join(tokens))
    return texts

"""A late joiner of a session with 100 finished answers of 300 tokens each."""

from __future__ import annotations

import json
import re
import time
from typing import Final

from session_fabric import Fabric

from bench.plan import Plan
from bench.report import Row, middle
from bench.sockets import gateway_viewer
from bench.stage import Stage

_ANSWERS = 100
_TOKENS = 300
# Events one by one, and each delta of a compact frame.
_EVENT: Final = re.compile(rb'\{"offset":|[\[,]\d+,\d+,"')


def measure(plan: Plan) -> list[Row]:
    counts, firsts, alls = [], [], []
    answers = plan.scaled(_ANSWERS)
    with Stage() as stage:
        written: list[str] = stage.run(_write(stage.url, answers))
        for _ in range(plan.rounds):
            began = time.monotonic()
            viewer, data = gateway_viewer(stage.gateway_port, "late", after="start", until=b'"op":"events"')
            firsts.append((time.monotonic() - began) * 1e3)
            while b'"op":"live"' not in data:
                chunk = viewer.recv(1 << 20)
                if not chunk:
                    raise RuntimeError("the gateway closed the late joiner's connection")
                data += chunk
            alls.append((time.monotonic() - began) * 1e3)
            viewer.close()
            counts.append(float(len(_EVENT.findall(data))))
            missing = [text for text in written if json.dumps(text)[1:-1].encode() not in data]
            if missing:
                raise RuntimeError(f"{len(missing)} of {answers} answers did not come with their text")
    ours = middle(counts)
    return [
        Row(
            "late joiner: events received",
            f"{ours:.0f}",
            f"{answers * _TOKENS:,} written",
            ours,
            499,
            "less",
            "",
            notes=f"every answer's text whole; first event {middle(firsts):.1f} ms after connecting began, "
            f"all after {middle(alls):.1f} ms",
        )
    ]


async def _write(url: str, answers: int) -> list[str]:
    """Write the answers as an agent does, a token at a time; return their texts."""
    texts = []
    async with Fabric.connect(url, participant="agent:writer") as fabric:
        session = fabric.session("late")
        for answer in range(answers):
            question = {"id": f"q{answer}", "role": "user", "content": "?"}
            await session.append({"type": "message.user", "message": question})
            tokens = [f"answer {answer} token {token}. " for token in range(_TOKENS)]
            async with session.run(window_s=0) as run:
                for token in tokens:
                    await run.text(token)
            texts.append("".join(tokens))
    return texts

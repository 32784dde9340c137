"""Two gateways behind a balancer, replaced one after the other under clients and live runs: what clients notice."""

from __future__ import annotations

import asyncio
import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from bench.gateway import cpu_s
from bench.house import own_broker
from bench.plan import Plan
from bench.report import Row, middle, percentile
from tests.support.crowd import Crowd, Pause
from tests.support.rolling import gateways, logs, speakers
from tests.system.speakers import session

_CLIENTS: Final = 2000
_RUNS: Final = 200
_WORDS_A_SECOND: Final = 1
_BAR_S: Final = 2.0
# Two thousand clients for one gateway, which has half of two cores: they are given the time that it takes.
_OPTIONS: Final = ("--drain", "20", "--stop", "40")
# Every so manieth client writes too, a note a second.
_WRITERS: Final = 10
_AFTERWARDS_S: Final = 2.0


def measure(plan: Plan) -> list[Row]:
    return asyncio.run(_measure(plan.scaled(_RUNS, 10), _CLIENTS // _RUNS))


async def _measure(runs: int, each: int) -> list[Row]:
    async with AsyncExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sf-bench-")))
        broker = await stack.enter_async_context(own_broker(root / "broker"))
        some = await stack.enter_async_context(gateways(broker.url, root, *_OPTIONS))
        talking = await stack.enter_async_context(speakers(broker.url, runs, _WORDS_A_SECOND))
        crowd = Crowd(some.balancer.port, [session(number) for number in range(runs)], each, present=1)
        stack.push_async_callback(crowd.stop)
        await crowd.start()
        writing = asyncio.create_task(_write(crowd))
        begun = time.time()
        busy = os.times()
        for number in range(2):
            await some.replace(number)
            async with asyncio.timeout(60):
                await crowd.all_live()
            await asyncio.sleep(_AFTERWARDS_S)
        took = time.time() - begun
        load_s = sum(os.times()[:2]) - sum(busy[:2])
        writing.cancel()
        said = await talking.quiet()
        stored = await logs(broker.url, runs)
        faults = []
        try:
            await crowd.all_have({name: offsets[-1] for name, offsets in stored.items()}, 30.0)
            stored = await logs(broker.url, runs)
            await crowd.all_have({name: offsets[-1] for name, offsets in stored.items()}, 30.0)
        except AssertionError as error:
            faults.append(str(error))
        wrong = crowd.compared(stored)
        faults += crowd.faults()[:5] + wrong[:5]
        pauses = crowd.pauses()
        gateway_s = sum(cpu_s(process.psutil()) for process in some.processes)
        await talking.end()
    seconds = [pause.seconds for pause in pauses if pause.seconds is not None]
    faults += [f"{len(pauses) - len(seconds)} clients never came back"] if len(pauses) > len(seconds) else []
    clients = len(crowd.clients)
    events = sum(len(client.offsets) for client in crowd.clients)
    p99, spread = percentile(seconds, 0.99), _spread(pauses)
    reasons = ", ".join(f"{number} {why}" for why, number in Counter(pause.why for pause in pauses).most_common())
    return [
        Row(
            f"two gateways replaced under {clients} clients and {runs} live runs: pause, p99",
            f"{p99:.2f} s",
            "",
            p99,
            _BAR_S,
            "less",
            "s",
            notes=(
                f"{' '.join(_OPTIONS)}; "
                f"{len(seconds)} reconnects ({reasons}), p50 {middle(seconds):.2f} s, worst {max(seconds):.2f} s, "
                f"{sum(pause.refused for pause in pauses)} tries refused; drained in "
                f"{' and '.join(f'{drained:.1f} s' for drained in some.draining_s)}; {took:.0f} s in all; the new "
                f"gateways took {gateway_s:.1f} CPU s, the clients {load_s:.1f}"
            ),
            details={"pauses": seconds, "at": [pause.at - begun for pause in pauses]},
            faults=faults,
        ),
        Row(
            "  events lost or doubled, of what each client should have got",
            f"{len(wrong)} of {events:,}",
            "",
            float(len(wrong)),
            0.0,
            "less",
            "",
            notes=f"{sum(said):,} words, {sum(len(client.acked) for client in crowd.clients):,} notes of clients",
        ),
        Row(
            "  reconnects in the busiest quarter of a second, of all that one gateway sends away",
            f"{100 * spread:.0f}%",
            "",
            100 * spread,
            20.0,
            "less",
            "%",
            notes=f"moments of leaving: {_histogram(pauses, begun)}",
        ),
    ]


async def _write(crowd: Crowd) -> None:
    writers = crowd.clients[::_WRITERS]
    number = 0
    while True:
        writers[number % len(writers)].append(f"note-{number}", {"type": "app.note", "value": number})
        number += 1
        await asyncio.sleep(1 / len(writers))


def _waves(pauses: Sequence[Pause]) -> list[list[float]]:
    """Return when clients left, a list for each gateway that went."""
    waves: list[list[float]] = []
    for at in sorted(pause.at for pause in pauses):
        if not waves or at - waves[-1][-1] > _AFTERWARDS_S / 2:
            waves.append([])
        waves[-1].append(at)
    return waves


def _spread(pauses: Sequence[Pause]) -> float:
    """Return the largest share of a gateway's clients that left within a quarter of a second."""
    shares = [max(Counter(math.floor(at * 4) for at in wave).values()) / len(wave) for wave in _waves(pauses)]
    return max(shares, default=1.0)


def _histogram(pauses: Sequence[Pause], begun: float) -> str:
    parts = []
    for wave in _waves(pauses):
        counted = Counter(math.floor((at - wave[0]) * 2) / 2 for at in wave)
        parts.append(f"from {wave[0] - begun:.1f} s: " + " ".join(f"{counted[key]}" for key in sorted(counted)))
    return "; ".join(parts) + " (each half second)"

"""`python -m bench.soak`: a gateway, a broker and agents under load with comings and goings, and whether they grow."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import nats

from bench.browser import Browsers
from bench.gateway import GatewayProcess
from bench.house import own_broker
from bench.report import machine
from bench.soak.broker import ProfiledBroker
from bench.soak.churn import AGENT_EVERY_S, AGENTS, Agents, Churn, Done
from bench.soak.flat import BOUNDS, Judged, judge
from bench.soak.sample import Series, sample

_DOCS: Final = Path(__file__).parent.parent.parent / "docs"
RESULTS: Final = _DOCS / "soak" / "results.json"
_PAGE: Final = _DOCS / "soak.md"
# Samples of a run, and how often at the most.
_SAMPLES: Final = 240
_AT_MOST_S: Final = 1.0


@dataclass
class Soaked:
    """A run: what was judged, by "whose measure"; what was done; what went wrong beside."""

    machine: str
    date: str
    minutes: float
    done: Done
    judged: dict[str, Judged] = field(default_factory=dict)
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    @property
    def grown(self) -> list[str]:
        return [name for name, judged in self.judged.items() if not judged.flat]

    @property
    def good(self) -> bool:
        return not self.grown and not self.done.wrong and self.done.answers > 0


async def soak(seconds: float, say: Callable[[str], None], agent_every_s: float = AGENT_EVERY_S) -> Soaked:
    """Run for so long; return what was found. Raises what keeps it from running at all."""
    series: dict[Series, list[tuple[float, float]]] = {}
    async with AsyncExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sf-soak-")))
        broker = await stack.enter_async_context(own_broker(root / "broker", ProfiledBroker))
        assert isinstance(broker, ProfiledBroker)
        tasks = root / "gateway-tasks"
        module = ("bench.soak.watched", str(tasks))
        gateway = stack.enter_context(GatewayProcess(broker.url, root / "gateway.log", module=module))
        agents = Agents(broker.url, root)
        stack.callback(agents.stop)
        for _ in range(AGENTS):
            await asyncio.to_thread(agents.start)
        browsers = await stack.enter_async_context(Browsers())
        connection = await nats.connect(broker.url, nkeys_seed=str(broker.keys.nkey))
        stack.push_async_callback(connection.close)
        churn = Churn(gateway.url, browsers, agents, agent_every_s)
        began = time.monotonic()

        async def look() -> None:
            every_s = max(_AT_MOST_S, seconds / _SAMPLES)
            while (passed := time.monotonic() - began) < seconds:
                for one, value in (
                    await sample(broker, gateway.process.pid, tasks, gateway.url, agents, connection)
                ).items():
                    series.setdefault(one, []).append((round(passed, 1), round(value, 2)))
                done = churn.told
                replaced = f"{done.pages} pages and {done.kills} agents replaced"
                say(f"{passed / 60:.1f} min: {done.answers} answers, {replaced}, {len(done.wrong)} wrong")
                await asyncio.sleep(every_s)

        async with asyncio.TaskGroup() as both:
            both.create_task(look())
            both.create_task(churn.run(began + seconds))
    soaked = Soaked(machine(), f"{datetime.date.today():%Y-%m-%d}", seconds / 60, churn.told)
    for one, samples in sorted(series.items()):
        name = f"{one.whose} {one.measure}"
        soaked.series[name] = samples
        soaked.judged[name] = judge(one.measure, samples, seconds)
    return soaked


def lines(soaked: Soaked) -> list[str]:
    """Return the result as docs/soak.md has it."""
    done = soaked.done
    head = [
        f"{soaked.date}, {soaked.minutes:g} minutes: {done.answers:,} answers, {done.pages:,} pages and {done.kills:,} "
        f"agents replaced; {len(done.wrong)} went wrong. {soaked.machine}.",
        "",
        "| of | median | first tenth | last tenth | growth by the trend | allowed | |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in soaked.judged.items():
        unit = next(bound.unit for measure, bound in BOUNDS.items() if name.endswith(measure))
        figures = (f"{value:,.1f} {unit}".strip() for value in found)
        head.append(f"| {name} | {' | '.join(figures)} | {'flat' if found.flat else '**grows**'} |")
    return [*head, *(["", *(f"- {wrong}" for wrong in done.wrong[:20])] if done.wrong else [])]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="how long: %(default)s")
    parser.add_argument("--no-docs", action="store_true", help="print the result, and leave docs/soak.md as it is")
    options = parser.parse_args(arguments)
    if not options.minutes >= 0.5:
        parser.error(f"--minutes {options.minutes:g} is too short to judge anything by: half a minute at least")
    soaked = asyncio.run(soak(options.minutes * 60, lambda said: print(said, file=sys.stderr, flush=True)))
    print("\n".join(lines(soaked)))
    if not options.no_docs:
        from bench.peers.report import put

        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(asdict(soaked), indent=1) + "\n")
        _PAGE.write_text(put(_PAGE.read_text(), "\n".join(lines(soaked))))
    return 0 if soaked.good else 1


if __name__ == "__main__":
    raise SystemExit(main())

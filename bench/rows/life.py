"""What a session with life in it promises: stops, answers and hand-overs of dead agents, and how long they take."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

from session_fabric import Fabric, Offset, Session
from session_fabric.rules.routing import run_of_input
from session_fabric.words.errors import AlreadyAnswered

from bench.browser import Browsers
from bench.gateway import GatewayProcess
from bench.house import own_broker
from bench.plan import Plan
from bench.report import Row, middle, percentile
from bench.worker import TOKEN

_TOKENS = 600


def measure(plan: Plan) -> list[Row]:
    return asyncio.run(_measure(plan))


async def _measure(plan: Plan) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="sf-bench-") as directory:
        async with own_broker(Path(directory)) as broker:
            return [
                await _cancel(broker.url, plan.scaled(300)),
                await _cancel_by_browser(broker.url, Path(directory), plan.scaled(300)),
                await _answers(broker.url, plan.scaled(1000, 10)),
                *await _takeovers(broker.url, plan.scaled(100, 10)),
            ]


@asynccontextmanager
async def _two(url: str) -> AsyncIterator[tuple[Fabric, Fabric]]:
    async with (
        Fabric.connect(url, streams=1, participant="agent:a") as agent,
        Fabric.connect(url, streams=1, participant="user:ada") as user,
    ):
        yield agent, user


async def _cancel(url: str, times: int) -> Row:
    """From the call that asks for it until the agent's code is cancelled."""
    took: list[float] = []
    async with _two(url) as (agent, user):
        for number in range(times):
            session, begun = agent.session("cancel"), asyncio.Event()
            stopped = 0.0
            run_id = f"r{number}"

            async def work(session: Session = session, run_id: str = run_id, begun: asyncio.Event = begun) -> float:
                at = 0.0
                async with session.run(run_id) as run:
                    await run.text("x")
                    begun.set()
                    try:
                        await asyncio.Event().wait()
                    finally:
                        at = time.perf_counter()
                return at

            task = asyncio.create_task(work())
            await begun.wait()
            asked = time.perf_counter()
            await user.session("cancel").control("cancel", run=run_id)
            stopped = await task
            took.append((stopped - asked) * 1000)
    return _stopped("cancel asked until the agent's code is cancelled, p99", took, f"{times} times over native NATS")


async def _cancel_by_browser(url: str, directory: Path, times: int) -> Row:
    """The same, asked by a socket at a gateway process."""
    took: list[float] = []
    async with AsyncExitStack() as stack:
        gateway = stack.enter_context(GatewayProcess(url, directory / "gateway.log"))
        browsers = await stack.enter_async_context(Browsers())
        browser = await browsers.start(gateway.url, "user:ada", "d1")
        agent = await stack.enter_async_context(Fabric.connect(url, participant="agent:a"))
        await browser.open("cancel-by-browser")
        for number in range(times):
            asked = stopped = 0.0
            async with agent.session("cancel-by-browser").run(f"b{number}") as run:
                await run.text("x")
                asked = time.perf_counter()
                asking = asyncio.create_task(
                    browser.ask("control", session="cancel-by-browser", run=run.id, action="cancel")
                )
                try:
                    await asyncio.Event().wait()
                finally:
                    stopped = time.perf_counter()
            await asking
            took.append((stopped - asked) * 1000)
    return _stopped("  asked by a browser at the gateway, p99", took, f"{times} times")


def _stopped(name: str, took: list[float], how: str) -> Row:
    p99 = percentile(took, 0.99)
    return Row(name, f"{p99:.1f} ms", "", p99, 50.0, "less", "ms", notes=f"{how}; p50 {middle(took):.1f} ms")


async def _answers(url: str, times: int) -> Row:
    """Two people answer one question at the same moment."""
    faults: list[str] = []
    winners = told = 0
    async with _two(url) as (agent, user), Fabric.connect(url, participant="operator:eve") as operator:
        session = agent.session("answers")
        people = [user.session("answers"), operator.session("answers")]
        async with session.run("r1") as run:
            after = run.claim
            for number in range(times):
                asking = asyncio.create_task(run.ask("Which?", id=f"q{number}", options=["ada", "eve"]))
                await _asked(people[0], f"q{number}", after)
                after = await people[0].head()
                results = await asyncio.gather(
                    *(who.answer(f"q{number}", name) for who, name in zip(people, ("ada", "eve"), strict=True)),
                    return_exceptions=True,
                )
                won = [r for r in results if not isinstance(r, BaseException)]
                lost = [r for r in results if isinstance(r, AlreadyAnswered)]
                answer = await asking
                winners += len(won) == 1
                told += len(lost) == 1 and lost[0].facts.get("by") == answer.by
    if winners != times or told != times:
        faults.append(f"{times - winners} without exactly one winner, {times - told} losers not told who")
    return Row(
        "two answers at once: exactly one counts, the other is told",
        f"{winners} of {times}",
        "",
        winners / times,
        1.0,
        "more",
        faults=faults,
    )


async def _asked(session: Session, request: str, after: Offset) -> None:
    """Wait until the question is in the log."""
    async with aclosing(session.follow(after)) as events:
        async for event in events:
            if event.type == "input.requested" and event.body["request"] == request:
                return


async def _takeovers(url: str, times: int) -> list[Row]:
    """Kill the worker that answers, with -9, in mid-answer; another one of its pool goes on."""
    known: list[float] = []
    whole = 0
    faults: list[str] = []
    expected = "".join(TOKEN.format(number) for number in range(_TOKENS))
    async with Fabric.connect(url, participant="user:ada") as user:
        workers: dict[str, subprocess.Popen[bytes]] = {}
        try:
            for number in range(times):
                while len(workers) < 2:
                    holder, child = await asyncio.to_thread(_worker, url)
                    workers[holder] = child
                session = user.session(f"takeover-{number}")
                orphaned_ms, text = await _one(session, workers)
                known.append(orphaned_ms)
                whole += text == expected
        finally:
            for child in workers.values():
                child.kill()
                child.wait()
    if whole != times:
        faults.append(f"{times - whole} answers were not whole")
    return [
        Row(
            "a worker killed with -9 until every viewer knows, p99",
            f"{percentile(known, 0.99):.0f} ms",
            "",
            percentile(known, 0.99),
            500.0,
            "less",
            "ms",
            notes=f"{times} times, connection closed by the kernel; p50 {middle(known):.0f} ms",
        ),
        Row(
            "  its answer gone on with by another, whole, nothing twice",
            f"{whole} of {times}",
            "",
            whole / times,
            1.0,
            "more",
            faults=faults,
        ),
    ]


def _worker(url: str) -> tuple[str, subprocess.Popen[bytes]]:
    """Start a worker; return its process's name in the fabric, and the process."""
    child = subprocess.Popen([sys.executable, "-m", "bench.worker", url, str(_TOKENS)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    holder = child.stdout.readline().strip().decode()
    if not holder:
        raise RuntimeError("a worker did not start")
    return holder, child


async def _one(session: Session, workers: dict[str, subprocess.Popen[bytes]]) -> tuple[float, str]:
    """Kill whoever has the session; return how long it took until that was known, in ms, and the whole answer."""
    message = {"id": "q1", "role": "user", "content": "count"}
    await session.append({"type": "message.user", "message": message}, id="q1")
    run = run_of_input("q1")
    killed = known = 0.0
    deltas, holder = 0, ""
    async with aclosing(session.follow(deltas="all")) as events:
        async for event in events:
            if event.type == "RUN_STARTED":
                holder = str(event.body["holder"])
            elif event.type == "TEXT_MESSAGE_CONTENT":
                deltas += 1
                if deltas == 20:
                    child = workers.pop(holder)
                    killed = time.perf_counter()
                    child.send_signal(signal.SIGKILL)
            elif event.type == "run.orphaned":
                known = time.perf_counter()
            elif event.type in ("RUN_FINISHED", "RUN_ERROR") and event.run == run:
                break
    said = [m.content for m in (await session.messages()).messages if m.role == "assistant"]
    return (known - killed) * 1000, "".join(said)

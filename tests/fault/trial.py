"""One seed: all processes begin, faults are made while everybody writes, all is put right, and the history is read."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from session_fabric import Fabric
from session_fabric.words.errors import FabricError

from tests.fault.cast import SECRET, Ended, Role, log_end
from tests.fault.checker import check
from tests.fault.harm import Harm, machine
from tests.fault.history import PASSING, RUN_ENDS, Event, Got, History, Verdict
from tests.fault.hosts import Host, hosts
from tests.fault.journal import Journal, collect
from tests.fault.pause_rules import Pause, pauses
from tests.fault.places import Brokers, small_disk
from tests.fault.process import Start
from tests.fault.reader import noted
from tests.fault.run_rules import run_of
from tests.fault.schedule import BROWSERS, GATEWAYS, HOSTS, NODES, PEOPLE, READERS, SMALL_DISK, WORKERS, schedule
from tests.fault.winner_rules import EXACTLY, SETTLES
from tests.support.link import Link
from tests.support.rolling import CONTEXT
from tests.support.waiting import eventually

SESSIONS: Final = ("s0", "s1", "s2")
# Clients find out within this that a connection is dead; the default is 8 s.
_GATEWAY: Final = ("--heartbeat", "3", "--drain", "1", "--log-level", "info")
_QUIET_S: Final = 120.0
_ENDS_S: Final = 45.0
_MOST_S: Final = 400.0
_READ_S: Final = 70.0


@dataclass(frozen=True)
class Counts:
    calls: int = 0
    acknowledged: int = 0
    runs: int = 0
    taken_over: int = 0
    deliveries: int = 0

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} of {self.calls} calls acknowledged, {self.runs} runs, {self.taken_over} taken over, "
            f"{self.deliveries} deliveries"
        )


@dataclass
class Outcome:
    """What came of a seed. `amiss`: what is wrong beside what the checker says; `load`: the machine's when it ended."""

    seed: int
    directory: Path
    verdicts: list[Verdict] = field(default_factory=list)
    amiss: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    counts: Counts = Counts()
    load: float = 0.0

    @property
    def good(self) -> bool:
        return not self.verdicts and not self.amiss


async def trial(seed: int, seconds: float, directory: Path, *, separate: bool) -> Outcome:
    """Make a seed's faults for so long; return what came of it. The directory has every journal and log."""
    await asyncio.to_thread(_empty, directory)
    outcome = Outcome(seed, directory)
    try:
        await _Trial(seed, seconds, directory, outcome, separate).run()
    except* (AssertionError, Ended, FabricError, OSError, TimeoutError) as errors:
        outcome.amiss += [f"it could not be carried through: {error!r}" for error in errors.exceptions]
    outcome.load = round(os.getloadavg()[0], 1)
    judge(outcome)
    return outcome


def _empty(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)


def judge(outcome: Outcome) -> None:
    """Hold what was noted against the promises."""
    history = collect(outcome.directory)
    if not history.stored:
        outcome.amiss.append("it was not carried through: nothing to judge")
        return
    outcome.verdicts = check(history)
    outcome.pauses = pauses(history)
    outcome.counts = counted(history)


def counted(history: History) -> Counts:
    events = [event.type for log in history.stored.values() for event in log]
    return Counts(
        calls=len(history.calls),
        acknowledged=sum(call.outcome == "ok" for call in history.calls),
        runs=events.count("RUN_STARTED"),
        taken_over=events.count("run.taken_over"),
        deliveries=sum(isinstance(step, Got) for reading in history.readings for step in reading.steps),
    )


class _Trial:
    def __init__(self, seed: int, seconds: float, directory: Path, outcome: Outcome, separate: bool) -> None:
        self.seed = seed
        self.seconds = seconds
        self.directory = directory
        self.outcome = outcome
        self.separate = separate
        self.journal = Journal(directory, "trial")
        self.roles: dict[str, Role] = {}

    async def run(self) -> None:
        self.journal.note("clock", wall=time.time() - time.monotonic())
        async with AsyncExitStack() as stack:
            watching = asyncio.create_task(machine(self.journal))
            stack.callback(watching.cancel)
            net = stack.enter_context(hosts(HOSTS, separate=self.separate))
            disk = stack.enter_context(small_disk(self.directory / SMALL_DISK))
            brokers = Brokers(self.directory, [net[name] for name in NODES])
            stack.callback(brokers.stop)
            brokers.start()
            assert await brokers.current(), "the brokers did not find together"
            fabric = await stack.enter_async_context(
                Fabric.connect(brokers.url, participant="service:trial", streams=2, timeout_s=60.0)
            )
            for name in SESSIONS:
                await fabric.session(name).create()
            stack.push_async_callback(self._end)
            await self._begin(net, brokers, stack)
            try:
                harm = Harm(brokers, self.roles, net, self.journal, disk)
                await self._load(harm)
                await self._settle(fabric, brokers)
                await self._read(fabric)
            finally:
                self.outcome.done, self.outcome.left_out = harm.done, harm.left_out
                self.outcome.amiss += harm.amiss

    # --- beginning ----------------------------------------------------------------------------------

    async def _begin(self, net: Mapping[str, Host], brokers: Brokers, stack: AsyncExitStack) -> None:
        for names in (GATEWAYS, (*WORKERS, *PEOPLE, *READERS), BROWSERS):
            begun = []
            for name in names:
                targets = [(node.host.address, node.port) for node in brokers.nodes]
                if name in BROWSERS:
                    links = [await stack.enter_async_context(self._link(net[name], *self._gates(net, name)))]
                else:
                    links = [await stack.enter_async_context(self._link(net[name], target)) for target in targets]
                self.roles[name] = self._role(net[name], links)
                begun.append(self.roles[name].begin())
            await asyncio.gather(*begun)

    def _gates(self, net: Mapping[str, Host], name: str) -> list[tuple[str, int]]:
        gates = [(net[gate].address, self.roles[gate].start.port) for gate in GATEWAYS]
        return gates[BROWSERS.index(name) :] + gates[: BROWSERS.index(name)]

    def _role(self, host: Host, links: list[Link]) -> Role:
        everywhere = () if host.namespace is None else ("--host", "0.0.0.0")
        start = Start(
            who="",
            host=host.name,
            namespace=host.namespace,
            directory=self.directory,
            broker=",".join(f"nats://127.0.0.1:{link.port}" for link in links),
            sessions=SESSIONS,
            seed=self.seed,
            port=links[0].port if host.name in BROWSERS else 0,
            secret=SECRET,
            options=(*_GATEWAY, *everywhere),
        )
        return Role(host, start, self.journal, links, CONTEXT.Value("d", 0.0))

    @asynccontextmanager
    async def _link(self, host: Host, *targets: tuple[str, int]) -> AsyncIterator[Link]:
        link = Link(*targets, within=host.entered)
        await link.start()
        try:
            yield link
        finally:
            await link.stop()

    # --- faults -------------------------------------------------------------------------------------

    async def _load(self, harm: Harm) -> None:
        begun = time.monotonic()
        lanes = schedule(self.seed)
        async with asyncio.TaskGroup() as group:
            for steps in lanes.values():
                group.create_task(harm.lane(steps, begun + self.seconds))
            group.create_task(asyncio.sleep(self.seconds))
        self.journal.note("load", begun=begun, over=time.monotonic())

    async def _settle(self, fabric: Fabric, brokers: Brokers) -> None:
        """Nothing new is begun; what was begun comes to its end."""
        if not await brokers.current():
            self.outcome.amiss.append("in the end not all replicas are current")
        for role in self._of("p", "b"):
            role.tell(quiet=True)
        for role in self._of("p", "b"):
            await role.until("quiet", _QUIET_S)

        ended, since = -1, time.monotonic()

        async def through() -> bool:
            nonlocal ended, since
            stored = [await _stored(fabric, name) for name in SESSIONS]
            count = sum(event.type in RUN_ENDS or event.type in SETTLES for log in stored for event in log)
            if count != ended:
                ended, since = count, time.monotonic()
            return not any(map(_open, stored)) or time.monotonic() - since > _ENDS_S

        # What has no end when none has come for so long is the checker's to say.
        await eventually(through, _MOST_S, every_s=1.0)

    async def _read(self, fabric: Fabric) -> None:
        """Have all read to the end; note what is stored, and who is shown."""
        upto = {name: _last(await _stored(fabric, name)) for name in SESSIONS}
        for role in self._of("f", "b"):
            role.tell(upto=upto)
        for role in self._of("f", "b"):
            said = await role.until("read", _READ_S)
            for reader, session in said.items() if role.name in BROWSERS else [(role.who, n) for n in SESSIONS]:
                name = session[0] if role.name in BROWSERS else session
                self.journal.note("upto", reader=reader, session=name, offset=upto[name])
            self.outcome.amiss += [f"{role.who}: {fault}" for fault in role.said.get("faults", ())]
        for name in SESSIONS:
            shown = [(role, *pair) for role in self._of("b") for pair in role.said["shown"]]
            expected = [[f"user:{role.name}", device] for role, session, device in shown if session == name]
            members = await fabric.session(name).members()
            found = [[m.participant, m.device] for m in members if m.participant.startswith("user:")]
            self.journal.note("members", session=name, found=found, expected=expected)
        # What is stored from here on nobody gets any more.
        for role in self._of("f", "b"):
            await role.end()
        for name in SESSIONS:
            self.journal.note("stored", session=name, events=await _stored(fabric, name))

    async def _end(self) -> None:
        for role in self.roles.values():
            if role.ended and not role.over:
                said = log_end(self.directory, role.who)
                self.outcome.amiss.append(f"{role.who} ended by itself: {said}")
            await role.end()

    def _of(self, *kinds: str) -> list[Role]:
        return [role for name, role in self.roles.items() if name[0] in kinds]


async def _stored(fabric: Fabric, name: str) -> list[Event]:
    """Return what is stored of a session, as the leader has it."""
    session = fabric.session(name)
    async with aclosing(session.read("start", deltas="all")) as batches:
        return [noted(record) async for records in batches for record in records]


def _open(stored: list[Event]) -> bool:
    """Say whether something that was begun has no end yet."""
    begun = {event.run for event in stored if event.type == "RUN_STARTED"}
    over = {event.run for event in stored if event.type in RUN_ENDS}
    none = {event.body.get("message") for event in stored if event.type in ("message.expired", "message.rejected")}
    asked = {str(event.id) for event in stored if event.type == "message.user"}
    # What a process had in hand that lost its broker is another's after 30 s (fabric, deadlines.py).
    requested = {event.id for event in stored if event.type in EXACTLY}
    settled = {event.body.get("request") for event in stored if event.type in SETTLES}
    return bool(begun - over or requested - settled) or any(run_of(id) not in begun and id not in none for id in asked)


def _last(stored: list[Event]) -> str:
    """Return the newest offset that every reader must get."""
    return next(event.offset for event in reversed(stored) if event.type not in PASSING)

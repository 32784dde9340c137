"""Does a step of a schedule to what is there, puts it right when its time is over, and notes from when until when."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from tests.fault.cast import Role
from tests.fault.ending import wholly
from tests.fault.hosts import Cut, Host
from tests.fault.journal import Journal
from tests.fault.places import Brokers, Node, fill
from tests.fault.schedule import NETWORK, Step
from tests.support.link import Way


@dataclass
class Harm:
    """What can be done in a trial. `left_out`: what this machine does not allow; `amiss`: what went wrong of itself."""

    brokers: Brokers
    roles: Mapping[str, Role]
    hosts: Mapping[str, Host]
    journal: Journal
    disk: bool
    done: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    amiss: list[str] = field(default_factory=list)

    async def lane(self, steps: list[Step], until: float) -> None:
        """Do one step after the other, as long as there is time for the next."""
        for step in steps:
            if time.monotonic() + step.after_s + step.for_s > until:
                return
            await asyncio.sleep(step.after_s)
            if self._possible(step):
                await self._do(step)
            else:
                self.left_out.append(f"{step.kind} {step.target}")

    def _possible(self, step: Step) -> bool:
        separate = self.hosts[step.target].namespace is not None
        return (separate or step.kind not in NETWORK) and (self.disk or step.kind != "full-disk")

    async def _do(self, step: Step) -> None:
        self.journal.note("begins", fault=step.kind, target=step.target, step=str(step))
        self.done.append(str(step))
        if step.kind == "rolling":
            for node in self.brokers.nodes:
                await self._noted("rolling", node.name, self._stopped(node, 0.0))
                await self._current(f"rolling {node.name}")
        elif step.target.startswith("n"):
            node = self.brokers.node(step.target)
            if step.kind == "kill-leader":
                node = await self.brokers.leader(step.how) or node
            await self._noted(step.kind, node.name, self._broker(step, node))
            await self._current(str(step))
        else:
            await self._noted(step.kind, step.target, self._process(step, self.roles[step.target]))

    async def _noted(self, kind: str, target: str, doing: object) -> None:
        begun = time.monotonic()
        await cast("asyncio.Future[None]", doing)
        self.journal.note("fault", fault=kind, target=target, begun=begun, over=time.monotonic())

    async def _current(self, after: str) -> None:
        if not await self.brokers.current():
            self.amiss.append(f"after {after} not all replicas were current within a minute")

    # --- brokers ------------------------------------------------------------------------------------

    async def _broker(self, step: Step, node: Node) -> None:
        match step.kind:
            case "kill" | "kill-leader" | "lost-data":
                await asyncio.to_thread(node.kill)
                await asyncio.sleep(step.for_s)
                if step.kind == "lost-data":
                    node.lose_data()
                node.start()
            case "stop":
                await self._stopped(node, step.for_s)
            case "freeze":
                node.freeze()
                await asyncio.sleep(step.for_s)
                node.thaw()
            case "full-disk":
                filler = await wholly(fill, node.directory)
                await asyncio.sleep(step.for_s)
                filler.unlink()
                # What could not be written has switched its JetStream off: it is started again, as operators do.
                await self._stopped(node, 0.0)
            case _:
                await self._network(step, node.host)

    async def _stopped(self, node: Node, for_s: float) -> None:
        await asyncio.to_thread(node.stop)
        await asyncio.sleep(for_s)
        node.start()

    async def _network(self, step: Step, host: Host) -> None:
        if step.kind == "loss":
            host.lose(step.amount)
        else:
            host.cut(cast(Cut, step.how or "both"))
        await asyncio.sleep(step.for_s)
        host.mend()

    # --- everybody else -----------------------------------------------------------------------------

    async def _process(self, step: Step, role: Role) -> None:
        match step.kind:
            case "kill":
                await role.kill()
                await asyncio.sleep(step.for_s)
                await role.begin()
            case "stop":
                if (status := await role.stop()) != 0:
                    self.amiss.append(f"{role.who} was asked to end, and did with status {status}")
                await asyncio.sleep(step.for_s)
                await role.begin()
            case "freeze":
                role.send(signal.SIGSTOP)
                await asyncio.sleep(step.for_s)
                role.send(signal.SIGCONT)
            case "clock":
                role.step_clock(step.amount)
                await asyncio.sleep(step.for_s)
                role.step_clock(0.0)
            case "partition" | "one-way" | "loss":
                await self._network(step, role.host)
            case _:
                await self._links(step, role)

    async def _links(self, step: Step, role: Role) -> None:
        for link in role.links:
            match step.kind:
                case "half-open":
                    link.swallow(cast(Way, step.how))
                case "slow-reader":
                    link.swallow("down")
                case "latency":
                    link.delay_s = step.amount
                case "refuse":
                    link.cut()
                case "reset":
                    link.reset()
        await asyncio.sleep(step.for_s)
        for link in role.links:
            link.mend()


async def machine(journal: Journal) -> None:
    """Note when the machine stood still: nothing that happens then is anybody's fault."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(0.05)
        if (late := time.monotonic() - before - 0.05) > 0.7:
            journal.note("fault", fault="stall", target="machine", begun=before, over=before + late)

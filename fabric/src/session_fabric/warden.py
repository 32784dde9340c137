"""Finds processes that are gone, and has what they held put in order; every process with a lease does."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from typing import Final, Protocol

from session_fabric.absences import Absence, Absences
from session_fabric.counting import NOT_COUNTED, Metrics
from session_fabric.leases import BUCKET, BURIED, Lease, alive_call
from session_fabric.ports import Broker, Departure, Entry, Listening
from session_fabric.rules.leases import ASK_S, FIRST_ASK_S, SURE_S, Answer, judge, look_again_s
from session_fabric.words.errors import FabricError, NobodyAnswers, Unavailable
from session_fabric.words.logs import log
from session_fabric.words.measures import ABSENCES, MEND, MENDS, SUSPECTS
from session_fabric.words.subjects import Place

# What no watch told of is found this late.
LOOK_S: Final = 30.0
# Several wardens find out at the same time: who is first leaves the others nothing to do.
SPREAD_S: Final = 0.03
_AGAIN_S: Final = 0.3


class Mender(Protocol):
    """Puts in order what a dead process has left. Several may be at it at once: each step is written once."""

    async def holders(self) -> set[str]:
        """Return the processes that hold something, or have left something behind."""

    async def mend(self, holder: str) -> None:
        """Put in order what one that is dead held. What it raises has it done again."""


class Warden:
    """One process's watch over the others; `run` is its whole life."""

    def __init__(
        self,
        broker: Broker,
        lease: Lease,
        menders: Sequence[Mender],
        absences: Absences,
        metrics: Metrics = NOT_COUNTED,
    ) -> None:
        self._metrics = metrics
        self._absences = absences
        self._broker = broker
        self._lease = lease
        self._leases = broker.bucket(BUCKET)
        self._menders = menders
        self._suspects: dict[str, bool] = {}  # and whether the broker told of its departure
        self._asking: dict[str, bool] = {}  # and whether that was known when they were asked last
        # Those of whose absence was told, with the runs of which it was.
        self._away: dict[str, Sequence[tuple[Place, Absence]]] = {}
        self._wake = asyncio.Event()
        self.listening = asyncio.Event()  # once it hears of what ends

    async def run(self) -> None:
        """Watch until cancelled; survives a lost broker."""
        watching, departing = await self._listen()
        self.listening.set()
        looked = time.monotonic() - LOOK_S + SURE_S  # at the start: whatever died before us
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    if time.monotonic() - looked >= LOOK_S and self._lease.sure:
                        looked = time.monotonic()
                        await self._look_around()
                    for holder in list(self._suspects):
                        if holder not in self._asking:
                            self._asking[holder] = self._suspects[holder]
                            group.create_task(self._look_into(holder), name=f"is {holder} alive")
                    self._wake.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1.0):
                            await self._wake.wait()
        finally:
            if self._broker.connected:
                await watching.close()
                await departing.close()

    async def _listen(self) -> tuple[Listening, Listening]:
        """Begin to hear of what ends; waits for the broker."""
        watching: Listening | None = None
        while True:
            try:
                await self._lease.hold()
                watching = watching or await self._leases.watch("", self._lease_changed)
                return watching, await self._broker.on_departure(self._departed)
            except FabricError as error:
                log.warning("warden_waits", code=error.code, detail=error.message)
                await asyncio.sleep(_AGAIN_S)

    def _lease_changed(self, entry: Entry) -> None:
        if entry.value is None:
            self._suspect(entry.key.rpartition(".")[2], departed=False)

    def _departed(self, departure: Departure) -> None:
        if departure.closed and departure.holder != self._lease.holder:
            self._tell_away(departure.holder)
        self._suspect(departure.holder, departed=True)

    def _suspect(self, holder: str, *, departed: bool) -> None:
        if holder != self._lease.holder:
            self._suspects[holder] = departed or self._suspects.get(holder, False)
            self._wake.set()

    async def _look_around(self) -> None:
        """Suspect everybody who holds something without a lease."""
        try:
            held: set[str] = set()
            for mender in self._menders:
                held |= await mender.holders()
            for holder in held - await self._lease.alive():
                self._suspect(holder, departed=False)
        except FabricError as error:
            log.warning("holders_not_looked_at", code=error.code)

    async def _look_into(self, holder: str) -> None:
        """Ask one of whom we have heard the end until we know; then put in order what it held."""
        dead = False
        try:
            dead = await self._is_dead(holder)
            self._metrics.count(SUSPECTS, "dead" if dead else "alive")
            if not dead:
                self._tell_back(holder)
            if dead:
                found = time.monotonic()
                await asyncio.sleep(random.uniform(0, SPREAD_S))
                await self._mend(holder)
                self._metrics.observe(MEND, time.monotonic() - found)
                await self._say_so(holder)
        except Exception:  # the watch over all the others goes on; this one is found again by the look around
            log.exception("death_not_seen_to", holder=holder)
            self._tell_back(holder)
        finally:
            known = self._asking.pop(holder)
            if dead or self._suspects[holder] == known:
                del self._suspects[holder]
                self._away.pop(holder, None)  # what became of one that is dead is in the log
            else:
                self._wake.set()  # its departure was told since it answered

    async def _say_so(self, holder: str) -> None:
        """Let one know that was taken for dead, should it live after all: it looks after what it has lost."""
        with contextlib.suppress(Unavailable):
            await self._broker.calls.ask(alive_call(holder), BURIED, timeout_s=ASK_S)

    async def _is_dead(self, holder: str) -> bool:
        nobody_since: float | None = None
        told = False
        while True:
            self._asking[holder] = departed = self._suspects[holder]
            if departed and not told:
                told = True
                answer = await self._ask_and_tell(holder)
            else:
                answer = await self._ask(holder)
            now = time.monotonic()
            nobody_since = (nobody_since or now) if answer == "nobody" else None
            nobody_for_s = 0.0 if nobody_since is None else now - nobody_since
            try:
                leased = holder in await self._lease.alive()
            except FabricError:
                leased = True  # we know nothing
            verdict = judge(
                answer,
                leased=leased,
                departed=departed,
                nobody_for_s=nobody_for_s,
                sure=self._lease.sure and self._broker.connected,
            )
            if verdict != "unsure":
                return verdict == "dead"
            await asyncio.sleep(look_again_s(answer, departed=departed, nobody_for_s=nobody_for_s))

    async def _ask_and_tell(self, holder: str) -> Answer:
        """Ask one whose connection has ended; where it does not answer at once through another one, tell of that."""
        answer = await self._ask(holder, FIRST_ASK_S)
        if answer == "answered":
            return answer
        self._tell_away(holder)
        known = self._away[holder]
        others = [each for each in await self._absences.runs_of(holder) if each not in known]
        self._absences.tell(others, connected=False)
        self._away[holder] = runs = [*known, *others]
        if runs:
            self._metrics.count(ABSENCES, "away")
            log.info("agent_away", holder=holder, runs=len(runs))
        return answer

    def _tell_away(self, holder: str) -> None:
        """Tell of those runs of which followers have heard; no I/O."""
        if holder not in self._away:
            self._away[holder] = runs = self._absences.known_of(holder)
            self._absences.tell(runs, connected=False)

    def _tell_back(self, holder: str) -> None:
        runs = self._away.pop(holder, None)
        if runs:
            self._absences.tell(runs, connected=True)
            self._metrics.count(ABSENCES, "back")
            log.info("agent_back", holder=holder, runs=len(runs))

    async def _ask(self, holder: str, timeout_s: float = ASK_S) -> Answer:
        try:
            await self._broker.calls.ask(alive_call(holder), b"", timeout_s=timeout_s)
        except NobodyAnswers:
            return "nobody"
        except Unavailable:
            return "silent"
        return "answered"

    async def _mend(self, holder: str) -> None:
        """Have each mender do its part, again until it is done."""
        waiting, told = list(self._menders), set[str]()
        while waiting:
            done = await asyncio.gather(*(self._mend_by(mender, holder, told) for mender in waiting))
            waiting = [mender for mender, is_done in zip(waiting, done, strict=True) if not is_done]
            if waiting:
                await asyncio.sleep(_AGAIN_S)

    async def _mend_by(self, mender: Mender, holder: str, told: set[str]) -> bool:
        try:
            await mender.mend(holder)
        except FabricError as error:
            if error.code not in told:  # with the broker away it would be said of each process at each try
                told.add(error.code)
                log.warning("not_mended_yet", holder=holder, code=error.code, detail=error.message)
            self._metrics.count(MENDS, "again" if error.retryable else "refused")
            return not error.retryable
        self._metrics.count(MENDS, "mended")
        return True

"""The load: sessions that are made, asked in, looked at by several, and deleted; pages and agents that come and go."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

import aiohttp

from bench.browser import Browser, Browsers, Told
from bench.soak.agent import whole

PAGES: Final = 16
AGENTS: Final = 2
# Sessions under way at a time: each takes about three seconds, and forty events and more. The next begins by the clock:
# markers of what was deleted stay for a minute, and would grow with a machine that gets faster.
_AT_ONCE: Final = 6
_SESSION_EVERY_S: Final = 4.0
# How long one may take, an agent killed in the middle of it, and the next one starting on a busy machine.
_PATIENCE_S: Final = 60.0
_PAGE_EVERY_S: Final = 5.0
AGENT_EVERY_S: Final = 30.0
# Of the sessions, whose pages close them before they are deleted.
_CLOSES: Final = 0.8
_HEADERS: Final = {"Authorization": "Bearer operator:soak"}


@dataclass
class Done:
    """What has been done, and what went wrong."""

    answers: int = 0
    pages: int = 0
    kills: int = 0
    wrong: list[str] = field(default_factory=list)


class Agents:
    """Workers as processes of their own, each with a file for the count of its tasks."""

    def __init__(self, url: str, directory: Path) -> None:
        self._url = url
        self._directory = directory
        self._number = count()
        self.running: list[tuple[subprocess.Popen[bytes], Path]] = []

    def start(self) -> None:
        file = self._directory / f"agent-{next(self._number)}"
        command = [sys.executable, "-m", "bench.soak.agent", self._url, str(file)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            self._end(process)
            raise RuntimeError("an agent did not start")
        self.running.append((process, file))

    def replace_oldest(self) -> None:
        """Start one, then end the one that has been there longest as a crash does."""
        self.start()
        process, file = self.running.pop(0)
        self._end(process)
        file.unlink(missing_ok=True)

    def stop(self) -> None:
        for process, _ in self.running:
            self._end(process)

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


class Churn:
    """`run` goes on until `until` (monotonic seconds), and ends when all that is under way has ended."""

    def __init__(self, gateway: str, browsers: Browsers, agents: Agents, agent_every_s: float = AGENT_EVERY_S) -> None:
        self.told = Done()
        self._gateway = gateway
        self._browsers = browsers
        self._agents = agents
        self._agent_every_s = agent_every_s
        self._pages: list[Browser] = []
        self._busy = Counter[Browser]()
        self._freed = asyncio.Condition()
        self._number = count()

    async def run(self, until: float) -> None:
        for _ in range(PAGES):
            await self._new_page()
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(self._gateway, connector=connector, headers=_HEADERS) as http,
            asyncio.TaskGroup() as tasks,
        ):
            for _ in range(_AT_ONCE):
                tasks.create_task(self._sessions(http, until))
            tasks.create_task(self._every(_PAGE_EVERY_S, until, self._replace_page))
            tasks.create_task(self._every(self._agent_every_s, until, self._replace_agent))

    async def _sessions(self, http: aiohttp.ClientSession, until: float) -> None:
        while time.monotonic() < until:
            due = time.monotonic() + _SESSION_EVERY_S
            session = f"soak-{next(self._number)}"
            pages = random.sample(self._pages, 2)
            self._busy.update(pages)
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._live(http, session, *pages)
            except TimeoutError:
                self.told.wrong.append(f"{session} was not answered within {_PATIENCE_S:g} s")
            except (ConnectionError, RuntimeError, aiohttp.ClientError) as error:
                self.told.wrong.append(f"{session}: {type(error).__name__}: {error}")
            finally:
                self._busy.subtract(pages)
                async with self._freed:
                    self._freed.notify_all()
            await asyncio.sleep(min(due, until) - time.monotonic())

    async def _live(self, http: aiohttp.ClientSession, session: str, asking: Browser, looking: Browser) -> None:
        """Live through one session: two pages look on, one asks, the answer is whole, and all is deleted."""
        opened = {asking: await asking.open(session, presence={}), looking: await looking.open(session)}
        ended = looking.told(session, lambda event: event["type"] in ("RUN_FINISHED", "RUN_ERROR"))
        body = {"type": "message.user", "message": {"id": "q1", "role": "user", "content": "count"}}
        await asking.ask("append", session=session, event={"id": "q1", "body": body})
        await asking.ask("state.put", session=session, document="plan", body={"steps": [1, 2, 3]})
        await self._answered(http, session, ended)
        if random.random() < _CLOSES:  # else the deletion ends what is open
            for page, sub in opened.items():
                await page.close(session, sub)
        async with http.delete(f"/v1/sessions/{session}") as answer:
            if answer.status != 204:
                self.told.wrong.append(f"{session} was not deleted: {answer.status} {await answer.text()}")
        for page in opened:
            page.forget(session)

    async def _answered(self, http: aiohttp.ClientSession, session: str, ended: asyncio.Future[Told]) -> None:
        """Wait for the end, by the page or, where that has gone, by asking; and look at the text."""
        while True:
            await asyncio.wait([ended], timeout=2.0)
            async with http.get(f"/v1/sessions/{session}/messages") as answer:
                messages = (await answer.json())["messages"]
            said = [message for message in messages if message["role"] == "assistant"]
            if said and said[-1]["status"] == "completed":
                break
            if ended.done():
                await asyncio.sleep(0.5)
        text = "".join(message["content"] for message in said)
        if text != whole():
            self.told.wrong.append(f"{session} has {text!r}")
        self.told.answers += 1

    async def _every(self, seconds: float, until: float, do: Callable[[], Awaitable[None]]) -> None:
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(seconds, left))
            if time.monotonic() < until:
                await do()

    async def _new_page(self) -> None:
        number = next(self._number)
        self._pages.append(await self._browsers.start(self._gateway, f"user:u{number % PAGES}", f"d{number}"))

    async def _replace_page(self) -> None:
        """Open a page, and have the oldest leave when nothing that it has begun is under way."""
        await self._new_page()
        page = self._pages.pop(0)
        async with asyncio.timeout(2 * _PATIENCE_S):
            async with self._freed:
                await self._freed.wait_for(lambda: self._busy[page] <= 0)
        del self._busy[page]
        await page.leave()
        self.told.pages += 1

    async def _replace_agent(self) -> None:
        await asyncio.to_thread(self._agents.replace_oldest)
        self.told.kills += 1

"""From a token's publish until `useChat` has rendered it, against the AI SDK's own stream from a plain Node server.

One page with the AI SDK's real packages in a real Chromium on either side, the same tokens at the same pace. Theirs: a
process of Node writes them to the page's response, and forgets them. Ours: an agent says them, the broker stores them,
and the gateway streams them. Either server has a core to itself; browser, agent and broker share the other.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
from playwright.async_api import Browser, async_playwright
from session_fabric import AgentRun, Fabric
from session_fabric.words.names import new_id

from bench.gateway import stop
from bench.plan import Plan
from bench.report import Row, middle, percentile
from bench.stage import SERVING_CORE, Stage, pin

_ROOT: Final = Path(__file__).parents[2]
_SOURCES: Final = _ROOT / "bench" / "frameworks"
_PACKAGES: Final = _ROOT / "tests" / "dialects" / "node"
_CLIENT: Final = _ROOT / "clients" / "typescript" / "src"
_TOKENS: Final = 400
# A pace of models; and an agent's own window of 20 ms does not join two tokens.
_EVERY_S: Final = 0.025
# The first tokens warm up the page.
_WARM_UP: Final = 20
_PLAIN: Final = "plain"
_WIRES: Final = {
    "http": "a token's publish until useChat has rendered it, p50",
    "websocket": "  over a WebSocket",
    "fabric": "  with our own transport",
}
_FLAGS: Final = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


def measure(plan: Plan) -> list[Row]:
    late: dict[str, list[list[float]]] = {side: [] for side in (_PLAIN, *_WIRES)}
    with tempfile.TemporaryDirectory(prefix="sf-bench-") as directory:
        site = Path(directory)
        _bundle(site)
        with Stage(access=["--insecure", "--demo", str(site / "page")]) as stage, _plain_server(site) as plain:
            ours = f"http://127.0.0.1:{stage.gateway_port}"
            stage.run(_measured(plan, stage.url, {_PLAIN: plain, **dict.fromkeys(_WIRES, ours)}, late))
    theirs = [percentile(each, 0.5) for each in late[_PLAIN]]
    return [_row(wire, late[wire], late[_PLAIN], theirs) for wire in _WIRES]


def _row(wire: str, ours: list[list[float]], plain: list[list[float]], theirs: list[float]) -> Row:
    p50 = [percentile(each, 0.5) for each in ours]
    far, far_there = (middle([percentile(each, 0.99) for each in some]) for some in (ours, plain))
    pace = f"{len(ours[0])} tokens, one each {_EVERY_S * 1000:g} ms"
    return Row(
        _WIRES[wire],
        f"{middle(p50):.2f} ms",
        f"{middle(theirs):.2f} ms (AI SDK's server)",
        middle([one / other for one, other in zip(p50, theirs, strict=True)]),
        1.5 if wire == "http" else None,
        "less",
        notes=f"p99 {far:.2f} ms against {far_there:.2f} ms; {pace}",
    )


async def _measured(plan: Plan, nats: str, sides: dict[str, str], late: dict[str, list[list[float]]]) -> None:
    tokens = _WARM_UP + plan.scaled(_TOKENS)
    async with Fabric.connect(nats, participant="agent:clock") as fabric, async_playwright() as playwright:
        agent = fabric.agent()(_tell)
        serving = asyncio.create_task(agent.serve())
        browser = await playwright.chromium.launch(executable_path=_chromium(), args=_FLAGS)
        for number in range(plan.rounds):
            for side in list(sides) if number % 2 == 0 else list(sides)[::-1]:
                late[side].append((await _page(browser, sides[side], side, tokens))[_WARM_UP:])
        await browser.close()
        agent.stop()
        await serving


async def _tell(run: AgentRun) -> None:
    """Say the time so many times, evenly."""
    begun = time.perf_counter()
    for number in range(int(run.input.text)):
        await asyncio.sleep(max(0.0, begun + number * _EVERY_S - time.perf_counter()))
        await run.text(f"{time.time_ns() // 1000:017d} ")


async def _page(browser: Browser, url: str, wire: str, tokens: int) -> list[float]:
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(f"{url}/#wire={wire}&chat={new_id('bench-')}")
    said: dict[str, Any] = await page.evaluate("tokens => measure(tokens)", tokens)
    await context.close()
    if said["error"] is not None or len(said["late"]) != tokens:
        raise RuntimeError(f"{wire}: {len(said['late'])} of {tokens} tokens were rendered: {said['error']}")
    return list(said["late"])


def _chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise RuntimeError("Chromium is missing: apt-get install chromium")


def _bundle(site: Path) -> None:
    """Bundle the page and the plain server with the packages that the tests have."""
    if not (_PACKAGES / "node_modules").is_dir():
        subprocess.run(["npm", "ci", "--silent"], cwd=_PACKAGES, check=True)
    esbuild = [str(_PACKAGES / "node_modules" / ".bin" / "esbuild"), "--bundle", "--format=esm", "--log-level=error"]
    environment = {**os.environ, "NODE_PATH": str(_PACKAGES / "node_modules")}
    page = ["--minify", "--jsx=automatic", '--define:process.env.NODE_ENV="production"']
    page += [f"--alias:@session-fabric/client={_CLIENT / 'index.ts'}"]
    page += [f"--alias:@session-fabric/client/ai-sdk={_CLIENT / 'ai-sdk' / 'index.ts'}"]
    for source, target, options in (
        ("page.jsx", site / "page" / "page.js", page),
        ("server.mjs", site / "server.mjs", ["--platform=node"]),
    ):
        command = [*esbuild, str(_SOURCES / source), f"--outfile={target}", *options]
        subprocess.run(command, env=environment, check=True)
    html = '<!doctype html><body></body><script type="module" src="page.js"></script>'
    (site / "page" / "index.html").write_text(html)


@contextmanager
def _plain_server(site: Path) -> Iterator[str]:
    """Run the AI SDK's own side; yields its URL."""
    process = psutil.Popen(
        ["node", str(site / "server.mjs"), str(site / "page")],
        env={**os.environ, "EVERY_MS": str(_EVERY_S * 1000)},
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        url = str(json.loads(process.stdout.readline())["url"])
        pin(process.pid, SERVING_CORE)
        yield url
    finally:
        stop(process)

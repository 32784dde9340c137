"""The guide to what happened in a session, followed command by command."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

import pytest
from session_fabric import Fabric
from session_fabric.run import RunFailed
from session_fabric_cli.main import run

from tests.docs.pages import ROOT, Fence, fences, label, says
from tests.support.servers import NatsNode, wait_until
from tests.support.sessions import said

PAGE = ROOT / "docs/guides/inspecting.md"


async def at_three_in_the_morning(url: str) -> None:
    async with Fabric.connect(url, tenant="acme", participant="agent:helper", streams=4) as fabric:
        session = fabric.session("chat-42")
        user = fabric.view(participant="user:ada").session("chat-42")
        await user.create({"team": "red"})
        asked = await user.append(said("Where is my order?"))
        async with session.run("r1") as first:
            await first.text("It is on its way.")
        with pytest.raises(RunFailed):
            async with session.run("r2") as second:
                await second.text("Let me look")
                raise RunFailed("The order is gone.")
        await user.append({**said("And my refund?", "m2"), "pool": "support"})
        # The first one was answered by hand, and no pool's.
        await (
            fabric.view(participant="service:shop")
            .session("chat-42")
            .append_own(
                {"type": "message.steered", "input": str(asked.offset), "message": "m1", "run": "r1"}, id="settled"
            )
        )


@pytest.fixture
async def own(own_server: NatsNode) -> NatsNode:
    await asyncio.wait_for(at_three_in_the_morning(own_server.url), 60)
    return own_server


def test_the_guide_is_true(
    own: NatsNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SESSION_FABRIC_NATS", own.url)
    monkeypatch.setenv("SESSION_FABRIC_TENANT", "acme")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    steps = [fence for fence in fences(PAGE) if fence.language == "sh"]
    assert len(steps) >= 6
    for step in steps:
        assert step.output is not None
        shown: list[str] = []

        def is_true(step: Fence = step, shown: list[str] = shown) -> bool:
            """Run the command; what has waited for a moment only is not complained of yet."""
            _, *arguments = shlex.split(step.text)
            status = run(arguments)
            out, err = capsys.readouterr()
            assert (status == 0) is (step.words != ("fails",)), f"{label(PAGE)}, line {step.line}: {err}"
            shown[:] = ["".join(f"{line.rstrip()}\n" for line in (out or err).splitlines())]
            return says(shown[0], step.output or "")

        try:
            wait_until(is_true, f"{label(PAGE)}, line {step.line}", 20.0)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{shown[0] if shown else ''}") from error

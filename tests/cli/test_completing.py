"""What a shell gets at <TAB>: from the process that it really starts."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from session_fabric import Fabric

from tests.support.servers import NatsNode

Tab = Callable[..., list[str]]


@pytest.fixture
def environment(shared_server: NatsNode, tenant: str, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path),
        "SESSION_FABRIC_NATS": shared_server.url,
        "SESSION_FABRIC_TENANT": tenant,
    }


@pytest.fixture
def tab(environment: dict[str, str]) -> Tab:
    """Return what bash is told at the end of a line, and that nothing was said on stderr."""

    def completed(*words: str, **more: str) -> list[str]:
        line = {"COMP_WORDS": shlex.join(words).replace("''", ""), "COMP_CWORD": str(len(words) - 1)}
        asked = {"_FABRICCTL_COMPLETE": "complete_bash", **line}
        done = subprocess.run(
            ["fabricctl"], env=environment | asked | more, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    return completed


async def make(url: str, tenant: str, *names: str) -> None:
    async with Fabric.connect(url, tenant=tenant, participant="agent:a") as fabric:
        for name in names:
            await fabric.session(name).create()


def test_commands_and_options_are_completed(tab: Tab) -> None:
    assert tab("fabricctl", "session", "sh") == ["show"]
    assert "--nats" in tab("fabricctl", "session", "show", "--")


async def test_names_of_sessions_are_completed_by_how_they_begin(
    tab: Tab, shared_server: NatsNode, tenant: str
) -> None:
    await make(shared_server.url, tenant, "chat-1", "other", "chat-2")
    await make(shared_server.url, f"{tenant}-b", "chat-of-b")
    for command in (("show",), ("tail",), ("delete",), ("runs",), ("state", "get"), ("export",)):
        assert await asyncio.to_thread(tab, "fabricctl", "session", *command, "ch") == ["chat-2", "chat-1"]
    of_b = ("fabricctl", "session", "show", "--tenant", f"{tenant}-b", "")
    assert await asyncio.to_thread(tab, *of_b) == ["chat-of-b"]
    assert await asyncio.to_thread(tab, "fabricctl", "retention", "show", "--session", "o") == ["other"]


async def test_no_more_names_are_told_than_somebody_reads(tab: Tab, shared_server: NatsNode, tenant: str) -> None:
    await make(shared_server.url, tenant, *[f"chat-{number}" for number in range(60)])
    told = await asyncio.to_thread(tab, "fabricctl", "session", "show", "chat-")
    assert told == [f"chat-{number}" for number in range(59, 9, -1)]  # those that changed last
    assert await asyncio.to_thread(tab, "fabricctl", "session", "show", "chat-0") == ["chat-0"]


async def test_documents_of_the_session_on_the_line_are_completed(
    tab: Tab, shared_server: NatsNode, tenant: str
) -> None:
    async with Fabric.connect(shared_server.url, tenant=tenant, participant="agent:a") as fabric:
        session = fabric.session("chat")
        await session.create()
        for name in ("plan", "prices", "notes"):
            await session.state(name).put({"of": name})
    assert await asyncio.to_thread(tab, "fabricctl", "session", "state", "get", "chat", "p") == ["plan", "prices"]
    assert await asyncio.to_thread(tab, "fabricctl", "session", "state", "get", "chat", "_t") == ["_tools"]
    assert await asyncio.to_thread(tab, "fabricctl", "session", "state", "get", "nobody", "p") == []


def test_contexts_are_completed_and_their_broker_is_asked(
    tab: Tab, environment: dict[str, str], shared_server: NatsNode, tenant: str
) -> None:
    asyncio.run(make(shared_server.url, tenant, "chat"))
    here = environment | {"SESSION_FABRIC_NATS": "", "SESSION_FABRIC_TENANT": ""}
    made = ["fabricctl", "context", "set", "production", "--nats", shared_server.url, "--tenant", tenant]
    subprocess.run(made, env=here, capture_output=True, timeout=60, check=True)
    assert tab("fabricctl", "context", "use", "pro") == ["production"]
    nowhere = {"SESSION_FABRIC_NATS": "nats://127.0.0.1:9", "SESSION_FABRIC_TENANT": ""}
    assert tab("fabricctl", "session", "show", "--context", "production", "c", **nowhere) == ["chat"]


def test_a_broker_that_is_not_there_is_passed_over_in_silence(tab: Tab) -> None:
    assert tab("fabricctl", "session", "show", "c", SESSION_FABRIC_NATS="nats://127.0.0.1:9") == []
    assert tab("fabricctl", "session", "show", "--context", "none", "c") == []
    assert tab("fabricctl", "session", "show", "c", SESSION_FABRIC_NATS_CREDENTIALS="/nonexistent") == []


def test_a_broker_that_says_nothing_is_not_waited_for(tab: Tab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
        assert tab("fabricctl", "session", "show", "c", SESSION_FABRIC_NATS=url) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_completion_prints_works_in_the_shell(
    shell: str, environment: dict[str, str], shared_server: NatsNode, tenant: str
) -> None:
    asyncio.run(make(shared_server.url, tenant, "chat-1"))
    script = subprocess.run(
        ["fabricctl", "completion", shell], env=environment, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert f"complete_{shell}" in script
    line = "fabricctl session show ch"
    # zsh and fish are not everywhere: they are asked for as their scripts do.
    if shell == "bash":
        assert shutil.which("bash")
        words = f"COMP_WORDS=({line}); COMP_CWORD=3; _fabricctl_completion fabricctl; echo ${{COMPREPLY[@]}}"
        command, asked = ["bash", "-c", f"{script}\n{words}"], {}
    else:
        command, asked = ["fabricctl"], {"_FABRICCTL_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line}
        asked |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(command, env=environment | asked, capture_output=True, text=True, timeout=60, check=True)
    assert ("chat-1" in done.stdout, done.stderr) == (True, "")

"""The image as an operator runs it: a user of no name, nothing writable, no capabilities."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import jwt
import pytest
from session_fabric import Fabric

from tests.gateway.sockets import greeted, user_message
from tests.support.containers import RESTRICTED, Container, build, container, docker
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]
SECRET = "of thirty-two bytes and a few more"
START_S = 60.0


@pytest.fixture
def broker_container(nats_image: str) -> Iterator[Container]:
    with container(nats_image, *RESTRICTED, "--tmpfs=/data:uid=65532") as one:
        yield one


@contextmanager
def gateway(image: str, broker: Container, *options: str) -> Iterator[Container]:
    settings = (f"--env=SESSION_FABRIC_NATS=nats://{broker.address}:4222", f"--env=SESSION_FABRIC_DEV_SECRET={SECRET}")
    with container(image, *RESTRICTED, *settings, *options) as one:
        yield one


def token() -> str:
    return jwt.encode({"sub": "user:ada", "tenant": "acme", "exp": int(time.time()) + 600}, SECRET)


async def test_a_session_goes_through_it_and_sigterm_drains_it(image: str, broker_container: Container) -> None:
    with gateway(image, broker_container, "--env=SESSION_FABRIC_DRAIN_S=3") as one:
        await eventually(lambda: one.health == "healthy", START_S, every_s=0.2)
        async with greeted(f"http://{one.address}:8080", token()) as ada:
            await ada.open("chat")
            assert (await ada.append("chat", user_message("hello"), id="e1"))["op"] == "appended"
            async with (
                Fabric.connect(
                    f"nats://{broker_container.address}:4222",
                    tenant="acme",
                    participant="agent:helper",
                    provision=False,
                ) as fabric,
                fabric.session("chat").run() as run,
            ):
                await run.text("Welcome.")
            await ada.until_events(lambda events: any(e["type"] == "message.completed" for e in events))
            docker("kill", "--signal", "TERM", one.id)
            assert (await ada.op("moved"))["after_ms"] <= 3000
            assert await ada.closed() == 1001
        await eventually(lambda: not one.state["Running"], START_S, every_s=0.2)
        assert one.state["ExitCode"] == 0, one.logs()


async def test_it_turns_unhealthy_without_its_broker(image: str, broker_container: Container) -> None:
    with gateway(image, broker_container) as one:
        await eventually(lambda: one.health == "healthy", START_S, every_s=0.2)
        docker("kill", broker_container.id)
        await eventually(lambda: one.health == "unhealthy", START_S, every_s=0.2)
        assert one.state["Running"]


async def test_several_workers_need_a_directory_for_what_passes(image: str, broker_container: Container) -> None:
    with gateway(image, broker_container, "--tmpfs=/tmp", "--env=SESSION_FABRIC_WORKERS=2") as one:
        await eventually(lambda: one.health == "healthy", START_S, every_s=0.2)
        async with greeted(f"http://{one.address}:8080", token()) as ada:
            await ada.open("chat")


def test_fabricctl_is_the_same_image(image: str, broker_container: Container) -> None:
    at = f"--env=SESSION_FABRIC_NATS=nats://{broker_container.address}:4222"
    made = docker("run", "--rm", *RESTRICTED, at, image, "fabricctl", "stream", "provision", "--streams", "2")
    assert made == "Provisioned: SESSIONS-00, SESSIONS-01."
    listed = json.loads(docker("run", "--rm", *RESTRICTED, at, image, "fabricctl", "stream", "ls", "-o", "json"))
    assert [row["stream"] for row in listed] == ["SESSIONS-00", "SESSIONS-01"]


def test_wrong_settings_end_it_with_a_sentence(image: str) -> None:
    ended = docker("run", "--rm", *RESTRICTED, image, check=False)
    assert "Nothing says who may come in" in ended
    assert "Traceback" not in ended


def test_it_is_nobodys_and_holds_nothing_to_build_with(image: str) -> None:
    config = json.loads(docker("inspect", "--format", "{{json .Config}}", image))
    assert config["User"] == "65532:65532"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    site = "import sysconfig, os; print(*sorted(os.listdir(sysconfig.get_path('purelib'))))"
    inside = docker("run", "--rm", "--network=none", *RESTRICTED, image, "python3", "-c", site).split()
    assert "session_fabric_gateway" in inside
    assert {"pip", "setuptools", "hatchling", "pytest"} & set(inside) == set()


def test_what_is_built_twice_is_the_same(image: str) -> None:
    again = build("deploy/Dockerfile", "session-fabric:again", "--no-cache")
    layers = [json.loads(docker("inspect", "--format", "{{json .RootFS.Layers}}", tag)) for tag in (image, again)]
    assert layers[0] == layers[1]

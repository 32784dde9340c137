"""Three brokers and two gateways on one machine: what compose.yaml says is understood, and outlives a gateway."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import yaml

from tests.gateway.sockets import greeted, user_message
from tests.support.containers import ROOT, base_image, build, docker
from tests.support.servers import free_port, nats_server_binary
from tests.support.waiting import eventually

BIN: Final = Path(sys.executable).parent
# What can be run where nothing can be pulled.
RUN: Final = ("nats-1", "nats-2", "nats-3", "provision", "gateway-1", "gateway-2", "proxy")
PROXY: Final = """ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends haproxy >/dev/null
USER 65532:65532
"""


def prepared(directory: Path) -> Path:
    """Return a copy of deploy/ with keys in it."""
    there = directory / "deploy"
    shutil.copytree(ROOT / "deploy", there, ignore=shutil.ignore_patterns("secrets", ".env"))
    done = subprocess.run([there / "prepare", BIN / "fabricctl"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return there


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("compose"))


def test_what_prepare_makes_is_its_owners_and_stays(deployment: Path) -> None:
    assert (deployment / "secrets").stat().st_mode & 0o777 == 0o700
    assert (deployment / ".env").stat().st_mode & 0o777 == 0o600
    assert (deployment / "secrets/signing.json").stat().st_mode & 0o777 == 0o600
    files = [file for file in deployment.glob("secrets/**/*") if file.is_file()] + [deployment / ".env"]
    before = {file: file.read_bytes() for file in files}
    subprocess.run([deployment / "prepare", BIN / "fabricctl"], capture_output=True, check=True)
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize("config", ["single.conf", "cluster.conf"])
def test_nats_server_takes_the_configurations(deployment: Path, config: str) -> None:
    shutil.copy(deployment / "secrets/fabric.conf", deployment / "nats/fabric.conf")
    told = {"NATS_NAME": "n1", "ROUTE_PASSWORD": "p1"} | {f"ROUTE_{n}": f'"nats://r:p1@n{n}:6222"' for n in (1, 2, 3)}
    done = subprocess.run(
        [nats_server_binary(), "-t", "-c", deployment / "nats" / config],
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_file_that_compose_mounts_is_there(deployment: Path) -> None:
    page = yaml.safe_load((deployment / "compose.yaml").read_text())
    sources = [secret["file"] for secret in page["secrets"].values()]
    for service in page["services"].values():
        sources += [v.split(":")[0] for v in service.get("volumes", []) if v.startswith(".")]
    assert [source for source in sources if not (deployment / source).exists()] == []


def test_whatever_compose_runs_may_do_little(deployment: Path) -> None:
    page = yaml.safe_load((deployment / "compose.yaml").read_text())
    for name, service in page["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


@dataclass
class Composed:
    directory: Path
    environment: dict[str, str]
    port: int

    def __call__(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            ["docker-compose", "-p", f"sf{self.port}", "-f", str(self.directory / "compose.yaml"), *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def composed(
    deployment: Path, image: str, nats_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Composed]:
    assert base_image()
    context = tmp_path_factory.mktemp("proxy")
    (context / "Dockerfile").write_text(PROXY)
    proxy = build(str(context / "Dockerfile"), "session-fabric-proxy:local", directory=context)
    port = free_port()
    images = {"SESSION_FABRIC_IMAGE": image, "NATS_IMAGE": nats_image, "HAPROXY_IMAGE": proxy}
    compose = Composed(deployment, {**images, "SESSION_FABRIC_PORT": str(port)}, port)
    try:
        compose("up", "-d", *RUN)
        yield compose
    finally:
        compose("down", "--volumes", "--timeout", "1", check=False)


def token(deployment: Path) -> str:
    key = deployment / "secrets/signing.json"
    mint = [BIN / "fabricctl", "token", "mint", "--key", key, "--sub", "user:ada", "--tenant", "default"]
    return subprocess.run(mint, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compose_understands_all_of_it(composed: Composed) -> None:
    page: dict[str, Any] = yaml.safe_load(composed("--profile", "demo", "config"))
    assert set(RUN) | {"prometheus", "grafana", "agent"} == set(page["services"])


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_session_outlives_the_gateway_that_it_came_through(composed: Composed) -> None:
    url, ada_is = f"http://127.0.0.1:{composed.port}", token(composed.directory)

    async def ready() -> bool:
        try:
            async with aiohttp.ClientSession() as http, http.get(f"{url}/readyz") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, ConnectionError):
            return False

    await eventually(ready, 240, every_s=0.5)
    for number in range(2):
        async with greeted(url, ada_is) as ada:
            await ada.open("chat")
            assert (await ada.append("chat", user_message(f"m{number}", f"m{number}"), id=f"e{number}"))[
                "op"
            ] == "appended"
            if number == 0:
                (first,) = composed("ps", "-q", "gateway-1").split()
                docker("kill", first)

                async def again() -> bool:
                    try:
                        async with greeted(url, ada_is) as eve:
                            await eve.open("chat")
                            return True
                    except (aiohttp.ClientError, ConnectionError, AssertionError):
                        return False

                await eventually(again, 60, every_s=0.2)
    async with greeted(url, ada_is) as ada:
        await ada.open("chat", after="start")
        events = await ada.until_events(lambda events: any(e.get("id") == "e1" for e in events), 30)
        assert [e["id"] for e in events if e["type"] == "message.user"] == ["e0", "e1"]


@pytest.mark.docker
def test_prometheus_is_told_where_the_gateways_are(composed: Composed) -> None:
    config = yaml.safe_load((composed.directory / "compose/prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    hosts = {target.split(":")[0] for static in job["static_configs"] for target in static["targets"]}
    assert hosts <= set(yaml.safe_load(composed("config"))["services"])

"""What the chart tells its containers is understood: real gateways, brokers and commands are started so."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import jwt
import pytest
from session_fabric import Fabric
from session_fabric.jetstream.server_config import accounts_config

from tests.deploy.combinations import CHOICES, merged
from tests.gateway.sockets import greeted, user_message
from tests.support.certificates import Authority
from tests.support.charts import Resource, Told, one, pod_of, rendered
from tests.support.containers import ROOT
from tests.support.natives import guarded_server
from tests.support.servers import die_with_parent, free_port
from tests.support.waiting import eventually

SECRET = "of thirty-two bytes and a few more"
START_S = 150.0
pytestmark = pytest.mark.timeout(900)


@asynccontextmanager
async def started(told: Told, log: Path) -> AsyncIterator[Process]:
    """Run what a container would, by this environment's programs; end it with the block."""
    binary = ROOT / ".venv/bin" / told.command[0]
    with log.open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            binary,
            *told.command[1:],
            stdout=PIPE,
            stderr=stderr,
            env={"PATH": os.environ["PATH"], "PYTHONWARNINGS": "error", **told.environment},
            preexec_fn=die_with_parent,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def said(log: Path) -> str:
    return log.read_text()


async def done(told: Told, log: Path) -> str:
    async with asyncio.timeout(START_S), started(told, log) as process:
        out, _ = await process.communicate()
    assert process.returncode == 0, said(log)
    return out.decode()


async def at(process: Process, log: Path) -> str:
    """Return where a gateway says that it is."""
    assert process.stdout is not None
    async with asyncio.timeout(START_S):
        line = (await process.stdout.readline()).decode()
    assert line.startswith("Session Fabric gateway at "), f"{line}{said(log)}"
    return line.split()[-1].replace("0.0.0.0", "127.0.0.1")


def gateway_of(resources: list[Resource]) -> Resource:
    container: Resource = pod_of(one(resources, "Deployment"))["containers"][0]
    return container


def token() -> str:
    return jwt.encode({"sub": "user:ada", "tenant": "default", "exp": int(time.time()) + 600}, SECRET)


def test_the_bundled_broker_has_the_accounts_of_every_other_broker_of_ours() -> None:
    config = one(rendered(None, "values-small.yaml"), "ConfigMap", "-nats")["data"]["nats.conf"]
    ours = [line.strip() for line in accounts_config(["{ user: fabric, password: $FABRIC_PASSWORD }"])]
    theirs = [line.strip() for line in config.splitlines()]
    assert theirs[theirs.index("accounts {") :] == ours


async def test_a_gateway_takes_all_that_the_chart_can_tell_it(tmp_path: Path) -> None:
    values = merged(
        CHOICES["broker"]["keys"],
        CHOICES["auth"]["keys"],
        CHOICES["auth"]["issuer"],
        CHOICES["auth"]["given"],
        CHOICES["saying"]["much"],
        {"encryption": {"existingSecret": ""}, "gateway": {"demoPage": False, "workers": 1}},
    )
    resources = rendered(values)
    async with guarded_server(tmp_path) as broker:
        keys = tmp_path / "signing.json"
        put = {
            "/etc/session-fabric/nats": str(broker.nkey.parent),
            "/etc/session-fabric/native-agents": str(broker.seeds.parent),
            "/etc/session-fabric/token-keys/signing.public.json": str(tmp_path / "signing.public.json"),
            "/etc/session-fabric/dev-secret": str(tmp_path),
            "/etc/session-fabric/jwks-ca/ca.crt": str(Authority(tmp_path, "issuer").file),
            "nats://a:4222,nats://b:4222": broker.server.url,
            "nats://nats:4222": broker.server.url,
            "--port=8080": "--port=0",
            "--admin-port=9090": "--admin-port=0",
        }
        (tmp_path / "secret").write_text(SECRET)
        await done(Told(["fabricctl", "token", "keygen", str(keys)], {}), tmp_path / "log")
        made = await done(Told.of(pod_of(one(resources, "Job"))["containers"][0], put=put), tmp_path / "provision.log")
        assert "SESSIONS-15" in made
        log = tmp_path / "gateway.log"
        async with started(Told.of(gateway_of(resources), put=put), log) as process:
            assert await at(process, log)


async def test_a_broker_of_three_is_provisioned_serves_and_drains(tmp_path: Path) -> None:
    resources = rendered(
        {"nats": {"bundled": {"replicas": 3}}, "provisioning": {"streams": 1}, "gateway": {"drainSeconds": 1}},
        "values-small.yaml",
    )
    stateful, config = one(resources, "StatefulSet"), one(resources, "ConfigMap", "-nats")
    name, container = stateful["metadata"]["name"], pod_of(stateful)["containers"][0]
    secrets = {(f"{name}-auth", "password"): "p123456e7", (f"{name}-auth", "route-password"): "r123456e7"}
    ports = {at: (free_port(), free_port(), free_port()) for at in range(3)}
    hosts = {f"{name}-{at}.{name}-nodes:6222": f"127.0.0.1:{ports[at][1]}" for at in ports}

    def node(at: int) -> tuple[Told, Path]:
        home = tmp_path / f"n{at}"
        home.mkdir()
        client, route, monitor = ports[at]
        text = config["data"]["nats.conf"]
        for was, here in {
            '"0.0.0.0:4222"': f'"127.0.0.1:{client}"',
            '"0.0.0.0:6222"': f'"127.0.0.1:{route}"',
            '"0.0.0.0:8222"': f'"127.0.0.1:{monitor}"',
            "/data": str(home / "data"),
            "/run/nats": str(home),
        }.items():
            assert was in text
            text = text.replace(was, here)
        (home / "nats.conf").write_text(text)
        put = hosts | {"/etc/nats/nats.conf": str(home / "nats.conf"), "/run/nats": str(home)}
        return Told.of(container, secrets=secrets, fields={"metadata.name": f"{name}-{at}"}, put=put), home

    nodes = {at: node(at) for at in ports}
    url = ",".join(f"nats://127.0.0.1:{client}" for client, _, _ in ports.values())
    put = {
        f"nats://{name}:4222": url,
        "--port=8080": "--port=0",
        "--admin-port=9090": "--admin-port=0",
        "/etc/session-fabric/dev-secret": str(tmp_path),
    }
    (tmp_path / "secret").write_text(SECRET)
    job = Told.of(pod_of(one(resources, "Job"))["containers"][0], secrets=secrets, put=put)
    async with (
        started(nodes[0][0], nodes[0][1] / "log") as leaving,
        started(nodes[1][0], nodes[1][1] / "log"),
        started(nodes[2][0], nodes[2][1] / "log"),
    ):

        async def provisioned() -> bool:
            async with asyncio.timeout(START_S), started(job, tmp_path / "provision.log") as process:
                await process.communicate()
            return process.returncode == 0

        await eventually(provisioned, 400)
        log = tmp_path / "gateway.log"
        async with started(Told.of(gateway_of(resources), secrets=secrets, put=put), log) as gateway:
            async with greeted(await at(gateway, log), token()) as ada:
                await ada.open("chat")
                assert (await ada.append("chat", user_message("one"), id="e1"))["op"] == "appended"
                # As kubelet ends a pod: the command of the chart, then SIGTERM, which takes it longer than the broker
                # takes to see the command's signal. It goes at its own pace.
                hook = container["lifecycle"]["preStop"]["exec"]["command"]
                here = {"/run/nats": str(nodes[0][1])}
                await done(Told.of({"command": hook}, put=here), tmp_path / "hook.log")
                await eventually(lambda: "Entering lame duck mode" in said(nodes[0][1] / "log"))
                leaving.send_signal(signal.SIGTERM)

                async def stored() -> bool:
                    return bool((await ada.append("chat", user_message("two"), id="e2"))["op"] == "appended")

                await eventually(stored, START_S)
                async with asyncio.timeout(90):
                    await leaving.wait()
                assert (await ada.append("chat", user_message("three"), id="e3"))["op"] == "appended"
            gateway.send_signal(signal.SIGTERM)
            async with asyncio.timeout(START_S):
                assert await gateway.wait() == 0
        async with Fabric.connect(
            url.replace("nats://", "nats://fabric:p123456e7@"), tenant="default", participant="service:test"
        ) as fabric:
            page = await fabric.session("chat").history(limit=100)
            assert [e.id for e in page.events if e.type == "message.user"] == ["e1", "e2", "e3"]

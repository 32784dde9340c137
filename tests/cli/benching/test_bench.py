"""`fabricctl bench` as a process, on a real broker and a real gateway; it leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from session_fabric import Fabric

from tests.gateway.processes import gateway_process
from tests.support.servers import NatsNode
from tests.support.waiting import eventually

SECRET = "a secret of thirty-two bytes or more, for tests alone"
SHORT = ("--seconds", "1", "--sessions", "3", "--rate", "20")


class Ctl:
    def __init__(self, url: str, tenant: str, home: Path) -> None:
        places = {"XDG_CONFIG_HOME": str(home), "XDG_DATA_HOME": str(home)}
        self.environment = {**os.environ, **places, "SESSION_FABRIC_NATS": url, "SESSION_FABRIC_TENANT": tenant}
        self.environment.pop("SESSION_FABRIC_TOKEN", None)

    def begin(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "session_fabric_cli", "bench", *arguments]
        environment = {**self.environment, **more}
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )

    async def bench(self, *arguments: str, **more: str) -> tuple[int, str, str]:
        process = self.begin(*arguments, **more)
        out, err = await asyncio.to_thread(process.communicate, timeout=90)
        assert "Traceback" not in err
        return process.returncode, out, err


@pytest.fixture
def ctl(eve: Fabric, shared_server: NatsNode, tenant: str, tmp_path: Path) -> Ctl:
    return Ctl(shared_server.url, tenant, tmp_path)  # `eve` has made what is needed at the broker


@pytest.fixture
async def eve(shared_server: NatsNode, tenant: str) -> Any:
    async with Fabric.connect(shared_server.url, tenant=tenant, participant="operator:eve") as fabric:
        yield fabric


def token(tenant: str, participant: str = "user:ada") -> str:
    return jwt.encode({"sub": participant, "tenant": tenant, "exp": int(time.time()) + 600}, SECRET, algorithm="HS256")


async def names(fabric: Fabric) -> list[str]:
    return [record.session for record in (await fabric.sessions()).records]


async def test_all_that_is_written_comes_back_and_nothing_is_left(ctl: Ctl, eve: Fabric) -> None:
    status, out, err = await ctl.bench(*SHORT, "-o", "json")
    told = json.loads(out)
    assert status == 0, err
    assert told["load"] == {"sessions": 3, "seconds": 1, "rate": 20.0, "size": 200}
    (way,) = told["ways"]
    assert (way["through"], way["planned"], way["missing"]) == ("broker", 60, 0)
    assert 0 < way["append_ms"]["p50"] <= way["append_ms"]["p99"] <= way["append_ms"]["max"]
    assert 0 < way["delivery_ms"]["p50"] <= way["delivery_ms"]["p99"] <= way["delivery_ms"]["max"]
    # session.created, the one that opens both ways, and what was measured
    assert way["catch_up"]["events"] == way["appended"] + 2 * 3
    assert await names(eve) == []


async def test_a_gateway_is_measured_beside_the_broker(ctl: Ctl, eve: Fabric, tenant: str, tmp_path: Path) -> None:
    url = ctl.environment["SESSION_FABRIC_NATS"]
    async with gateway_process(url, tmp_path, "--dev-secret", SECRET) as gateway:
        shown = {"SESSION_FABRIC_TOKEN": token(tenant)}
        status, out, err = await ctl.bench(*SHORT, "--gateway", gateway.url, "-o", "json", **shown)
        assert status == 0, err
        ways = json.loads(out)["ways"]
        assert [(way["through"], way["planned"], way["missing"]) for way in ways] == [
            ("broker", 60, 0),
            ("gateway", 60, 0),
        ]
        assert ways[1]["catch_up"]["events"] >= ways[1]["appended"] + 2 * 3
        assert await names(eve) == []
        for arguments, status, said in (
            (["--gateway", gateway.url], 4, "No token was given"),
            (["--gateway", gateway.url, "--token", token("elsewhere")], 2, "The token is of tenant elsewhere"),
            (
                ["--gateway", gateway.url, "--token", token(tenant), "--sessions", "31"],
                2,
                "lets user:ada write at most",
            ),
            (["--gateway", "http://127.0.0.1:9"], 5, "cannot be reached: connection refused.\n  Is --gateway right"),
            (["--gateway", f"{gateway.url}/elsewhere"], 5, "takes no WebSocket there, and answers 404."),
        ):
            left, out, err = await ctl.bench(*arguments)
            assert (left, out) == (status, ""), err
            assert said in err
            assert "Sessions bench-" not in err  # refused before anything was made


async def test_a_table_has_a_line_for_each_way(ctl: Ctl) -> None:
    status, out, err = await ctl.bench(*SHORT)
    assert status == 0, err
    heading, line = out.splitlines()
    assert heading.split("  ")[0] == "THROUGH"
    assert line.startswith("broker")
    assert "bench-" in err


async def test_ctrl_c_erases_what_was_made(ctl: Ctl, eve: Fabric) -> None:
    process = ctl.begin("--seconds", "600", "--sessions", "3")

    async def written() -> bool:
        found = await names(eve)
        return len(found) == 3 and (await eve.session(found[0]).head()).sequence > 0

    try:
        await eventually(written)
        os.killpg(process.pid, signal.SIGINT)
        out, err = await asyncio.to_thread(process.communicate, timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, ""), err
    assert "Traceback" not in err
    assert await names(eve) == []


async def test_where_the_broker_is_gone_what_is_left_is_told_and_not_waited_for(
    own_server: NatsNode, tenant: str, tmp_path: Path
) -> None:
    async with Fabric.connect(own_server.url, tenant=tenant, participant="operator:eve", streams=1) as eve:
        ctl = Ctl(own_server.url, tenant, tmp_path)
        process = ctl.begin("--seconds", "600", "--sessions", "60", "--timeout", "3s")
        try:
            await eventually(lambda: made(eve, 60), 30.0)
            own_server.kill()
            _, err = await asyncio.to_thread(process.communicate, timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1, err
    assert "Traceback" not in err
    assert "60 sessions could not be erased" in err
    assert "fabricctl session ls --label made-by=fabricctl-bench" in err


async def made(fabric: Fabric, count: int) -> bool:
    return len(await names(fabric)) == count


async def test_a_tenant_on_hold_is_not_measured_in(ctl: Ctl, eve: Fabric) -> None:
    await eve.hold("a case")
    status, _, err = await ctl.bench(*SHORT)
    assert (status, await names(eve)) == (1, [])
    assert "could not be erased" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seconds", "0"], "--seconds"),
        (["--sessions", "501"], "--sessions"),
        (["--rate", "0"], "--rate"),
        (["--size", "300000"], "--size"),
        (["--sessions", "100", "--rate", "30"], "3,000 events a second"),
        (["--seconds", "600", "--sessions", "100", "--size", "200000"], "GiB"),
    ],
)
async def test_a_load_that_makes_no_sense_is_refused(ctl: Ctl, arguments: list[str], said: str) -> None:
    status, out, err = await ctl.bench(*arguments)
    assert (status, out) == (2, "")
    assert said in err

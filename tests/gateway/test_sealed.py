"""A gateway that holds tenants' keys: its users read and write as ever, and the broker has none of it."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from session_fabric import Fabric
from session_fabric.census import gateways
from session_fabric.words.errors import InvalidRequest, KeyMissing
from session_fabric_cli.diagnosis import of_processes
from session_fabric_gateway.auth import now_ms
from structlog.testing import capture_logs

from tests.gateway.conftest import Start
from tests.gateway.sockets import greeted, user_message
from tests.support.servers import NatsNode
from tests.support.waiting import eventually

SECRET = "the treasure is under the oak"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"*": [{"id": "k1", "key": base64.b64encode(b"k" * 32).decode()}]}))
    return path


async def test_what_users_say_is_sealed_and_other_users_read_it(start: Start, keys: Path, agent: Fabric) -> None:
    async with start(encryption_keys=keys) as house, start() as without:
        async with greeted(house.url, house.token()) as ada, greeted(house.url, house.token("user:eve")) as eve:
            for one in (ada, eve):
                await one.open("s1", after="start")
                await one.op("live")
            await ada.append("s1", user_message(SECRET), id="e1")
            await ada.ask("state.put", session="s1", document="map", body={"where": SECRET})
            heard = await eve.until_events(lambda events: any(e["type"] == "message.user" for e in events))
            assert heard[-1]["body"]["message"]["content"] == SECRET
            assert (await eve.ask("state.get", session="s1", document="map"))["body"] == {"where": SECRET}
        async with greeted(house.url, house.token(), deltas="compact") as late:
            await late.open("s1", after="start")
            await late.until_events(lambda events: SECRET in str(events))
        with pytest.raises(KeyMissing):
            await agent.session("s1").history()
        async with greeted(without.url, without.token()) as blind:
            for op, fields in (("open", {}), ("append", {"event": {"id": "e2", "body": user_message("hello")}})):
                for session in ("s1", "new"):  # which it would make, to lie open beside what is sealed
                    refused = await blind.ask(op, session=session, **fields)
                    assert (refused["code"], refused["retryable"]) == ("key_missing", False)


@pytest.mark.parametrize("keys_first", [True, False])
async def test_gateways_of_which_some_hold_keys_say_so_in_the_log_and_to_who_asks(
    start: Start, own_server: NatsNode, keys: Path, keys_first: bool
) -> None:
    both: list[dict[str, Any]] = [{"encryption_keys": keys}, {}]
    first, later = both if keys_first else both[::-1]
    with capture_logs() as logs:
        async with start(nats=own_server.url, **first) as house:
            async with start(nats=own_server.url, **first):
                await eventually(_compared)
                assert [line for line in logs if line["event"] == "keys_are_not_everywhere"] == []
            async with start(nats=own_server.url, **later):
                await eventually(lambda: [line for line in logs if line["event"] == "keys_are_not_everywhere"])
                told = await gateways(house.gateway.fabric.broker)
    [line] = [line for line in logs if line["event"] == "keys_are_not_everywhere"]
    assert (line["log_level"], line["with_keys"], line["without"]) == ("warning", 1, 1)
    [found] = [finding for finding in of_processes(told, now_ms()) if finding.check == "encryption"]
    assert (found.level, found.found) == ("warn", "1 of 2 gateways have no tenants' keys")
    assert "--encryption-keys" in found.fix


def _compared() -> bool:
    return not [task for task in asyncio.all_tasks() if task.get_name() == "neighbours"]


async def test_a_gateway_whose_file_of_keys_is_none_does_not_start(start: Start, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        async with start(encryption_keys=tmp_path / "nothing.json"):
            pass

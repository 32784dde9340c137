"""A gateway that holds tenants' keys: its users read and write as ever, and the broker has none of it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from session_fabric import Fabric
from session_fabric.words.errors import InvalidRequest, KeyMissing

from tests.gateway.conftest import Start
from tests.gateway.sockets import greeted, user_message

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
                refused = await blind.ask(op, session="s1", **fields)
                assert (refused["code"], refused["retryable"]) == ("key_missing", False)


async def test_a_gateway_whose_file_of_keys_is_none_does_not_start(start: Start, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        async with start(encryption_keys=tmp_path / "nothing.json"):
            pass

"""What a participant writes down of what it has done: as itself, of now, beside what is written down already."""

from __future__ import annotations

import time

import orjson
import pytest
from session_fabric import audit
from session_fabric.records import Directory
from session_fabric.relay.own import Own
from session_fabric.rules.grants import parse
from session_fabric.words.errors import Forbidden
from session_fabric.words.names import escape
from session_fabric.words.packing import pack

from tests.security.relay_world import EVE, World


async def test_who_may_delete_says_so_as_itself_of_now_and_changes_nothing_that_stands(relayed_world: World) -> None:
    w = relayed_world
    directory = Directory(w.full.broker)
    await directory.open()
    rights = Own(w.a, EVE, parse({"mine": ["read", "erase"]}), directory)

    async def put(by: str, key: str, reason: str) -> None:
        value = orjson.dumps({"ts": 1, "by": by, "act": "session.deleted", "facts": {"reason": reason}})
        head = {"bucket": "sf-audit", "key": key, "ttl_s": 1}
        await w.relay.answer(rights, "bucket_put", pack(head, [value]))

    before = {acted.id for acted in await audit.acts(w.full.broker, w.a)}
    since = time.time_ns() // 1_000_000
    try:
        key = f"{escape(w.a)}.mine.0000000000000001-x"
        await put(EVE, key, "x")
        await put(EVE, key, "y")
        with pytest.raises(Forbidden):
            await put("user:ada", key, "x")
    finally:
        await directory.close()
    noted = [acted for acted in await audit.acts(w.full.broker, w.a) if acted.id not in before]
    assert [(acted.by, acted.session, acted.facts["reason"]) for acted in noted] == [
        (EVE, "mine", "x"),
        (EVE, "mine", "y"),
    ]
    assert all(acted.ts >= since for acted in noted)


async def test_an_act_whose_answer_was_lost_and_that_is_sent_again_is_there_once(relayed_world: World) -> None:
    w = relayed_world
    directory = Directory(w.full.broker)
    await directory.open()
    rights = Own(w.a, EVE, parse({"mine": ["read", "hold"]}), directory)
    value = orjson.dumps({"ts": 1, "by": EVE, "act": "session.held", "facts": {"hold": "h"}})
    request = pack({"bucket": "sf-audit", "key": f"{escape(w.a)}.mine.0000000000000001-z", "ttl_s": 1}, [value])
    try:
        first = await w.relay.answer(rights, "bucket_put", request)
        assert await w.relay.answer(rights, "bucket_put", request) == first
    finally:
        await directory.close()
    assert [acted.act for acted in await audit.acts(w.full.broker, w.a)].count("session.held") == 1


async def test_who_has_no_right_to_see_acts_is_refused_rather_than_told_of_none(relayed_world: World) -> None:
    """An audit that is made of them would seem to be whole."""
    w = relayed_world
    directory = Directory(w.full.broker)
    rights = Own(w.a, EVE, parse({"*": ["read", "erase", "hold"]}), directory)
    for head in ({"after": 0}, {"before": None, "limit": 10}):
        for prefix in ("", escape(w.a)):
            op = "bucket_entries" if "after" in head else "bucket_latest"
            with pytest.raises(Forbidden):
                await w.relay.answer(rights, op, pack({"bucket": "sf-audit", "key": prefix, **head}))


async def test_who_lets_a_dead_letter_go_says_so_where_it_may(relayed_world: World) -> None:
    w = relayed_world
    directory = Directory(w.full.broker)
    await directory.open()

    async def put(act: str, granted: str) -> None:
        rights = Own(w.a, EVE, parse({"mine": [granted]}), directory)
        value = orjson.dumps({"ts": 1, "by": EVE, "act": act, "facts": {"pool": "default", "run": granted}})
        head = {"bucket": "sf-audit", "key": f"{escape(w.a)}.mine.1-{granted}", "ttl_s": 1}
        await w.relay.answer(rights, "bucket_put", pack(head, [value]))

    try:
        for act, granted in (("dropped", "append"), ("dropped", "erase"), ("retried", "append")):
            await put(f"dead_letter.{act}", granted)
        for act, granted in (("dropped", "read"), ("retried", "erase")):
            with pytest.raises(Forbidden):
                await put(f"dead_letter.{act}", granted)
    finally:
        await directory.close()
    noted = [acted.act for acted in await audit.acts(w.full.broker, w.a) if acted.act.startswith("dead_letter.")]
    assert noted == ["dead_letter.dropped", "dead_letter.dropped", "dead_letter.retried"]

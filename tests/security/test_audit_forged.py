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

    async def put(by: str, key: str) -> None:
        value = orjson.dumps({"ts": 1, "by": by, "act": "session.deleted", "facts": {"reason": "x"}})
        head = {"bucket": "sf-audit", "key": key, "ttl_s": 1}
        await w.relay.answer(rights, "bucket_put", pack(head, [value]))

    before = {acted.id for acted in await audit.acts(w.full.broker, w.a)}
    since = time.time_ns() // 1_000_000
    try:
        key = f"{escape(w.a)}.mine.0000000000000001-x"
        await put(EVE, key)
        await put(EVE, key)
        with pytest.raises(Forbidden):
            await put("user:ada", key)
    finally:
        await directory.close()
    noted = [acted for acted in await audit.acts(w.full.broker, w.a) if acted.id not in before]
    assert [(acted.by, acted.session, acted.facts) for acted in noted] == [(EVE, "mine", {"reason": "x"})] * 2
    assert all(acted.ts >= since for acted in noted)


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

"""What agents keep of a session between their steps."""

from __future__ import annotations

import pytest
from session_fabric import Fabric, Session
from session_fabric.checkpoints import BUCKET, MOST_BYTES, PIECE_BYTES
from session_fabric.words.errors import TooLarge

from tests.support.sessions import KEYS, Fabrics


async def test_a_value_is_there_for_another_process_under_its_name(fabrics: Fabrics, session: Session) -> None:
    await session.checkpoints.put({("c", "", "one"): b"1"})
    await session.checkpoints.put({("c", "a|b:c", "ünï"): b"2"})
    other = (await fabrics.open("agent:other")).session(session.name)
    assert await other.checkpoints.get("c", "", "one") == b"1"
    assert await other.checkpoints.get("c", "", "two") is None
    assert [(e.name, e.value) for e in await other.checkpoints.entries("c")] == [
        (("c", "", "one"), b"1"),
        (("c", "a|b:c", "ünï"), b"2"),
    ]
    assert [e.name[-1] for e in await other.checkpoints.newest("c", limit=1)] == ["ünï"]
    assert await other.checkpoints.entries("c", "no") == []


async def test_a_value_of_any_size_is_there_whole(session: Session) -> None:
    large, larger = b"x" * (PIECE_BYTES + 1), b"y" * (3 * PIECE_BYTES)
    await session.checkpoints.put({("large",): large})
    assert await session.checkpoints.get("large") == large
    await session.checkpoints.put({("large",): larger})
    assert await session.checkpoints.get("large") == larger
    await session.checkpoints.add({("large",): large})
    assert await session.checkpoints.get("large") == larger
    assert [e.value for e in await session.checkpoints.entries()] == [larger]


async def test_nothing_is_left_of_what_was_removed_or_written_over(real: Fabric) -> None:
    session = real.session("chat-1")
    kept = session.checkpoints
    for size in (2 * PIECE_BYTES, 3 * PIECE_BYTES):
        await kept.put({("large",): b"x" * size, ("small",): b"1"})
    await kept.add({("large",): b"y" * (4 * PIECE_BYTES)})
    stored = await real.broker.bucket(BUCKET).entries(session.place.key())
    assert len(stored) == 2 + 3
    await kept.remove([("large",), ("none",)])
    assert [e.name for e in await kept.entries()] == [("small",)]
    await kept.clear()
    assert await real.broker.bucket(BUCKET).entries(session.place.key()) == []


async def test_add_leaves_what_is_there(session: Session) -> None:
    await session.checkpoints.add({("w", "0"): b"first"})
    await session.checkpoints.add({("w", "0"): b"second", ("w", "1"): b"other"})
    assert [e.value for e in await session.checkpoints.entries("w")] == [b"first", b"other"]


async def test_values_under_some_words_are_apart_from_others(session: Session) -> None:
    kept = session.checkpoints
    await kept.under("a").put({("one",): b"1", ("two",): b"2" * (PIECE_BYTES + 1)})
    await kept.under("b").put({("one",): b"3"})
    assert await kept.get("a", "one") == await kept.under("a").get("one") == b"1"
    assert [e.name for e in await kept.under("a").entries()] == [("one",), ("two",)]
    await kept.under("a").clear()
    assert [e.name for e in await kept.entries()] == [("b", "one")]


async def test_a_value_that_is_too_large_is_named_with_the_limit(session: Session) -> None:
    with pytest.raises(TooLarge, match=r"'c/one' has \d+ bytes; 67108864 is the most") as refused:
        await session.checkpoints.put({("c", "one"): bytes(MOST_BYTES + 1)})
    assert refused.value.facts["limit"] == MOST_BYTES


async def test_they_go_with_their_session_and_are_counted(session: Session) -> None:
    await session.checkpoints.put({("large",): b"x" * (2 * PIECE_BYTES)})
    erasure = await session.delete()
    assert erasure.before["checkpoints"] == 3
    assert erasure.complete
    await session.create()
    assert await session.checkpoints.get("large") is None


async def test_with_keys_the_broker_does_not_get_them(real: Fabric) -> None:
    sealed = await Fabric.over(real.broker, tenant=real.tenant, participant="agent:writer", keys=KEYS)
    session = sealed.session("secret")
    await session.checkpoints.put({("c",): b"the secret", ("large",): b"the secret" * PIECE_BYTES})
    stored = await real.broker.bucket(BUCKET).entries(session.place.key())
    assert stored
    assert not [entry for entry in stored if b"secret" in (entry.value or b"")]
    assert await session.checkpoints.get("c") == b"the secret"

"""What a session holds of one participant has an end."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from session_fabric import Session
from session_fabric.rules.bounds import BOUNDS, MOST_LABELS, MOST_OPEN_ASKS
from session_fabric.words.errors import LimitExceeded

LARGE = {"text": "x" * 250_000}


def bounded(monkeypatch: pytest.MonkeyPatch, bucket: str, most: int) -> None:
    monkeypatch.setitem(BOUNDS, bucket, BOUNDS[bucket]._replace(most=most))  # type: ignore[arg-type]  # a dict


async def test_documents_have_four_megabytes_together_and_what_was_deleted_makes_room(session: Session) -> None:
    most = BOUNDS["sf-state"].most_bytes
    assert most is not None
    fit = most // 250_100
    for number in range(fit):
        await session.state(f"d{number}").put(LARGE)
    with pytest.raises(LimitExceeded) as refused:
        await session.state("more").put(LARGE)
    assert refused.value.facts["limit"] == most
    await session.state("more").put({"text": "a small one"})
    with pytest.raises(LimitExceeded):
        await session.state("more").patch(LARGE)
    await session.state("d0").delete()
    await session.state("more").put(LARGE)
    assert len(await session.documents()) == fit


async def test_of_a_participants_read_markers_the_oldest_make_way(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    offset, most = (await session.append({"type": "app.test"})).offset, 5
    bounded(monkeypatch, "sf-cursors", most)
    for number in range(most + 3):
        await session.seen(offset, device=f"d{number}")
    devices = {cursor.device for cursor in await session.cursors()}
    assert devices == {f"d{number}" for number in range(3, most + 3)}


async def test_a_participant_is_present_with_so_many_devices_and_no_more(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 5
    bounded(monkeypatch, "sf-presence", most)
    await session.append({"type": "app.test"})
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(session.join(device=f"d{n}")) for n in range(most)))
        with pytest.raises(LimitExceeded, match=f"{most} is the most"):
            await stack.enter_async_context(session.join(device="more"))
        assert len(await session.members()) == most


async def test_too_many_labels_are_refused(session: Session) -> None:
    with pytest.raises(LimitExceeded, match=f"{MOST_LABELS} is the most|at most {MOST_LABELS}"):
        await session.create({f"l{n}": "x" for n in range(MOST_LABELS + 1)})


async def test_a_run_waits_for_so_many_answers_at_a_time(session: Session) -> None:
    async with session.run("r1") as run:
        asking = [asyncio.create_task(run.ask("?", id=f"q{n}")) for n in range(MOST_OPEN_ASKS + 1)]
        done, waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        assert [type(task.exception()) for task in done] == [LimitExceeded]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

"""Who did what when to a tenant's sessions: all of it, each act once, over a file and those that continue it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from session_fabric import Fabric
from session_fabric.audit import Act
from session_fabric.importing import verify
from session_fabric.rules.audits import previous_of
from session_fabric.rules.chains import Chain
from session_fabric.words.errors import Corrupt, Forbidden, InvalidRequest
from session_fabric.words.names import escape

from tests.support.sessions import Fabrics, exact, note, said, stored
from tests.support.waiting import eventually

pytestmark = pytest.mark.needs_rights

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


@pytest.fixture
async def fabric(fabrics: Fabrics) -> Fabric:
    return await fabrics.open("operator:ann")


@contextmanager
def clock_off(seconds: int) -> Iterator[None]:
    """Have this process's wall clock be wrong; the broker's is another process's, or was taken before."""
    with pytest.MonkeyPatch.context() as patch:
        real, real_ns = time.time, time.time_ns
        patch.setattr(time, "time", lambda: real() + seconds)
        patch.setattr(time, "time_ns", lambda: real_ns() + seconds * 10**9)
        yield


async def exported(fabric: Fabric, after: Sequence[bytes] | None = None, **options: Any) -> list[bytes]:
    """Export an audit, one that continues another where that is given, and check it."""
    previous = None if after is None else previous_of(after)
    lines = [line async for line in fabric.audit(previous=previous, **options)]
    verified = verify(lines)
    assert verified.end["acts"] == len(acts(lines))
    return lines


def acts(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    return [data for line in lines if (data := orjson.loads(line)["data"])["type"] == "act"]


def told(*files: Sequence[bytes]) -> list[tuple[str | None, str]]:
    """Return in which session there was which act, once no act is proven to be there twice."""
    found = [act for lines in files for act in acts(lines)]
    places = [(act["session"], act["at"]) for act in found]
    assert len(places) == len(set(places)), "an act is told twice"
    return [(act["session"], act["act"]) for act in found]


def _of_bucket(act: tuple[str | None, str]) -> bool:
    """Say whether an act leaves nothing in a log; what is in a log and what is not may be of the same millisecond."""
    return act[1] in get_args(Act)


@pytest.mark.parametrize("writer_s", [-3600, 0, 3600])
@pytest.mark.parametrize("exporter_s", [-3600, 0, 3600])
async def test_clocks_that_differ_leave_no_act_out_and_none_twice(
    fabric: Fabric, writer_s: int, exporter_s: int
) -> None:
    session = fabric.session("chat")
    with clock_off(writer_s):
        await session.append(note(1))
        await session.hold("Letter")
        await fabric.hold("All of it")
    with clock_off(exporter_s):
        first = await exported(fabric)
    with clock_off(-writer_s):
        await fabric.release()
        await session.close()
    with clock_off(-exporter_s):
        second = await exported(fabric, first)
    with clock_off(exporter_s):
        third = await exported(fabric, second)
    assert {*told(first)} == {("chat", "session.created"), ("chat", "session.held"), (None, "tenant.held")}
    assert {*told(first, second)} - {*told(first)} == {(None, "tenant.released"), ("chat", "session.closed")}
    assert told(third) == []
    now = time.time() * 1000
    assert all(abs(act["ts"] - now) < 600_000 for act in acts([*first, *second])), "the broker's clock counts"


async def test_an_act_that_is_stored_long_after_it_was_dated_is_in_the_next_file(fabric: Fabric) -> None:
    """A `put` that takes its time: the broker has it after the export, whatever time it says."""
    first = await exported(fabric)
    long_ago = time.time_ns() // 1_000_000 - 3_600_000
    value = {"ts": long_ago, "by": "operator:ann", "act": "tenant.held", "facts": {"hold": "slow"}}
    await fabric.broker.bucket("sf-audit").put(f"{escape(fabric.tenant)}._.{long_ago:016d}-x", orjson.dumps(value))
    (act,) = acts(await exported(fabric, first))
    assert (act["act"], act["at"], act["facts"]) == ("tenant.held", f"{long_ago:016d}-x", {"hold": "slow"})


async def test_what_each_file_has_is_told_in_order_and_once(fabric: Fabric) -> None:
    """Of many sessions, some of which begin, are deleted and begin anew between the files."""
    files: list[list[bytes]] = []
    expected: list[tuple[str | None, str]] = []
    for round in range(4):
        for name in ("a", "b", f"new-{round}"):
            session = fabric.session(name)
            if name in ("a", "b") and round:
                await session.set_policy(answer_within_s=300 + round)
                expected.append((name, "session.policy"))
            else:
                await session.append(note(round))
                expected.append((name, "session.created"))
            await session.hold("why", f"h{round}")
            expected.append((name, "session.held"))
        if round == 2:
            again = fabric.session("new-1")
            await again.release("h1")
            await again.delete()
            expected.append(("new-1", "session.released"))
            expected.append(("new-1", "session.deleted"))
            await fabric.session("new-1").append(note(round))
            expected.append(("new-1", "session.created"))
        files.append(await exported(fabric, files[-1] if files else None))
    assert sorted(told(*files)) == sorted(expected)
    for within in (_of_bucket, lambda act: not _of_bucket(act)):
        for name in ("a", "b", "new-1", "new-3"):
            mine = [act for act in expected if act[0] == name and within(act)]
            assert [act for act in told(*files) if act[0] == name and within(act)] == mine
    whole = await exported(fabric)
    left = [act for act in expected if act != ("new-1", "session.created")] + [("new-1", "session.created")]
    assert sorted(told(whole)) == sorted(left), "what went with a deletion is in the earlier file alone"


async def test_what_was_done_in_a_session_is_told_as_it_is_in_its_log(fabric: Fabric) -> None:
    agent = fabric.view(participant="agent:a").session("chat")
    ann, ada = fabric.session("chat"), fabric.view(participant="user:ada").session("chat")
    sue = fabric.view(participant="supervisor:sue").session("chat")
    await ada.append(said("My secret."))
    await ann.set_policy(answer_within_s=60)
    await ann.add_participant("user:bob")
    async with ada.join(device="phone"), agent.run("r1") as run:
        await sue.whisper("A secret of ours.")
        await run.text("More that is secret.")
        await ada.control("steer", run="r1", body={"text": "A secret wish."})
    first = await exported(fabric)
    offer = await sue.floor().offer("operator:ann", "please", deadline_ms=60_000)
    await ann.floor().accept(offer.request)
    await ann.fork(await ann.head(), "fork")
    await ann.redact("m1", reason="A card.")
    await ann.close()
    second = await exported(fabric, first)
    found = [act for act in acts([*first, *second]) if act["session"] == "chat" and "_" in act["at"]]
    events = {str(event.offset): event for event in exact(await stored(ann))}
    kinds = {act["act"] for act in found}
    assert kinds >= {
        *("session.created", "session.policy", "session.participants", "session.closed", "whisper"),
        *("presence.joined", "presence.left", "control.requested", "handoff.offered", "handoff.accepted"),
        "message.redacted",
    }
    assert [act["at"] for act in found] == sorted(act["at"] for act in found)
    for act in found:
        event = events[act["at"]]
        assert (act["ts"], act["actor"], act["act"], act["run"]) == (event.ts, event.actor, event.type, event.run)
    steer = next(act for act in found if act["act"] == "control.requested")
    assert (steer["actor"], steer["operation"], steer["facts"]["action"]) == ("user:ada", "control:steer", "steer")
    assert {act["act"] for act in acts(second) if act["session"] == "fork"} == {"session.forked", "message.redacted"}
    assert b"secret" not in b"".join([*first, *second])


async def test_acts_from_a_moment_on_are_told_where_that_is_asked_for(fabric: Fabric) -> None:
    await fabric.hold("one", "one")
    (one,) = acts(await exported(fabric))
    assert told(await exported(fabric, since_ms=one["ts"])) == [(None, "tenant.held")]
    first = await exported(fabric, since_ms=one["ts"] + 3_600_000)
    assert told(first) == []
    await fabric.hold("two", "two")
    (act,) = acts(await exported(fabric, first))
    assert act["facts"]["hold"] == "two"


async def test_a_bucket_that_was_made_anew_is_told_again(fabric: Fabric) -> None:
    """Its revisions begin anew, and the times of what is in it do not."""
    await fabric.hold("one", "one")
    first = await exported(fabric)
    data = [orjson.loads(line)["data"] for line in first]
    data[-1]["revision"] += 1000
    chain = Chain()
    await eventually(lambda: time.time_ns() // 1_000_000 > data[-1]["ts"])
    await fabric.hold("two", "two")
    (act,) = acts(await exported(fabric, [chain.line(each) for each in data]))
    assert act["facts"]["hold"] == "two"


# --- files of format 1 ------------------------------------------------------------------------------


def of_format_1(lines: Sequence[bytes], until: int, *, without: str) -> list[bytes]:
    """Return a file as it was written that ended by a clock, and had lost an act by that."""
    chain, found = Chain(), []
    for line in lines:
        data = orjson.loads(line)["data"]
        if data["type"] == "manifest":
            found.append(chain.line({**data, "format": 1, "until": until}))
        elif data["type"] == "act" and data["act"] != without:
            found.append(chain.line(data))
    return [*found, chain.line({"type": "end", "acts": len(found) - 1, "until": until})]


@pytest.mark.parametrize("lost", ["session.held", "session.created"])
async def test_a_file_of_format_1_is_continued_with_what_it_has_lost(fabric: Fabric, lost: str) -> None:
    session = fabric.session("chat")
    await session.append(note(1))
    await session.hold("Letter")
    until = time.time_ns() // 1_000_000 + 60_000
    old = of_format_1(await exported(fabric), until, without=lost)
    await session.close()
    second = await exported(fabric, old)
    assert told(second) == [("chat", lost), ("chat", "session.closed")]
    assert len(told(old, second)) == 3
    assert verify(second).manifest["previous"] == verify(old).head
    assert told(await exported(fabric, second)) == []


# --- what was changed -------------------------------------------------------------------------------


async def test_what_was_done_to_an_audit_is_found(fabric: Fabric) -> None:
    await fabric.session("chat").append(note(1))
    for name in ("one", "two", "three"):
        await fabric.hold("why", name)
    lines = await exported(fabric, key=KEY)
    for at in range(len(lines)):
        left_out = [*lines[:at], *lines[at + 1 :]]
        swapped = [*lines[:at], *reversed(lines[at : at + 2]), *lines[at + 2 :]]
        doubled = [*lines[: at + 1], *lines[at:]]
        changed = [*lines[:at], lines[at].replace(b'"type":"', b'"type":"x', 1), *lines[at + 1 :]]
        for wrong in (left_out, doubled, changed, *([swapped] if at + 1 < len(lines) else [])):
            for read in (verify, previous_of):
                with pytest.raises(Corrupt):
                    read(wrong)
    forged = [line.replace(b"operator:ann", b"operator:bob") for line in lines]
    with pytest.raises(Corrupt):
        verify(forged)


async def test_who_may_not_and_what_is_no_audit_is_refused(fabric: Fabric) -> None:
    for who in ("user:ada", "agent:a"):
        with pytest.raises(Forbidden):
            _ = [line async for line in fabric.view(participant=who).audit()]
    session = fabric.session("chat")
    await session.append(note(1))
    with pytest.raises(InvalidRequest, match="no audit"):
        previous_of([line async for line in session.export()])

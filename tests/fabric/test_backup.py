"""A tenant in a directory, and back: whole, verified, going on where it was cut off."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from session_fabric import Fabric, Session, backup
from session_fabric.words.errors import Corrupt, InvalidRequest, OffsetForeign, SessionExists
from session_fabric.words.names import new_id

from tests.fabric.test_agents import served
from tests.fabric.test_dead_letters import fail, failing
from tests.support.sessions import Fabrics, exact, note, said, stored, values
from tests.support.waiting import eventually

pytestmark = pytest.mark.needs_rights


@pytest.fixture
async def fabric(fabrics: Fabrics) -> Fabric:
    return await fabrics.open("operator:ann")


async def lived_in(fabric: Fabric, name: str) -> Session:
    """Make a session with a bit of everything."""
    session = fabric.session(name)
    await session.append(said("Hello"), id="q1")
    await session.append(note("x" * 300_000), id="large")
    await session.state("plan").put({"step": 1})
    await session.append(note(name), id="last")
    return session


def elsewhere(fabric: Fabric) -> Fabric:
    """Return the same connection, in a tenant that has nothing."""
    return fabric.view(tenant=new_id("t"), participant="operator:ann")


async def test_a_tenant_comes_back_as_it_was(fabric: Fabric, tmp_path: Path) -> None:
    for name in ("one", "two"):
        await lived_in(fabric, name)
    await fabric.set_retention(max_age_s=90 * 86_400)
    made = await backup.create(fabric, tmp_path / "b")
    assert (made.sessions, made.new) == (2, 2)
    assert backup.verify(tmp_path / "b")[:3] == made[:3]
    other = elsewhere(fabric)
    restored = await backup.restore(other, tmp_path / "b")
    assert (restored.tenant, restored.new) == (other.tenant, 2)
    for name in ("one", "two"):
        before, after = await stored(fabric.session(name)), exact(await stored(other.session(name)))
        assert [(e.id, e.type, e.actor, e.body) for e in before if e.body] == [
            (e.id, e.type, e.actor, e.body) for e in after if e.type != "session.imported"
        ]
        assert after[-1].type == "session.imported"
        assert (await other.session(name).state("plan").get()).body == {"step": 1}
    assert (await other.retention()).retention.max_age_s == 90 * 86_400


async def test_restoring_again_changes_nothing(fabric: Fabric, tmp_path: Path) -> None:
    await lived_in(fabric, "one")
    await backup.create(fabric, tmp_path / "b")
    other = elsewhere(fabric)
    await backup.restore(other, tmp_path / "b")
    before = await stored(other.session("one"))
    assert (await backup.restore(other, tmp_path / "b")).new == 0
    assert await stored(other.session("one")) == before


async def test_offsets_of_before_are_of_another_life(fabric: Fabric, tmp_path: Path) -> None:
    session = await lived_in(fabric, "one")
    old = await session.head()
    await backup.create(fabric, tmp_path / "b")
    other = elsewhere(fabric)
    await backup.restore(other, tmp_path / "b")
    with pytest.raises(OffsetForeign):
        await stored(other.session("one"), old)
    # From its beginning it is all there, under the same ids.
    assert values(await stored(other.session("one")))[-1] == "one"


async def test_a_session_that_is_there_already_is_left_alone(fabric: Fabric, tmp_path: Path) -> None:
    await lived_in(fabric, "one")
    await backup.create(fabric, tmp_path / "b")
    with pytest.raises(SessionExists):
        await backup.restore(fabric, tmp_path / "b")


async def test_a_session_that_somebody_has_only_opened_gives_way_to_what_it_was(fabric: Fabric, tmp_path: Path) -> None:
    await lived_in(fabric, "one")
    await backup.create(fabric, tmp_path / "b")
    other = elsewhere(fabric)
    ada = other.view(participant="user:ada").session("one")
    async with ada.join(device="page"):
        assert (await backup.restore(other, tmp_path / "b")).new == 1
    assert values(await stored(other.session("one")))[-1] == "one"


async def test_a_session_that_somebody_has_only_opened_and_that_is_held_is_left_alone(
    fabric: Fabric, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        await lived_in(fabric, name)
    await backup.create(fabric, tmp_path / "b")
    other, there = elsewhere(fabric), list[str]()
    await other.session("one").create()
    await other.hold("Letter of the court")
    assert (await backup.restore(other, tmp_path / "b", others=there.append)).new == 1
    assert there == ["one"]


async def test_of_what_is_there_already_all_others_are_restored_when_asked_for(fabric: Fabric, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        await lived_in(fabric, name)
    await backup.create(fabric, tmp_path / "b")
    other = elsewhere(fabric)
    await other.session("one").append(said("Anybody there?"))
    await other.session("two").state("plan").put({"step": 2})
    there: list[str] = []
    assert (await backup.restore(other, tmp_path / "b", others=there.append)).new == 1
    assert sorted(there) == ["one", "two"]
    assert [e.type for e in await stored(other.session("one"))] == ["session.created", "message.user"]
    assert (await other.session("two").state("plan").get()).body == {"step": 2}
    assert values(await stored(other.session("three")))[-1] == "three"


async def test_a_backup_that_was_cut_off_goes_on(fabric: Fabric, tmp_path: Path) -> None:
    for name in ("one", "two"):
        await lived_in(fabric, name)
    await backup.create(fabric, tmp_path / "b")
    (tmp_path / "b" / "tenant.jsonl").unlink()
    two = tmp_path / "b" / "sessions" / "two.jsonl"
    two.write_bytes(two.read_bytes()[:-200])
    with pytest.raises(InvalidRequest, match="no finished backup"):
        backup.verify(tmp_path / "b")
    again = await backup.create(fabric, tmp_path / "b")
    assert (again.sessions, again.new) == (2, 1)
    assert backup.verify(tmp_path / "b").sessions == 2
    with pytest.raises(InvalidRequest, match="finished backup"):
        await backup.create(fabric, tmp_path / "b")


async def cut_off(fabric: Fabric, directory: Path, *names: str) -> None:
    """Leave what a backup of these sessions leaves when its process is killed as it writes another one."""
    for name in names:
        await lived_in(fabric, name)
    await backup.create(fabric, directory)
    (directory / "tenant.jsonl").unlink()
    (directory / "sessions" / "another.part").write_bytes(b"half a line")


async def test_a_backup_of_another_tenant_does_not_go_on_with_the_files_of_one(fabric: Fabric, tmp_path: Path) -> None:
    await cut_off(fabric, tmp_path / "b", "one")
    other = elsewhere(fabric)
    await other.session("one").append(said("Mine"))
    with pytest.raises(InvalidRequest, match=f"of tenant '{fabric.tenant}' that was cut off"):
        await backup.create(other, tmp_path / "b")
    assert (await backup.create(fabric, tmp_path / "b")).new == 0


async def test_a_backup_that_goes_on_has_nothing_of_what_was_deleted_meanwhile(fabric: Fabric, tmp_path: Path) -> None:
    await cut_off(fabric, tmp_path / "b", "one", "two", "three")
    for name in ("one", "two"):
        await fabric.session(name).delete()
    await fabric.session("two").append(said("Another life"))
    again = await backup.create(fabric, tmp_path / "b")
    assert (again.sessions, again.new) == (2, 1)
    assert sorted(file.name for file in (tmp_path / "b" / "sessions").iterdir()) == ["three.jsonl", "two.jsonl"]
    assert b"Another life" in (tmp_path / "b" / "sessions" / "two.jsonl").read_bytes()


def do(harm: str, one: Path, two: Path) -> None:
    """Harm the second of two files of a backup."""
    if harm == "change":
        two.write_bytes(two.read_bytes().replace(b"Hello", b"Hallo"))
    elif harm == "swap":
        two.write_bytes(one.read_bytes())
    else:
        two.unlink()


@pytest.mark.parametrize("harm", ["change", "swap", "lose"])
async def test_a_file_that_is_not_what_was_written_is_named_and_nothing_is_restored(
    fabric: Fabric, tmp_path: Path, harm: str
) -> None:
    for name in ("one", "two"):
        await lived_in(fabric, name)
    await backup.create(fabric, tmp_path / "b")
    one, two = (tmp_path / "b" / "sessions" / f"{name}.jsonl" for name in ("one", "two"))
    do(harm, one, two)
    other = elsewhere(fabric)
    with pytest.raises(Corrupt, match=r"sessions/two\.jsonl"):
        await backup.restore(other, tmp_path / "b")
    assert (await other.sessions()).records == []


async def test_devices_have_read_as_far_as_they_had(fabric: Fabric, tmp_path: Path) -> None:
    session = await lived_in(fabric, "one")
    user = fabric.view(participant="user:ada").session("one")
    read = next(event.offset for event in await stored(session) if event.id == "large")
    await user.seen(read, device="phone")
    await user.seen(await session.head(), device="laptop")
    await backup.create(fabric, tmp_path / "b")
    other = elsewhere(fabric)
    await backup.restore(other, tmp_path / "b")
    there = {event.offset: event.id for event in await stored(other.session("one"))}
    cursors = {one.device: one for one in await other.session("one").cursors()}
    assert {device: there[one.offset] for device, one in cursors.items()} == {"phone": "large", "laptop": "last"}
    assert {one.participant for one in cursors.values()} == {"user:ada"}


async def test_what_no_agent_could_answer_can_be_asked_again_after_it(fabric: Fabric, tmp_path: Path) -> None:
    agent, hard = failing(fabric)
    async with served(agent):
        await fail(fabric, "one")
    (before,) = await fabric.dead_letters()
    await backup.create(fabric, tmp_path / "b")
    other = elsewhere(fabric)
    await backup.restore(other, tmp_path / "b")
    (after,) = await other.dead_letters()
    assert (after.session, after.pool, after.run, after.message) == ("one", "default", before.run, before.message)
    assert (after.attempts, after.cause) == (before.attempts, before.cause)
    again, others_hard = failing(other)
    hard.clear()
    others_hard.clear()
    async with served(again):
        await after.retry()

        async def answered() -> bool:
            return any(m.content == "hard: done" for m in (await other.session("one").messages()).messages)

        await eventually(answered, 20)
    assert await other.dead_letters() == []


async def test_a_fork_comes_back_as_a_session_of_its_own_with_its_past(fabric: Fabric, tmp_path: Path) -> None:
    session = await lived_in(fabric, "one")
    branch = await session.fork(await session.head(), "branch")
    await branch.append(note("in the fork"))
    await session.append(note("in the source"))
    made = await backup.create(fabric, tmp_path / "b")
    assert made.sessions == 2
    other = elsewhere(fabric)
    await backup.restore(other, tmp_path / "b")
    assert values(await stored(other.session("branch")))[-2:] == ["one", "in the fork"]
    assert values(await stored(other.session("one")))[-2:] == ["one", "in the source"]
    assert (await other.session("branch").record(create=False)).source is None
    # What it shared is its own: it stays where the source is deleted.
    assert (await other.session("one").delete()).complete
    assert values(await stored(other.session("branch")))[-1] == "in the fork"


async def test_of_two_backups_into_one_directory_at_once_one_is_refused_and_the_other_is_whole(
    fabric: Fabric, tmp_path: Path
) -> None:
    for n in range(8):
        await lived_in(fabric, f"s{n}")
    directory = tmp_path / "b"
    both = await asyncio.gather(*(backup.create(fabric, directory) for _ in range(2)), return_exceptions=True)
    made = [one for one in both if isinstance(one, backup.Backup)]
    refused = [one for one in both if isinstance(one, InvalidRequest)]
    assert (len(made), len(refused)) == (1, 1), both
    assert "Another backup is being written" in str(refused[0])
    assert backup.verify(directory)[:3] == made[0][:3] == (fabric.tenant, 8, made[0].events)
    assert sorted(path.name for path in directory.iterdir()) == ["sessions", "streams", "tenant.jsonl"]

"""`fabricctl doctor` at brokers whose streams do not fit, or whose moves stand still: a line each, with its fix."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.jetstream.operating import Operator
from session_fabric.jetstream.topology import MOVER
from session_fabric_cli.main import run

from tests.support.servers import NatsNode
from tests.support.waiting import eventually

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def broker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_server: NatsNode) -> str:
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("SESSION_FABRIC_NATS", own_server.url)
    return own_server.url


async def fabricctl(capsys: Capture, *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    status = await asyncio.to_thread(run, list(arguments))
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return status, out or err


async def findings(capsys: Capture, check: str) -> list[tuple[str, str, str]]:
    status, out = await fabricctl(capsys, "doctor", "-o", "json")
    rows: list[dict[str, str]] = json.loads(out)
    assert status == any(row["level"] == "fail" for row in rows)
    assert all(bool(row["fix"]) == (row["level"] != "ok") for row in rows), rows
    return [(row["level"], row["found"], row["fix"]) for row in rows if row["check"] == check]


async def change(url: str, stream: str, **settings: Any) -> None:
    broker = await JetStreamBroker.connect(url, provision=False, look=False)
    config = (await broker.api.call(f"STREAM.INFO.{stream}"))["config"]
    await broker.api.call(f"STREAM.UPDATE.{stream}", config | settings)
    await broker.close()


async def test_a_broker_on_which_nothing_was_made_is_told_what_makes_it(capsys: Capture) -> None:
    (only,) = await findings(capsys, "streams")
    assert only == ("fail", "layout: The broker has no session streams.", "Run `fabricctl stream provision`.")


async def test_each_setting_that_does_not_fit_is_a_line_with_its_fix(broker: str, capsys: Capture) -> None:
    assert (await fabricctl(capsys, "stream", "provision", "--streams", "2"))[0] == 0
    await change(broker, "SESSIONS-01", allow_direct=False, max_age=10**15)
    fix = "An update of the stream sets it: `fabricctl stream repair`."
    assert await findings(capsys, "streams") == [
        ("fail", "SESSIONS-01: allow_direct is False, must be True.", fix),
        ("fail", f"SESSIONS-01: max_age is {10**15}, must be 0.", fix),
    ]
    status, text = await fabricctl(capsys, "doctor")
    assert (status, text.splitlines()[:2]) == (
        1,
        ["fail  streams  SESSIONS-01: allow_direct is False, must be True.", f"               → {fix}"],
    )
    assert (await fabricctl(capsys, "stream", "repair"))[0] == 0
    assert await findings(capsys, "streams") == [("ok", "2 keep sessions, as they must be", "")]


@pytest.mark.parametrize(
    ("stream", "settings"),
    [
        ("SESSIONS-01", {"duplicate_window": 10**9}),
        ("SESSIONS-01", {"max_msg_size": 2000}),
        ("SESSIONS-01", {"consumer_limits": {"inactive_threshold": 5 * 10**9}}),
        ("SESSIONS-01", {"subject_delete_marker_ttl": 10**9, "allow_rollup_hdrs": True}),
        ("SESSIONS-01", {"max_msgs_per_subject": 5}),
        ("SESSIONS-01", {"max_msgs_per_subject": 5, "discard_new_per_subject": True}),
        ("SESSIONS-01", {"no_ack": True}),
        ("SESSIONS-01", {"subject_transform": {"src": ">", "dest": "theirs.>"}}),
        ("SF-BLOBS", {"no_ack": True, "max_msg_size": 1000}),
        ("KV_sf-leases", {"subject_delete_marker_ttl": 0}),
        ("KV_sf-leases", {"subject_delete_marker_ttl": 3600 * 10**9, "max_msgs_per_subject": 8}),
    ],
)
async def test_what_somebody_set_by_hand_is_told_setting_by_setting_and_set_back(
    broker: str, capsys: Capture, stream: str, settings: dict[str, Any]
) -> None:
    assert (await fabricctl(capsys, "stream", "provision", "--streams", "2"))[0] == 0
    await change(broker, stream, **settings)
    said = await findings(capsys, "streams")
    assert {found.split(" is ")[0] for _, found, _ in said} == {f"{stream}: {name}" for name in settings}
    assert all(level == "fail" and "stream repair" in fix for level, _, fix in said)
    assert (await fabricctl(capsys, "stream", "repair"))[0] == 0
    assert await findings(capsys, "streams") == [("ok", "2 keep sessions, as they must be", "")]


async def test_what_nobody_can_set_back_is_told_and_keeps_nobody_from_working(broker: str, capsys: Capture) -> None:
    assert (await fabricctl(capsys, "stream", "provision", "--streams", "2"))[0] == 0
    await change(broker, "SESSIONS-01", deny_delete=True)
    fix = "No update changes it: back up, delete the stream, have it made anew, restore."
    assert await findings(capsys, "streams") == [("fail", "SESSIONS-01: deny_delete is True, must be False.", fix)]
    assert (await fabricctl(capsys, "stream", "provision"))[0] == 0


async def test_a_bucket_that_is_missing_is_told_and_what_can_be_looked_at_besides_is(
    broker: str, capsys: Capture
) -> None:
    assert (await fabricctl(capsys, "stream", "provision", "--streams", "1"))[0] == 0
    made = await JetStreamBroker.connect(broker)
    await made.api.call("STREAM.DELETE.KV_sf-tickets")
    await made.close()
    ((level, found, fix),) = await findings(capsys, "streams")
    assert (level, found) == ("fail", "KV_sf-tickets: It is missing.")
    assert "restore it from a backup" in fix


@pytest.mark.slow  # who died has 15 s until it counts as dead
async def test_a_move_that_stands_still_is_told_from_one_that_goes_on(broker: str, capsys: Capture) -> None:
    assert (await fabricctl(capsys, "stream", "provision", "--streams", "2"))[0] == 0
    told: list[str] = []
    async with Operator.connected(broker, say=told.append) as dying:
        moving = asyncio.create_task(dying.move_bucket([7], None))
        await eventually(lambda: any("is made" in what for what in told), 30.0)
        await dying._dial.close()
        ((level, found, fix),) = await findings(capsys, "moves")
        with suppress(Exception):
            await moving
    assert (level, fix) == ("ok", "")
    assert "is at it" in found

    watching = await JetStreamBroker.connect(broker)

    async def nobody() -> bool:
        entry = await watching.bucket("sf-layout").get(MOVER)
        return entry is None or entry.value is None

    await eventually(nobody, 40.0)
    await watching.close()
    ((level, found, fix),) = await findings(capsys, "moves")
    assert (level, fix) == ("fail", "Bring it to its end: `fabricctl stream repair`.")
    assert "1 bucket is on its way to SESSIONS-02" in found
    assert "Nobody is at it" in found
    assert (await fabricctl(capsys, "stream", "repair"))[0] in (0, 1)  # what moved is removed later
    assert all(level != "fail" for level, _, _ in await findings(capsys, "moves"))

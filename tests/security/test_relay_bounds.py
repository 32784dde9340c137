"""What a native agent writes by hand at the relay has the bounds that the SDK keeps."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from session_fabric.relay.durables import Durables
from session_fabric.rules.bounds import BOUNDS, MOST_LABELS
from session_fabric.rules.permissions import stamp_of
from session_fabric.words.errors import InvalidRequest, LimitExceeded
from session_fabric.words.names import escape
from session_fabric.words.subjects import Place

from tests.security.attacks import runs
from tests.security.relay_world import EVE, World


async def put(world: World, bucket: str, key: str, value: Any, **more: Any) -> None:
    await world.eve._link.ask("bucket_put", {"bucket": bucket, "key": key, **more}, [orjson.dumps(value)])


@runs("G1")
@pytest.mark.parametrize("bucket", ["sf-state", "sf-presence", "sf-cursors", "sf-dead", "sf-claims", "sf-checkpoints"])
async def test_a_bucket_takes_so_many_of_one_and_no_more(relayed_world: World, bucket: str) -> None:
    mine, most, holder = Place(relayed_world.a, "mine").key(), BOUNDS[bucket].most, relayed_world.eve.holder
    key = {
        "sf-state": f"{mine}.plan",
        "sf-presence": f"{mine}.{escape(EVE)}.d{{}}.{holder}",
        "sf-cursors": f"{mine}.{escape(EVE)}.d{{}}",
        "sf-dead": f"{mine}.pool.run{{}}",
        "sf-checkpoints": f"{mine}.v.-c{{}}",
        "sf-claims": f"{holder}.{mine}.run.r{{}}",
    }[bucket]
    if bucket in ("sf-claims", "sf-dead", "sf-checkpoints"):  # thousands would take long
        most = 20
        relayed_world.relay._buckets._rooms[bucket]._bound = BOUNDS[bucket]._replace(most=most)
    if bucket == "sf-state":  # one document is granted; many are made by the fabric's own hand
        for number in range(most):
            await relayed_world.full.broker.bucket(bucket).put(f"{mine}.p{number}", b"{}")
        with pytest.raises(LimitExceeded):
            await put(relayed_world, bucket, f"{mine}.plan2", {"by": EVE, "ts": 1, "body": {}})
        return
    for number in range(most):
        await put(relayed_world, bucket, key.format(number), shown(number))
    with pytest.raises(LimitExceeded) as refused:
        await put(relayed_world, bucket, key.format(most), shown(most))
    assert refused.value.facts["limit"] == most
    await put(relayed_world, bucket, key.format(0), shown(0))


def shown(number: int) -> dict[str, Any]:
    return {"participant": EVE, "device": f"d{number}", "gateway": False}


async def test_a_lease_ends_by_itself_and_soon(relayed_world: World) -> None:
    key = f"{relayed_world.a}.{stamp_of(relayed_world.a, EVE)}".ljust(len(relayed_world.a) + 21, "x")
    for ttl_s in (None, 61, 10**9):
        with pytest.raises(InvalidRequest, match="lease"):
            await put(relayed_world, "sf-leases", key, {}, ttl_s=ttl_s)
    await put(relayed_world, "sf-leases", key, {}, ttl_s=2)


async def test_a_record_has_no_more_labels_than_the_sdk_lets_one_have(relayed_world: World) -> None:
    directory = relayed_world.full.broker.bucket("sf-sessions")
    key = Place(relayed_world.a, "mine").key()
    entry = await directory.get(key)
    assert entry is not None
    assert entry.value is not None
    record = {**orjson.loads(entry.value), "labels": {f"l{n}": "x" for n in range(MOST_LABELS + 1)}}
    head = {"bucket": "sf-sessions", "key": key, "revision": entry.revision}
    with pytest.raises(LimitExceeded):
        await relayed_world.eve._link.ask("bucket_swap", head, [orjson.dumps(record)])


def test_so_many_durable_names_are_opened_in_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    durables = Durables(None)  # type: ignore[arg-type]  # names are counted before anything is asked
    for number in range(256):
        durables._named("eve", f"w{number}", "None")
    durables._named("eve", "w0", "None")
    durables._named("ada", "w256", "None")
    with pytest.raises(LimitExceeded, match="256 is the most"):
        durables._named("eve", "w256", "None")
    later = time.monotonic() + 3601
    monkeypatch.setattr(time, "monotonic", lambda: later)
    durables._named("eve", "w256", "None")

"""What the relay says to who may not: the same, whatever there is."""

from __future__ import annotations

import pytest
from session_fabric import Fabric, Keys
from session_fabric.keyring import OTHERS, TenantKey
from session_fabric.records import Directory, SessionRecord, spelled
from session_fabric.words.errors import Forbidden
from session_fabric.words.subjects import Place

from tests.security.relay_world import World


async def test_who_may_not_make_a_session_is_not_told_whether_it_is_there(relayed_world: World) -> None:
    """Nor, by what is said of a record without a key, whether the tenant seals what is said."""
    world = relayed_world
    ring = Keys({OTHERS: [TenantKey("k1", b"1" * 32)]})
    sealing = await Fabric.over(world.full.broker, tenant=world.a, participant="agent:writer", keys=ring)
    await sealing.session("sealed").append({"type": "app.note"})
    bucket = world.full.broker.bucket("sf-sessions")
    there = await bucket.get(Place(world.a, "other").key())
    assert there is not None
    told = set[str]()
    for name, source in (("other", None), ("none", None), ("mine-second", "other"), ("mine-second", "none")):
        place = Place(world.a, name)
        segment = await Directory(world.full.broker).first_segment(place)
        record = SessionRecord(tenant=world.a, session=name, created=1, segments=(segment,), source=source)
        for revision in (0, 1, there.revision) if source is None else (0,):
            head = {"bucket": "sf-sessions", "key": place.key(), "revision": revision}
            with pytest.raises(Forbidden) as refused:
                await world.eve._link.ask("bucket_swap", head, [spelled(record)], timeout_s=3.0)
            told.add(f"{refused.value} {refused.value.facts}".replace(source or name, "…"))
    assert len(told) == 2, told  # she may not make it; she may not read what it is to be a fork of

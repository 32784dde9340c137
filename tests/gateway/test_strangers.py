"""What a native program may store by mistake or malice: shown as it is or as malformed, and nobody else notices."""

from __future__ import annotations

from typing import Any

import nats
import pytest
from session_fabric import Fabric
from session_fabric.words.subjects import Place

from tests.gateway.conftest import Running
from tests.gateway.sockets import greeted

TOK = ("tok", "r1")
DELTA = "TEXT_MESSAGE_CONTENT"

STRANGE: list[tuple[tuple[str, str], bytes, dict[str, str]]] = [
    (("ev", "_"), b"\xff\xfe", {}),
    (("ev", "_"), b"", {}),
    (("ev", "_"), b"7", {"Sf-Type": "app.n"}),
    (("ev", "_"), b"{}", {"Sf-Type": "ünïcode"}),
    (("ev", "_"), b"{}", {"Sf-Type": "x" * 5000}),
    (("ev", "_"), b"[" * 100_000, {"Sf-Type": "app.n"}),
    (("ev", "_"), b'{"type":"app.n","n":1e999}', {"Sf-Type": "app.n"}),
    (("ev", "_"), b'{"a":"\\ud800"}', {"Sf-Type": "app.n"}),
    (("ev", "_"), b"{}", {"Sf-Type": "app.n", "Sf-Run": ""}),
    (("ev", "_"), b"{}", {"Sf-Type": "app.n", "Sf-Blob": "nonsense"}),
    (("ev", "_"), b"{}", {"Sf-Type": "app.n", "Sf-Blob": "10 00 nothing-there"}),
    (("ev", "_"), b"{}", {"Sf-Type": "message.completed", "Sf-Actor": "user:eve"}),
    (TOK, b'"x"', {"Sf-Type": DELTA, "Sf-Delta": "² m1"}),
    (TOK, b'"x"', {"Sf-Type": DELTA, "Sf-Delta": "9" * 5000 + " m1"}),
    (TOK, b'"x"', {"Sf-Type": DELTA, "Sf-Delta": "-1 m1"}),
    (TOK, b'"x"', {"Sf-Type": DELTA, "Sf-Delta": "5"}),
    (TOK, b'"\\ud800"', {"Sf-Type": DELTA, "Sf-Delta": "0 m1"}),
    (TOK, b' "x"\n', {"Sf-Type": DELTA, "Sf-Delta": "0 m1"}),
    (TOK, b"7", {"Sf-Type": DELTA, "Sf-Delta": "0 m1"}),
    (("own", "r9"), b"{}", {"Sf-Type": "RUN_FINISHED"}),
    (("what", "_"), b"{}", {"Sf-Type": "app.n"}),
]


@pytest.mark.parametrize("hello", [{}, {"deltas": "compact"}])
@pytest.mark.parametrize("view", ["full", "messages"])
async def test_whatever_a_stranger_stores_viewers_read_on(
    house: Running, agent: Fabric, broker_url: str, hello: dict[str, Any], view: str
) -> None:
    session = agent.session("s1")
    await session.append({"type": "app.first"})
    place = Place(house.tenant, "s1")
    connection = await nats.connect(broker_url)
    try:
        async with greeted(house.url, house.token(), **hello) as live:
            await live.open("s1", view=view)
            await live.op("live")
            for (kind, name), payload, headers in STRANGE:
                subject = place.stored(kind, name, "agent:eve")  # type: ignore[arg-type]
                await connection.jetstream().publish(subject, payload, headers=headers or None)
            await session.append({"type": "app.last"})
            seen = await live.until_events(lambda events: events[-1]["type"] == "app.last")
        async with greeted(house.url, house.token(), **hello) as late:
            await late.open("s1", view=view)
            await late.until_events(lambda events: bool(events) and events[-1]["type"] == "app.last")
    finally:
        await connection.close()
    if view == "full":
        assert len(seen) >= len(STRANGE) + 2


async def test_whatever_a_stranger_stores_the_log_can_be_read_over_http(
    house: Running, agent: Fabric, broker_url: str, http: Any
) -> None:
    session = agent.session("s1")
    await session.append({"type": "app.first"})
    place = Place(house.tenant, "s1")
    connection = await nats.connect(broker_url)
    for (kind, name), payload, headers in STRANGE:
        await connection.jetstream().publish(
            place.stored(kind, name, "agent:eve"),  # type: ignore[arg-type]
            payload,
            headers=headers or None,
        )
    await connection.close()
    await session.append({"type": "app.last"})
    for path in ("events?limit=1000", "events?before=tail&limit=1000", "messages"):
        async with http.get(f"/v1/sessions/s1/{path}") as response:
            assert response.status == 200, await response.text()
            await response.json()


@pytest.mark.parametrize(
    ("payload", "headers"),
    [
        (b'{"type":"app.evil"}', {}),
        (b"no JSON", {"Sf-Type": "app.x"}),
        (b'{"type":"RUN_FINISHED"}', {"Sf-Type": "app.x", "Sf-Run": "a b\u00e9"}),
    ],
)
async def test_envelope_and_body_of_an_event_always_agree(
    house: Running, agent: Fabric, broker_url: str, payload: bytes, headers: dict[str, str]
) -> None:
    session = agent.session("s1")
    await session.append({"type": "app.first"})
    connection = await nats.connect(broker_url)
    try:
        subject = Place(house.tenant, "s1").stored("ev", "_", "agent:eve")
        await connection.jetstream().publish(subject, payload, headers=headers or None)
    finally:
        await connection.close()
    event = (await session.history()).events[-1]
    assert event.type == event.body["type"] == "fabric.malformed"
    assert event.body["bytes"] == len(payload)
    assert event.run is None
    assert event.id

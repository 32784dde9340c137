"""What somebody with a valid token of one tenant tries at the relay, by hand, and does not get.

The attacker is `agent:eve` of tenant A, whose token grants reading and appending in the session `mine` alone. Each
attack is a request that no SDK would make. It must be refused, with nothing of others in what is answered; and when
all have been tried, tenant B and the other sessions of A must be as they were.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from session_fabric import Fabric, Keys
from session_fabric.keyring import OTHERS, TenantKey
from session_fabric.ports import Wanted
from session_fabric.records import Directory, SessionRecord, parse, spelled
from session_fabric.spelling import spell_draft, spell_stretch, spell_wanted
from session_fabric.words.errors import (
    BrokerUnavailable,
    Conflict,
    FabricError,
    Forbidden,
    InvalidInput,
    KeyMissing,
    SessionGone,
)
from session_fabric.words.events import CONTROL_REQUESTED, MESSAGE_COMPLETED, WHISPER, Draft
from session_fabric.words.names import escape, new_id
from session_fabric.words.packing import pack
from session_fabric.words.subjects import NO_NAME, Place

from tests.security.attacks import runs
from tests.security.relay_world import EVE, SECRET, World
from tests.support.events import everything, milestone


async def test_eve_reads_and_writes_what_is_hers(relayed_world: World) -> None:
    mine = relayed_world.stretches["mine"]
    ack = await relayed_world.eve.log.publish(mine, milestone("hers", writer=EVE))
    assert ack.sequence == await relayed_world.eve.log.head(mine)
    assert SECRET.encode() in b"".join(r.payload for r in await everything(relayed_world.eve, mine))


def attacks(w: World) -> dict[str, tuple[str, dict[str, Any], list[bytes]]]:
    """Return each attack's name, and what is asked: the operation, the head, byte strings."""
    other, theirs, mine = (w.stretches[name] for name in ("other", "theirs", "mine"))
    body = milestone("x", writer=EVE).body
    found: dict[str, tuple[str, dict[str, Any], list[bytes]]] = {}
    # Reading: by its own name, as part of a session that is hers, from a stream that holds something else.
    for whose, to in (("another session", other), ("another tenant", theirs)):
        for via in ("mine", to.place.session, "*", "mine*", ">", "m.ine", ""):
            of = {"to": spell_stretch(to), "via": via}
            reading: tuple[tuple[str, dict[str, Any]], ...] = (
                ("head", {}),
                ("end", {}),
                ("newest", {"wanted": spell_wanted([Wanted("in")])}),
                ("lasts", {"after": 0, "upto": 10**9}),
                ("read", {"after": 0, "upto": 10**9, "wanted": []}),
                ("read_back", {"before": 10**9, "limit": 100, "wanted": []}),
                ("piece", {"sequence": 1, "at": 0}),
                ("runs", {}),
            )
            for op, more in reading:
                found[f"{op} of {whose} via {via!r}"] = (op, {**of, **more}, [])
        found[f"write to {whose}"] = ("publish", w.publish(to=spell_stretch(to)), [body])
        found[f"purge {whose}"] = ("purge", {"to": spell_stretch(to), "wanted": None}, [])
        deltas = spell_wanted([Wanted("tok", "run-1")])
        found[f"purge deltas of {whose}"] = ("purge", {"to": spell_stretch(to), "wanted": deltas}, [])
        found[f"subjects of {whose}"] = ("subjects", {"to": spell_stretch(to), "kinds": []}, [])
        found[f"erase in {whose}"] = ("erase", {"to": spell_stretch(to), "sequences": [1, 2, 3]}, [])
        for op in ("home", "blobs", "blobs_delete", "durables", "durables_delete"):
            found[f"{op} of {whose}"] = (op, {"place": list(to.place)}, [])
        found[f"a blob for {whose}"] = ("blob_put", {"place": list(to.place), "name": "b1", "upload": "u1"}, [])
        heard = {"id": "n1", "place": list(to.place), "subjects": [to.place.live_filter()]}
        found[f"news of {whose}"] = ("news", heard, [])
        found[f"a blob of {whose}"] = ("blob_get", {"place": list(to.place), "name": "b1", "at": 0}, [])
        signal = orjson.dumps({"op": "signal", "connection": "c", "fields": {"actor": EVE, "body": {}}})
        found[f"a signal in {whose}"] = ("signal", {"place": list(to.place)}, [signal])
        for name in ("sf-sessions", "sf-state", "sf-presence", "sf-cursors", "sf-dead", "sf-checkpoints"):
            key = to.place.key() if name == "sf-sessions" else f"{to.place.key()}.plan"
            head = {"bucket": name, "key": key}
            found[f"get {name} of {whose}"] = ("bucket_get", head, [])
            found[f"history of {name} of {whose}"] = ("bucket_history", head, [])
            found[f"put {name} of {whose}"] = ("bucket_put", head, [b"{}"])
            found[f"swap {name} of {whose}"] = ("bucket_swap", {**head, "revision": 1}, [b"{}"])
            found[f"delete {name} of {whose}"] = ("bucket_delete", head, [])
    for stream in ("KV_sf-tickets", "KV_sf-revoked", "SF-BLOBS", "*", ">", "X.Y"):
        lying = spell_stretch(mine._replace(home=mine.home._replace(stream=stream)))
        found[f"the end of stream {stream}"] = ("end", {"to": lying, "via": "mine"}, [])
        found[f"reading stream {stream}"] = (
            "read",
            {"to": lying, "via": "mine", "after": 0, "upto": 9, "wanted": []},
            [],
        )
        found[f"purging stream {stream}"] = ("purge", {"to": lying, "wanted": None}, [])
    # Writing as another, or what only the fabric says.
    for actor in ("user:ada", "agent:writer", "service:fabric", "service:gateway", "operator:eve"):
        found[f"write as {actor}"] = ("publish", w.publish(draft=w.draft(actor=actor)), [body])
        found[f"write for {actor}"] = (
            "publish",
            w.publish(draft=w.draft(writer="gw") | {"actor": actor}),
            [body],
        )
    for kind, draft in (
        ("a whisper", Draft(WHISPER, orjson.dumps({"type": WHISPER}), "w1", "ev", "/whisper", EVE, EVE)),
        (
            "a cancel",
            Draft(
                CONTROL_REQUESTED,
                orjson.dumps({"type": CONTROL_REQUESTED, "action": "cancel"}),
                "c1",
                "ev",
                "/control",
                EVE,
                EVE,
            ),
        ),
    ):
        found[kind] = ("publish", w.publish(draft=spell_draft(draft)), [draft.body])
    broken = "x\r\nNats-Rollup: all"
    forged: dict[str, dict[str, Any]] = {
        "a header": {"headers": {"Nats-Rollup": "all"}},
        "a message id": {"headers": {"Nats-Msg-Id": "theirs"}},
        "a line break in the type": {"type": broken},
        "a line break in the id": {"id": broken},
        "a line break in the run": {"run": broken},
        "a line break in a header": {"headers": {"Sf-Sealed": broken}},
        "a line break in a delta": {
            "delta": [broken, 0],
            "kind": "tok",
            "type": "TEXT_MESSAGE_CONTENT",
        },
        "no kind": {"kind": "*"},
        "no name": {"name": ""},
    }
    for what, fields in forged.items():
        found[f"an event with {what}"] = ("publish", w.publish(draft=w.draft(**fields)), [body])
    found["a stretch that never was"] = (
        "publish",
        w.publish(to=spell_stretch(mine._replace(segment=1))),
        [body],
    )
    # Buckets: others' names, wildcards, second spellings, what is the fabric's own.
    a, b = escape(w.a), escape(w.b)
    for name, key in (
        ("sf-tickets", "x"),
        ("sf-revoked", a),
        ("sf-leases", f"{a}.{w.holder}"),
        ("sf-leases", f"{b}.{w.eve.holder}"),
        ("sf-claims", f"{w.holder}.{a}.mine.run.r1"),
        ("sf-claims", f"{w.eve.holder}.{b}.theirs.run.r1"),
        ("sf-claims", f"{w.eve.holder}.{a}.other.run.r1"),
        ("sf-presence", f"{a}.mine.user=3Aada.d1.{w.eve.holder}"),
        ("sf-presence", f"{a}.mine.{escape(EVE)}.d1.{w.holder}"),
        ("sf-cursors", f"{a}.mine.user=3Aada.d1"),
        ("sf-state", f"{a}.mine.secret"),
        ("sf-state", f"{a}.mi=6Ee.plan"),
        ("sf-state", f"{a}.mine.*"),
        ("sf-state", f"{a}.>"),
        ("sf-state", ">"),
        ("sf-state", f"{a}..plan"),
        ("nothing", "x"),
        ("../sf-state", "x"),
    ):
        value = orjson.dumps({"participant": EVE, "device": "d1", "by": EVE, "gateway": False, "body": {}})
        found[f"put {name} {key}"] = ("bucket_put", {"bucket": name, "key": key}, [value])
        found[f"delete {name} {key}"] = ("bucket_delete", {"bucket": name, "key": key}, [])
    shown = orjson.dumps({"participant": EVE, "device": "d1", "gateway": True})
    hers = f"{a}.mine.{escape(EVE)}.d1.{w.eve.holder}"
    found["presence as a gateway"] = ("bucket_put", {"bucket": "sf-presence", "key": hers}, [shown])
    plan = {"bucket": "sf-state", "key": f"{a}.mine.plan"}
    found["a document by another"] = ("bucket_put", plan, [orjson.dumps({"by": "user:ada", "ts": 1, "body": {}})])
    as_ada = orjson.dumps({"op": "signal", "connection": "c", "fields": {"actor": "user:ada", "body": {}}})
    found["a signal as another"] = ("signal", {"place": [w.a, "mine"]}, [as_ada])
    # What was done, by whom: as another, elsewhere, what she may not do, about all of a tenant.
    for what, session, told in (
        ("by another", f"{a}.mine", {"by": "user:ada", "act": "session.deleted"}),
        ("by the fabric", f"{a}.mine", {"by": "service:fabric", "act": "session.deleted"}),
        ("in another session", f"{a}.other", {"by": EVE, "act": "session.deleted"}),
        ("in another tenant", f"{b}.theirs", {"by": EVE, "act": "session.deleted"}),
        ("that she may not do", f"{a}.mine", {"by": EVE, "act": "session.deleted"}),
        ("that is none", f"{a}.mine", {"by": EVE, "act": "session.nothing"}),
        ("of a tenant", f"{a}._", {"by": EVE, "act": "tenant.released"}),
        ("of a session as of a tenant", f"{a}._", {"by": EVE, "act": "session.deleted"}),
    ):
        noted = {"bucket": "sf-audit", "key": f"{session}.0000000000000001-x"}
        value = orjson.dumps({"ts": 1, "facts": {}, **told})
        found[f"note an act {what}"] = ("bucket_put", noted, [value])
        found[f"change an act {what}"] = ("bucket_swap", {**noted, "revision": 0}, [value])
        found[f"remove an act {what}"] = ("bucket_delete", noted, [])
    for op in ("bucket_get", "bucket_history"):
        found[f"{op} of an act"] = (op, {"bucket": "sf-audit", "key": f"{a}.mine.0000000000000001-x"}, [])
    for prefix in (b, f"{b}.theirs", ">", "*"):
        found[f"entries under {prefix}"] = ("bucket_entries", {"bucket": "sf-sessions", "key": prefix, "after": 0}, [])
        found[f"latest under {prefix}"] = ("bucket_latest", {"bucket": "sf-sessions", "key": prefix, "limit": 9}, [])
    for name in ("sf-tickets", "sf-revoked"):
        found[f"entries of {name}"] = ("bucket_entries", {"bucket": name, "key": b, "after": 0}, [])
        found[f"latest of {name}"] = ("bucket_latest", {"bucket": name, "key": b, "limit": 9}, [])
    # Durable subscriptions: on everything, on others', for others, another's.
    worker = {"name": "w", "wanted": [], "ack_wait_s": 5, "max_deliver": 5, "start": "start", "id": new_id()}
    on: tuple[tuple[str, dict[str, Any]], ...] = (
        ("all of A", {"tenant": w.a, "place": None}),
        ("all of B", {"tenant": w.b, "place": None}),
        ("everybody", {"tenant": None, "place": None}),
        ("another session", {"tenant": w.a, "place": list(other.place)}),
        ("another tenant", {"tenant": w.b, "place": list(theirs.place)}),
        ("hers for B", {"tenant": w.b, "place": list(mine.place)}),
    )
    for what, told in on:
        for op in ("durable", "lag", "forget"):
            found[f"{op} on {what}"] = (op, {**worker, **told}, [])
    return found


# What nobody makes of a session, be it there or new, whom only what eve has was granted.
GOVERNED: dict[str, dict[str, Any]] = {
    "a policy": {"policy": {"when_busy": "concurrent"}},
    "a strict policy": {"policy": {"strict": True}},
    "a retention": {"retention": {"max_age_s": 1}},
    "a hold": {"holds": [{"name": "case-1", "reason": "x", "by": "operator:ann", "since": 1}]},
    "a redaction": {"redacting": [{"target": "m1", "event": "e1", "since": 1}]},
    "to be forgotten": {"forgetting": 1},
    "something owed": {"owed": True},
}


def records(w: World, now: bytes) -> dict[str, bytes]:
    """Return what eve would make of the record of a session that is hers, as it is now."""
    theirs, mine = w.stretches["theirs"], w.stretches["mine"]
    segment = {
        "id": mine.segment,
        "stream": mine.home.stream,
        "epoch": mine.home.epoch,
        "tenant": w.a,
        "session": "mine",
    }
    stolen = {
        **segment,
        "id": theirs.segment,
        "stream": theirs.home.stream,
        "tenant": w.b,
        "session": "theirs",
        "upto": 10**9,
    }
    other = {**segment, "id": w.stretches["other"].segment, "session": "other", "upto": 9}
    base = orjson.loads(now)
    made: dict[str, dict[str, Any]] = {
        "B's events as its own": {"segments": [stolen, segment]},
        "another session's events as its own": {"segments": [other, segment]},
        "another session as its source": {"segments": [other, segment], "source": "other"},
        "another name": {"session": "other"},
        "another tenant": {"tenant": w.b},
        **GOVERNED,
        "a floor": {"floor": [1, 1]},
        "more who take part": {"participants": ["user:mallory"]},
        "an end": {"state": "deleted"},
        "closed": {"state": "closed"},
        "no record": {"nothing": 1},
    }
    return {what: orjson.dumps({**base, **change}) for what, change in made.items()}


# What takes no session: who asks, and what he holds at the relay himself, by names that count for him alone.
OF_HIMSELF = {"hello", "upload", "fetch", "settle", "rest", "leave", "news_keep", "news_leave"}


async def test_no_operation_of_the_relay_is_left_out(relayed_world: World) -> None:
    tried = {op for op, _, _ in attacks(relayed_world).values()}
    assert tried | OF_HIMSELF == set(relayed_world.relay._operations)
    assert not tried & OF_HIMSELF


async def test_what_another_holds_at_the_relay_is_not_had_by_its_name(relayed_world: World) -> None:
    """The names are his who asks: under another's there is nothing."""
    told = {"tenant": relayed_world.a, "place": [relayed_world.a, "mine"], "name": "w", "wanted": [], "id": "theirs"}
    for op, more in (("fetch", {"limit": 1, "timeout_s": 0.1}), ("settle", {"number": 1, "how": "ack"}), ("rest", {})):
        with pytest.raises(BrokerUnavailable, match="not held here"):
            await relayed_world.eve._link.ask(op, {**told, **more}, timeout_s=3.0)
    for op, head in (("leave", told), ("news_leave", {"id": "theirs"}), ("news_keep", {"ids": ["theirs"]})):
        answer, _ = await relayed_world.eve._link.ask(op, head, timeout_s=3.0)
        assert answer in (None, ["theirs"])


@runs("Q3")
async def test_nothing_is_gained(relayed_world: World) -> None:
    before = await relayed_world.others()
    assert len(before) > 4
    gained = []
    for name, (op, head, blobs) in attacks(relayed_world).items():
        try:
            told, found = await relayed_world.eve._link.ask(op, head, blobs, timeout_s=3.0)
        except (Forbidden, InvalidInput, SessionGone) as error:
            answer = f"{error} {error.facts}"
        except FabricError as error:
            gained.append(f"{name}: {error.code}")
            continue
        else:
            gained.append(f"{name}: {told!r:.80}")
            answer = f"{told} {found}"
        assert "4711" not in answer, name
    assert gained == []
    assert await relayed_world.others() == before


async def test_a_record_becomes_nothing_that_its_owner_may_not_make_of_it(relayed_world: World) -> None:
    before = await relayed_world.others()
    key = Place(relayed_world.a, "mine").key()
    entry = await relayed_world.full.broker.bucket("sf-sessions").get(key)
    assert entry is not None
    assert entry.value is not None
    for what, value in records(relayed_world, entry.value).items():
        for revision in (0, entry.revision):
            head = {"bucket": "sf-sessions", "key": key, "revision": revision}
            with pytest.raises((Forbidden, InvalidInput, Conflict)):
                await relayed_world.eve._link.ask("bucket_swap", head, [value], timeout_s=3.0)
        assert await relayed_world.full.broker.bucket("sf-sessions").get(key) == entry, what
    assert await relayed_world.others() == before


async def test_a_session_is_made_with_nothing_that_its_maker_may_not_make_of_it(relayed_world: World) -> None:
    world, place = relayed_world, Place(relayed_world.a, "mine-second")
    bucket = world.full.broker.bucket("sf-sessions")
    segment = await Directory(world.full.broker).first_segment(place)
    plain = spelled(SessionRecord(tenant=world.a, session="mine-second", created=1, segments=(segment,)))
    head = {"bucket": "sf-sessions", "key": place.key(), "revision": 0}
    for what, change in GOVERNED.items():
        value = orjson.dumps({**orjson.loads(plain), **change})
        assert parse(value) is not None, what
        with pytest.raises(Forbidden):
            await world.eve._link.ask("bucket_swap", head, [value], timeout_s=3.0)
        assert await bucket.get(place.key()) is None, what
    await world.eve._link.ask("bucket_swap", head, [plain], timeout_s=3.0)


async def test_what_others_have_does_not_show_in_lists(relayed_world: World) -> None:
    for bucket in ("sf-sessions", "sf-state", "sf-presence", "sf-cursors"):
        with pytest.raises(Forbidden):
            await relayed_world.eve.bucket(bucket).latest(escape(relayed_world.b), limit=1000)
        for prefix in ("", escape(relayed_world.a)):
            for entry in await relayed_world.eve.bucket(bucket).entries(prefix):
                assert entry.key.startswith(Place(relayed_world.a, "mine").key())
            for dated in await relayed_world.eve.bucket(bucket).latest(prefix, limit=1000):
                assert dated.entry.key.startswith(Place(relayed_world.a, "mine").key())


@runs("Q4")
async def test_who_names_another_inbox_is_not_answered(relayed_world: World) -> None:
    """The relay's answer is sent with the fabric's rights: to a stream's subject it would be stored."""
    before = await relayed_world.others()
    connection = relayed_world.eve._dial.connection
    stored = Place(relayed_world.b, "theirs").stored("ev", NO_NAME, EVE)
    for inbox in (stored, f"_INBOX_.{escape(relayed_world.b)}.x", "$JS.API.STREAM.DELETE.SESSIONS-00", ""):
        subject = f"sf-svc.{escape(relayed_world.a)}.{escape(EVE)}.hello"
        await connection.publish(subject, pack({}), reply=inbox)
    await relayed_world.eve._link.ask("hello", {})  # all before it was heard
    assert await relayed_world.others() == before


async def test_what_an_agent_completes_is_its_own(relayed_world: World) -> None:
    """Its own name stands beside what it says, whatever the body says."""
    body = orjson.dumps({"type": MESSAGE_COMPLETED, "actor": "user:ada", "message": {"id": "m2", "role": "user"}})
    draft = Draft(MESSAGE_COMPLETED, body, new_id(), "ev", NO_NAME, EVE, EVE)
    ack = await relayed_world.eve.log.publish(relayed_world.stretches["mine"], draft)
    (stored,) = [
        r
        for r in await everything(relayed_world.full.broker, relayed_world.stretches["mine"])
        if r.sequence == ack.sequence
    ]
    assert stored.actor == EVE


async def test_where_a_list_goes_on_tells_nothing_of_another_tenant(relayed_world: World) -> None:
    """Revisions are counted for the whole bucket: each `next` is one of the own tenant's, and none of another's."""
    world = relayed_world
    theirs = world.full.view(tenant=world.b)
    for number in range(300):  # more than one look at what may not be seen
        await world.full.session(f"hidden-{number}").create()
        await theirs.session(f"theirs-{number}").create()
        await theirs.session(f"more-{number}").create()  # so that looks of an even number end at either
    bucket = world.full.broker.bucket("sf-sessions")
    of = {tenant: {entry.revision for entry in await bucket.entries(escape(tenant))} for tenant in (world.a, world.b)}
    for prefix in ("", escape(world.a)):
        said, seen = list[int](), list[str]()
        before: int | None = None
        while True:
            asked = {"bucket": "sf-sessions", "key": prefix, "limit": 1, "before": before}
            told, _ = await world.eve._link.ask("bucket_latest", asked)
            seen += [entry[0] for entry in told["entries"]]
            if (before := told["next"]) is None:
                break
            said.append(before)
        assert said == sorted(set(said), reverse=True)
        assert set(said) <= of[world.a]
        assert not set(said) & of[world.b]
        assert seen == [Place(world.a, "mine").key()]


async def test_an_agent_without_keys_makes_nothing_that_lies_open_beside_what_is_sealed(relayed_world: World) -> None:
    world = relayed_world
    ring = Keys({OTHERS: [TenantKey("k1", b"1" * 32)]})
    sealing = await Fabric.over(world.full.broker, tenant=world.a, participant="agent:writer", keys=ring)
    await sealing.session("sealed").append({"type": "app.note"})  # which eve does not see
    eve = await Fabric.over(world.eve, tenant=world.a, participant=EVE)
    with pytest.raises(KeyMissing, match="made without it, this would lie open"):
        await eve.session("mine-second").create()
    assert await world.full.broker.bucket("sf-sessions").get(Place(world.a, "mine-second").key()) is None

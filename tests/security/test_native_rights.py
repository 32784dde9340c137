"""What the broker refuses those whom it has let in by a token."""

from __future__ import annotations

import contextlib
from typing import Any

from nats.errors import Error as NatsError
from session_fabric.rules.permissions import BUCKETS, permissions
from session_fabric.words.packing import pack
from session_fabric.words.subjects import (
    Place,
    call_subject,
    heard_of_session,
    heard_of_tenant,
    inbox_prefix,
    service_subject,
    stamp_of,
)

from tests.security.attacks import runs
from tests.security.native_world import HELPER, Visitor, World
from tests.support.waiting import eventually


def forbidden(world: World) -> tuple[dict[str, str], dict[str, str]]:
    """Return what may not be published to, and what may not be heard, by name."""
    mine, other = Place(world.tenant, "chat-1"), Place(f"{world.tenant}b", "chat-1")
    theirs, stamp = inbox_prefix(world.tenant, "agent:other"), stamp_of(world.tenant, "agent:other")
    publish = {
        "a session's log": mine.stored("ev", "_", HELPER),
        "another tenant's log": other.stored("ev", "_", HELPER),
        "live events": f"sf-live.{world.tenant}.chat-1.ev._.x",
        "signals": mine.signals(),
        "a bucket": "$KV.sf-sessions.x",
        "JetStream's API": "$JS.API.INFO",
        "making a consumer": "$JS.API.CONSUMER.CREATE.sf-log-0.x",
        "reading a stream": "$JS.API.DIRECT.GET.sf-log-0",
        "purging a stream": "$JS.API.STREAM.PURGE.sf-log-0",
        "an ack": "$JS.ACK.x",
        "the system": "$SYS.REQ.SERVER.PING",
        "who is connected": "$SYS.REQ.ACCOUNT.PING.CONNZ",
        "kicking": "$SYS.REQ.SERVER.X.KICK",
        "the question who may come in": "$SYS.REQ.USER.AUTH",
        "another's services": service_subject(world.tenant, "agent:other", "hello"),
        "another tenant's services": service_subject(f"{world.tenant}b", HELPER, "hello"),
        "a gateway's services": service_subject(world.tenant, "service:gateway", "hello"),
        "another's inbox": f"{theirs}.x",
        "inboxes": "_INBOX.x",
        "another's process": call_subject(f"{stamp}.{stamp}ABCDEFGHJKMN.alive"),
        "anything": "foo",
        "everything": ">",
    }
    subscribe = {
        "everything": ">",
        "logs": "sf.>",
        "another tenant's live events": f"sf-live.{world.tenant}b.>",
        "all tenants' live events": "sf-live.>",
        "another tenant's signals": other.signals(),
        "all signals": "sf-sig.>",
        "leases": f"sf-kv.sf-leases.{world.tenant}.>",
        "claims": f"sf-kv.sf-claims.{world.tenant}.>",
        "tickets": "sf-kv.sf-tickets.>",
        "revocations": "sf-kv.sf-revoked.>",
        "another tenant's documents": f"sf-kv.sf-state.{world.tenant}b.>",
        "JetStream's API": "$JS.>",
        "advisories": "$JS.EVENT.>",
        "buckets": "$KV.>",
        "the system": "$SYS.>",
        "connections that end": "$SYS.ACCOUNT.*.DISCONNECT",
        "the question who may come in": "$SYS.REQ.USER.AUTH",
        "services": "sf-svc.>",
        "its own services": service_subject(world.tenant, HELPER, ">"),
        "another's inboxes": f"{theirs}.>",
        "all inboxes of the tenant": f"_INBOX_.{world.tenant}.>",
        "inboxes": "_INBOX.>",
        "another's calls": f"sf-call.{stamp}.>",
        "all calls": "sf-call.>",
        "another's answers": f"sf-answer.{stamp}.*",
        "anything": "foo",
    }
    return publish, subscribe


@runs("Q1", "Q2", "Q8")
async def test_the_broker_refuses_all_but_what_is_ones_own(world: World) -> None:
    publish, subscribe = forbidden(world)
    for kind, tried in (("publish", publish), ("subscription", subscribe)):
        for name, subject in tried.items():
            async with world.inside(world.token()) as visitor:
                if kind == "publish":
                    with contextlib.suppress(NatsError):
                        await visitor.client.publish(subject, b"{}")
                else:
                    await visitor.client.subscribe(subject)
                    # A queue group is asked for otherwise, and is no way around it.
                    await visitor.client.subscribe(subject, queue="q")
                await visitor.client.flush()

                def told(kind: str = kind, name: str = name, visitor: Visitor = visitor) -> bool:
                    errors = [error for error in visitor.errors if f"permissions violation for {kind}" in error]
                    assert len(errors) == (1 if kind == "publish" else 2), (kind, name, visitor)
                    return True

                if (kind, name) != ("publish", "everything"):  # that is no subject to publish to
                    await eventually(told)


async def test_the_broker_does_not_refuse_what_is_ones_own(world: World) -> None:
    rights = permissions(world.tenant, HELPER)
    async with world.inside(world.token()) as visitor:
        for subject in rights.subscribe_allow:
            await visitor.client.subscribe(subject)
        for subject in rights.publish_allow:
            await visitor.client.publish(subject.replace(">", "x").replace("*", "x"), b"")
        await visitor.client.flush()
        assert visitor.errors == []


@runs("Q4")
async def test_one_hears_nothing_of_a_publish_whose_reply_is_anothers(world: World) -> None:
    # What is sent for one goes with another's rights: only answers to one's own inbox are sent at all.
    async with world.inside(world.token()) as visitor:
        heard: list[bytes] = []
        reply = Place(world.tenant, "chat-1").signals()

        async def hear(message: Any) -> None:
            heard.append(message.data)

        await visitor.client.subscribe(reply, cb=hear)
        await visitor.client.publish(service_subject(world.tenant, HELPER, "hello"), pack({}), reply=reply)
        answer = await visitor.client.request(
            service_subject(world.tenant, HELPER, "hello"), pack({}), headers={"Sf-Token": world.token()}, timeout=5
        )
        assert b"instance" in answer.data
        await visitor.client.flush()
        assert heard == []


@runs("Q2")
async def test_a_token_for_one_session_lets_one_hear_of_that_alone(world: World) -> None:
    mine, other = Place(world.tenant, "mine"), Place(world.tenant, "other")
    async with world.inside(world.token(sessions={"mine": ["read"], "other": ["append"]})) as visitor:
        for subject in heard_of_session(mine, BUCKETS):
            await visitor.client.subscribe(subject)
        await visitor.client.flush()
        assert visitor.errors == []
        tried = [*heard_of_session(other, BUCKETS), *heard_of_tenant(world.tenant, BUCKETS)]
        for subject in tried:
            await visitor.client.subscribe(subject)
        await eventually(lambda: len(visitor.errors) == len(tried))


async def test_patterns_of_names_let_one_hear_of_nothing_at_the_broker(world: World) -> None:
    async with world.inside(world.token(sessions={"support-*": ["read"], "a": ["read"]})) as visitor:
        await visitor.client.subscribe(Place(world.tenant, "a").live_filter())
        await visitor.client.flush()
        assert visitor.errors == []
        await visitor.client.subscribe(Place(world.tenant, "support-1").live_filter())
        await eventually(lambda: len(visitor.errors) == 1)


async def test_a_session_whose_tokens_were_revoked_is_not_heard(world: World) -> None:
    await world.revoke("session", "secret")
    token = world.token()
    heard: list[str] = []

    async def hear(message: Any) -> None:
        heard.append(message.subject)

    async with world.inside(token) as visitor:
        await visitor.client.subscribe(f"sf-live.{world.tenant}.>", cb=hear)
        await visitor.client.flush()
        for name in ("secret", "open"):
            await world.fabric.session(name).append({"type": "app.note"})
        await eventually(lambda: heard)
        await visitor.client.flush()
        assert {subject.split(".")[2] for subject in heard} == {"open"}

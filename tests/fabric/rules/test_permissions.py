"""The exact rights of a native agent."""

from __future__ import annotations

import pytest
from session_fabric.rules.permissions import is_stamped, permissions
from session_fabric.words.errors import Forbidden, InvalidName, InvalidRequest
from session_fabric.words.subjects import holder_of, stamp_of


def test_an_agent_of_a_tenant_asks_as_itself_and_hears_its_tenants_sessions() -> None:
    stamp = stamp_of("acme", "agent:x")
    rights = permissions("acme", "agent:x")
    assert rights.publish_allow == ("sf-svc.acme.agent=3Ax.>", "sf-call.*.*.pool.acme.>", "sf-answer.*.*")
    assert rights.subscribe_allow == (
        "_INBOX_.acme.agent=3Ax.>",
        f"sf-answer.{stamp}.*",
        f"sf-call.{stamp}.*.>",
        "sf-live.acme.>",
        "sf-sig.acme.*",
        "sf-kv.sf-sessions.acme.>",
        "sf-kv.sf-state.acme.>",
        "sf-kv.sf-presence.acme.>",
        "sf-kv.sf-cursors.acme.>",
    )
    assert rights.inbox == "_INBOX_.acme.agent=3Ax"


def test_an_agent_of_named_sessions_hears_those_alone() -> None:
    rights = permissions("acme", "agent:x", sessions=["chat:1"])
    assert rights.subscribe_allow[3:] == (
        "sf-live.acme.chat=3A1.>",
        "sf-sig.acme.chat=3A1",
        "sf-kv.sf-sessions.acme.chat=3A1",
        "sf-kv.sf-state.acme.chat=3A1",
        "sf-kv.sf-presence.acme.chat=3A1",
        "sf-kv.sf-cursors.acme.chat=3A1",
        "sf-kv.sf-sessions.acme.chat=3A1.>",
        "sf-kv.sf-state.acme.chat=3A1.>",
        "sf-kv.sf-presence.acme.chat=3A1.>",
        "sf-kv.sf-cursors.acme.chat=3A1.>",
    )


def test_one_process_answers_to_its_own_name_alone() -> None:
    holder = holder_of("acme", "agent:x")
    rights = permissions("acme", "agent:x", holder)
    assert rights.subscribe_allow[2] == f"sf-call.{holder[:8]}.{holder}.>"
    assert is_stamped(holder, "acme", "agent:x")
    assert not is_stamped(holder, "acme", "agent:y")
    assert not is_stamped(holder, "acme2", "agent:x")


@pytest.mark.parametrize("sessions", [["*"], [">"], ["a.b"], ["chat-*"], [""], ["a b"], ["a", "."]])
def test_a_session_is_named_and_never_a_pattern(sessions: list[str]) -> None:
    with pytest.raises(InvalidName):
        permissions("acme", "agent:x", sessions=sessions)


@pytest.mark.parametrize("tenant", ["*", ">", "a.b", "a b", "", "_gw", "a>"])
def test_a_tenant_is_never_a_pattern(tenant: str) -> None:
    with pytest.raises(InvalidName):
        permissions(tenant, "agent:x")


@pytest.mark.parametrize("participant", ["agent:*", "agent:>", "agent:", "gw", "agent:a b", "nobody:x", "agent:a\r\n"])
def test_a_participant_is_never_a_pattern(participant: str) -> None:
    with pytest.raises(InvalidName):
        permissions("acme", participant)


def test_no_name_becomes_more_than_one_token_or_a_wildcard() -> None:
    rights = permissions("acme", "agent:a.b/c\\d$é", sessions=["x:y@z~"])
    for subject in (*rights.publish_allow, *rights.subscribe_allow):
        assert subject.isascii()
        assert " " not in subject
    assert rights.publish_allow[0] == "sf-svc.acme.agent=3Aa=2Eb=2Fc=5Cd=24=C3=A9.>"


def test_users_come_through_gateways() -> None:
    with pytest.raises(Forbidden):
        permissions("acme", "user:ada")


def test_a_holder_of_somebody_else_is_refused() -> None:
    for holder in (holder_of("acme", "agent:y"), "*", ">", stamp_of("acme", "agent:x") + "." * 12, ""):
        with pytest.raises(InvalidRequest):
            permissions("acme", "agent:x", holder)

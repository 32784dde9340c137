"""Revocations: what stands, and which tokens it is about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.rules.revocations import (
    LONGEST_S,
    Revocation,
    Revoked,
    parse_revocation,
    revocation,
)
from session_fabric.words.errors import InvalidInput

NOW = 1_764_000_000_000
HOUR_MS = 3_600_000

TENANTS = st.sampled_from(["acme", "other"])
NAMED = st.one_of(
    st.tuples(
        st.just("token"), st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=9)
    ),
    st.tuples(st.just("participant"), st.sampled_from(["user:ada", "user:bob", "agent:a.b"])),
    st.tuples(st.just("session"), st.sampled_from(["chat-42", "a:b@c~d"])),
)
ALL = st.builds(
    lambda tenant, named, before, until: Revocation(tenant, named[0], named[1], before, until),
    TENANTS,
    NAMED,
    st.integers(0, NOW),
    st.integers(0, NOW),
)


def of(kind: str, name: str, *, before_ms: int = NOW, tenant: str = "acme") -> Revocation:
    return revocation(tenant, kind, name, now_ms=NOW, before_ms=before_ms, for_s=3600)  # type: ignore[arg-type]


def revoked(*standing: Revocation) -> Revoked:
    table = Revoked()
    for one in standing:
        assert table.put(one)
    return table


@given(ALL)
def test_a_revocation_is_read_as_it_was_written(one: Revocation) -> None:
    assert parse_revocation(one.key, one.spell()) == one


@given(ALL, ALL)
def test_no_two_things_share_a_key(one: Revocation, two: Revocation) -> None:
    same = (one.tenant, one.of, one.name) == (two.tenant, two.of, two.name)
    assert (one.key == two.key) is same


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("acme.token.j1", b""),
        ("acme.token.j1", b"{}"),
        ("acme.token.j1", b'{"before_ms":"1","until_ms":2}'),
        ("acme.token.j1", b'{"before_ms":1,"until_ms":2,"more":3}'),
        ("acme.else.j1", b'{"before_ms":1,"until_ms":2}'),
        ("acme.token", b'{"before_ms":1,"until_ms":2}'),
    ],
)
def test_what_is_no_revocation_is_not_taken_for_one(key: str, value: bytes) -> None:
    assert parse_revocation(key, value) is None


def test_a_token_is_revoked_by_its_id_whenever_it_was_issued() -> None:
    table = revoked(of("token", "j1"))
    assert table.covers("acme", "user:ada", "j1", NOW + HOUR_MS) == "token"
    assert table.covers("acme", "user:ada", "j2", 0) is None
    assert table.covers("acme", "user:ada", None, 0) is None
    assert table.covers("other", "user:ada", "j1", 0) is None


def test_of_a_participant_the_tokens_issued_before_are_revoked() -> None:
    table = revoked(of("participant", "user:ada"))
    assert table.covers("acme", "user:ada", "j1", NOW - 1) == "participant"
    assert table.covers("acme", "user:ada", None, 0) == "participant"
    assert table.covers("acme", "user:ada", "j1", NOW) is None
    assert table.covers("acme", "user:bob", "j1", 0) is None
    assert table.covers("other", "user:ada", "j1", 0) is None


def test_for_a_session_the_tokens_issued_before_count_no_more() -> None:
    table = revoked(of("session", "chat-42"), of("session", "chat-7", before_ms=NOW - HOUR_MS))
    assert table.covers("acme", "user:ada", "j1", 0) is None
    assert table.sessions("acme", NOW - 1) == {"chat-42"}
    assert table.sessions("acme", 0) == {"chat-42", "chat-7"}
    assert table.sessions("acme", NOW) == frozenset()
    assert table.sessions("other", 0) == frozenset()


@given(st.lists(st.tuples(st.booleans(), ALL), max_size=20))
def test_what_is_dropped_leaves_nothing_behind(steps: list[tuple[bool, Revocation]]) -> None:
    table, known = Revoked(), dict[str, Revocation]()
    for keep, one in steps:
        if keep:
            assert table.put(one) is (known.get(one.key) != one)
            known[one.key] = one
        else:
            table.drop(one.key)
            known.pop(one.key, None)
    assert table.keys() == set(known)
    for key, one in known.items():
        if one.of == "token":
            assert table.covers(one.tenant, "user:x", one.name, 0) == "token", key
    for one in known.values():
        table.drop(one.key)
    assert (table.keys(), table._named, table._sessions) == (frozenset(), {}, {})


@given(ALL, st.integers(0, NOW), st.integers(0, NOW))
def test_saying_it_again_never_makes_it_weaker(one: Revocation, before_ms: int, until_ms: int) -> None:
    again = Revocation(one.tenant, one.of, one.name, before_ms, until_ms).with_older(one)
    assert again.before_ms == max(before_ms, one.before_ms)
    assert again.until_ms == max(until_ms, one.until_ms)
    assert one.with_older(None) == one


@pytest.mark.parametrize(
    ("kind", "name", "before_ms", "for_s"),
    [
        ("token", "", None, 60),
        ("token", "x" * 256, None, 60),
        ("token", "a\nb", None, 60),
        ("participant", "ada", None, 60),
        ("participant", "user:*", None, 60),
        ("session", "chat.>", None, 60),
        ("session", "chat", NOW + 1, 60),
        ("session", "chat", -1, 60),
        ("session", "chat", None, 0),
        ("session", "chat", None, LONGEST_S + 1),
    ],
)
def test_what_cannot_be_revoked_is_refused(kind: str, name: str, before_ms: int | None, for_s: int) -> None:
    with pytest.raises(InvalidInput):
        revocation("acme", kind, name, now_ms=NOW, before_ms=before_ms, for_s=for_s)  # type: ignore[arg-type]

"""Keys rotate without a restart, and an issuer that is down takes nobody with it who is known."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from session_fabric.rules.revocations import Revoked
from session_fabric.words.errors import InvalidRequest, KeysUnavailable, Unauthenticated
from session_fabric_gateway.tokens.issuer import Jwks
from session_fabric_gateway.tokens.keys import Key, secret_key
from session_fabric_gateway.tokens.sources import KeyFile, KeyKeeper
from session_fabric_gateway.tokens.verifier import JwtAuthenticator

from tests.gateway.tokens.signing import Issuer, issuer, jwk, jwks, pem, private_key, secret_jwk, token
from tests.support.waiting import eventually

ONE, TWO = private_key("EdDSA", 1), private_key("EdDSA", 2)
SECRET = "thirty-two bytes of secret, really"


@asynccontextmanager
async def trusting(keeper: KeyKeeper) -> AsyncIterator[JwtAuthenticator]:
    async with keeper:
        yield JwtAuthenticator(keeper, Revoked())


def published(one: Issuer, *, at_least_s: float = 0.0, max_age_s: float = 300.0) -> Jwks:
    return Jwks(one.url, at_least_s=at_least_s, max_age_s=max_age_s)


async def good(one: JwtAuthenticator, made: str) -> bool:
    try:
        return bool((await one.authenticate(made)).participant)
    except Unauthenticated:
        return False


def replace(path: Path, text: str) -> None:
    """Write a file as those who rotate keys do: whole or not at all."""
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.replace(path)


# --- files --------------------------------------------------------------------------------------------


async def test_keys_in_a_file_rotate_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(jwks(jwk("EdDSA", ONE, "k1")))
    old, new = token(key=ONE, kid="k1"), token(key=TWO, kid="k2")
    async with trusting(KeyKeeper(file=KeyFile(path), look_s=0.01)) as one:
        assert (await good(one, old), await good(one, new)) == (True, False)
        replace(path, jwks(jwk("EdDSA", ONE, "k1"), jwk("EdDSA", TWO, "k2")))
        await eventually(lambda: good(one, new))
        assert await good(one, old)
        replace(path, jwks(jwk("EdDSA", TWO, "k2")))

        async def ended() -> bool:
            return not await good(one, old)

        await eventually(ended)
        assert await good(one, new)


@pytest.mark.parametrize("broken", ["", "{", jwks(), "-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----"])
async def test_a_file_that_is_broken_for_a_while_changes_nothing(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "keys.pem"
    path.write_text(pem(ONE))
    file = KeyFile(path)
    replace(path, broken)
    assert not file.changed()
    path.unlink()
    assert not file.changed()
    assert not file.changed()
    assert [key.algorithm for key in file.keys] == ["EdDSA"]
    path.write_text(pem(ONE) + pem(TWO))
    assert file.changed()
    assert not file.changed()
    assert len(file.keys) == 2


async def test_keys_that_do_not_go_together_leave_those_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(jwks(jwk("EdDSA", ONE, "k1")))
    keeper = KeyKeeper(file=KeyFile(path), look_s=0.01)
    async with trusting(keeper) as one:
        replace(path, jwks(jwk("EdDSA", ONE, "k1"), jwk("EdDSA", TWO, "k1")))
        replace(path, jwks(jwk("EdDSA", TWO, "k2")))
        await eventually(lambda: good(one, token(key=TWO, kid="k2")))


@pytest.mark.parametrize("name", ["nothing.json", "."])
def test_a_file_that_cannot_be_read_is_said_at_the_start(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        KeyFile(tmp_path / name)


def test_a_file_that_is_not_text_is_said_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "keys.der"
    path.write_bytes(os.urandom(64) + b"\xff\xfe")
    with pytest.raises(InvalidRequest):
        KeyFile(path)


# --- an issuer ----------------------------------------------------------------------------------------


async def test_a_key_that_an_issuer_has_begun_to_use_is_fetched_when_a_token_names_it() -> None:
    async with issuer(jwk("EdDSA", ONE, "k1")) as there, trusting(KeyKeeper(jwks=published(there))) as one:
        assert await good(one, token(key=ONE, kid="k1"))
        assert there.asked == 1
        there.keys = [jwk("EdDSA", ONE, "k1"), jwk("EdDSA", TWO, "k2")]
        assert await good(one, token(key=TWO, kid="k2"))
        assert there.asked == 2
        for number in range(5):
            assert await good(one, token(key=TWO, kid="k2", jti=f"t{number}"))
        assert there.asked == 2


async def test_keys_are_fetched_again_when_they_are_old() -> None:
    async with (
        issuer(jwk("EdDSA", ONE, "k1")) as there,
        trusting(KeyKeeper(jwks=published(there, max_age_s=0.02), look_s=0.01)) as one,
    ):
        old = token(key=ONE, kid="k1")
        assert await good(one, old)
        there.keys = [jwk("EdDSA", TWO, "k2")]  # the old one was stolen

        async def ended() -> bool:
            return not await good(one, old)

        await eventually(ended)


async def test_while_an_issuer_is_down_known_keys_go_on_to_work_and_others_are_worth_a_retry() -> None:
    async with (
        issuer(jwk("EdDSA", ONE, "k1")) as there,
        trusting(KeyKeeper(jwks=published(there, max_age_s=0.02), look_s=0.01)) as one,
    ):
        there.down = True
        asked = there.asked
        await eventually(lambda: there.asked > asked + 2)
        assert await good(one, token(key=ONE, kid="k1", jti="known"))
        with pytest.raises(KeysUnavailable) as refused:
            await one.authenticate(token(key=TWO, kid="k2"))
        assert refused.value.retryable
        assert refused.value.facts["retry_after_ms"] > 0
        there.keys, there.down = [jwk("EdDSA", TWO, "k2")], False
        assert await good(one, token(key=TWO, kid="k2"))


async def test_an_issuer_that_is_down_from_the_start_is_found_when_it_is_there() -> None:
    async with issuer() as there:
        there.down = True
        async with trusting(KeyKeeper(jwks=published(there), look_s=0.01)) as one:
            with pytest.raises(KeysUnavailable):
                await one.authenticate(token(key=ONE, kid="k1"))
            there.keys, there.down = [jwk("EdDSA", ONE, "k1")], False
            assert await good(one, token(key=ONE, kid="k1"))


async def test_tokens_of_unknown_keys_do_not_make_us_hammer_an_issuer() -> None:
    async with (
        issuer(jwk("EdDSA", ONE, "k1")) as there,
        trusting(KeyKeeper(jwks=published(there, at_least_s=10.0))) as one,
    ):
        for number in range(50):
            with pytest.raises(KeysUnavailable) as refused:
                await one.authenticate(token(key=TWO, kid=f"k{number + 2}"))
            assert 0 < refused.value.facts["retry_after_ms"] <= 10_000
        assert there.asked == 1


async def test_many_who_wait_for_one_key_cause_one_question() -> None:
    async with issuer(jwk("EdDSA", ONE, "k1")) as there, trusting(KeyKeeper(jwks=published(there))) as one:
        there.keys = [jwk("EdDSA", TWO, "k2")]
        made = [token(key=TWO, kid="k2", jti=f"t{number}") for number in range(20)]
        assert all(await asyncio.gather(*(good(one, each) for each in made)))
        assert there.asked == 2


async def test_when_the_issuer_was_asked_an_unknown_key_is_none() -> None:
    async with issuer(jwk("EdDSA", ONE, "k1")) as there, trusting(KeyKeeper(jwks=published(there))) as one:
        with pytest.raises(Unauthenticated) as refused:
            await one.authenticate(token(key=TWO, kid="k2"))
        assert refused.value.facts["reason"] == "key"
        with pytest.raises(Unauthenticated) as refused:
            await one.authenticate(token(key=TWO, kid="k1"))
        assert refused.value.facts["reason"] == "signature"
        assert there.asked == 2  # a key that is known by its name is not asked for


ODD: list[dict[str, Any]] = [
    {"body": b"no JSON"},
    {"body": b"[]"},
    {"body": jwks(secret_jwk(SECRET.encode(), "k2")).encode()},
    {"body": b'{"keys":[' + b" " * 300_000 + b"]}"},
    {"body": json.dumps({"keys": [jwk("EdDSA", TWO, f"k{n}") for n in range(65)]}).encode()},
    {"down": True},
]


@pytest.mark.parametrize("odd", ODD, ids=["text", "a list", "a secret", "too much", "too many", "down"])
async def test_whatever_an_issuer_answers_the_keys_that_are_known_stay(odd: dict[str, Any]) -> None:
    async with issuer(jwk("EdDSA", ONE, "k1")) as there, trusting(KeyKeeper(jwks=published(there))) as one:
        for name, value in odd.items():
            setattr(there, name, value)
        with pytest.raises(KeysUnavailable):
            await one.authenticate(token(key=TWO, kid="k2"))
        assert await good(one, token(key=ONE, kid="k1"))


async def test_an_issuer_that_sends_us_elsewhere_is_not_followed() -> None:
    async with (
        issuer(jwk("EdDSA", TWO, "k2")) as elsewhere,
        issuer() as there,
        trusting(KeyKeeper(jwks=published(there))) as one,
    ):
        there.status, there.headers = 302, {"Location": elsewhere.url}
        with pytest.raises(KeysUnavailable):
            await one.authenticate(token(key=TWO, kid="k2"))
        assert elsewhere.asked == 0


async def test_a_key_of_our_own_counts_above_one_that_an_issuer_publishes_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(jwks(jwk("EdDSA", ONE, "k1")))
    async with (
        issuer(jwk("EdDSA", TWO, "k1")) as there,
        trusting(KeyKeeper(file=KeyFile(path), jwks=published(there))) as one,
    ):
        assert await good(one, token(key=ONE, kid="k1"))
        assert not await good(one, token(key=TWO, kid="k1"))


async def test_keys_without_names_do_not_hide_an_issuers_new_one(tmp_path: Path) -> None:
    path = tmp_path / "keys.pem"
    path.write_text(pem(ONE))
    async with issuer() as there, trusting(KeyKeeper(file=KeyFile(path), jwks=published(there))) as one:
        there.keys = [jwk("EdDSA", TWO, "k2")]
        assert await good(one, token(key=TWO, kid="k2"))
        assert await good(one, token(key=ONE, kid="k3"))
        assert await good(one, token(key=ONE, kid=None))


async def test_tokens_of_a_secret_cause_no_questions() -> None:
    fixed: list[Key] = [secret_key(SECRET)]
    async with issuer(jwk("EdDSA", ONE, "k1")) as there, trusting(KeyKeeper(fixed, jwks=published(there))) as one:
        assert await good(one, token("HS256", SECRET.encode(), kid=None))
        assert not await good(one, token("HS256", b"x" * 32, kid="k9"))
        assert there.asked == 1

"""`fabricctl token …`: what it makes gateways take, and what it revokes they refuse."""

from __future__ import annotations

import io
import json
import stat
import sys
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from session_fabric_cli.main import run
from session_fabric_gateway.tokens.keys import check_together, read_keys, secret_key

from tests.support.servers import NatsNode

Capture = pytest.CaptureFixture[str]
SECRET = "thirty-two bytes of secret, really"


@pytest.fixture
def key(tmp_path: Path, capsys: Capture) -> Path:
    path = tmp_path / "signing.json"
    assert run(["token", "keygen", str(path)]) == 0
    capsys.readouterr()
    return path


def mint(key: Path, capsys: Capture, *options: str) -> str:
    assert run(["token", "mint", "--key", str(key), "--sub", "user:ada", *options]) == 0
    return capsys.readouterr().out.strip()


def verified(token: str, public: str) -> dict[str, Any]:
    """Return a token's claims, by what a gateway would take for its keys."""
    header = jwt.get_unverified_header(token)
    ring = check_together([secret_key(public)] if public == SECRET else read_keys(public, "f"))
    found = ring.find(header.get("kid"), header["alg"])
    assert found
    claims: dict[str, Any] = jwt.decode(
        token, found[0].material, algorithms=[found[0].algorithm], options={"verify_aud": False}
    )
    return claims


def failed(arguments: list[str], capsys: Capture) -> str:
    """Run a command that was called wrongly; return what it says."""
    assert run(["token", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "defect" not in captured.err
    return captured.err


def test_a_key_is_made_for_its_owner_alone_and_never_overwritten(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "new" / "signing.json"
    assert run(["token", "keygen", str(path), "--kid", "2026-11"]) == 0
    assert capsys.readouterr().out == "2026-11\n"
    public = path.with_name("signing.public.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "d" in json.loads(path.read_text())
    assert [(k.algorithm, k.kid) for k in read_keys(public.read_text(), "f")] == [("EdDSA", "2026-11")]
    made = path.read_bytes()
    assert "is there already" in failed(["keygen", str(path)], capsys)
    assert path.read_bytes() == made
    path.unlink()
    assert "is there already" in failed(["keygen", str(path)], capsys)
    assert not path.exists()
    assert "cannot be written" in failed(["keygen", "/dev/null/signing.json"], capsys)


def test_a_token_says_what_it_was_told_to(key: Path, capsys: Capture) -> None:
    now = int(time.time())
    made = mint(
        key,
        capsys,
        *(
            "--tenant",
            "acme",
            "--session",
            "chat-*=read,append",
            "--session",
            "chat-*=answer",
            "--session",
            "x=state:plan",
        ),
        *("--ttl", "90s", "--issuer", "https://id.example", "--audience", "fabric", "--id", "t1"),
    )
    claims = verified(made, key.with_name("signing.public.json").read_text())
    assert now <= claims["iat"] <= now + 60
    assert claims == {
        "sub": "user:ada",
        "tenant": "acme",
        "iat": claims["iat"],
        "exp": claims["iat"] + 90,
        "jti": "t1",
        "sessions": {"chat-*": ["read", "append", "answer"], "x": ["state:plan"]},
        "iss": "https://id.example",
        "aud": "fabric",
    }


def test_two_tokens_have_two_ids(key: Path, capsys: Capture) -> None:
    ids = {jwt.decode(mint(key, capsys), options={"verify_signature": False})["jti"] for _ in range(2)}
    assert len(ids) == 2


def _pem(private: Any) -> tuple[str, str]:
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(), public.decode()


@pytest.mark.parametrize(
    ("private", "public"),
    [
        _pem(ed25519.Ed25519PrivateKey.generate()),
        _pem(ec.generate_private_key(ec.SECP256R1())),
        _pem(rsa.generate_private_key(65537, 2048)),
        (SECRET + "\n", SECRET),
    ],
    ids=["EdDSA", "ES256", "RS256", "HS256"],
)
def test_keys_of_every_kind_that_gateways_take_can_sign(
    private: str, public: str, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "key"
    path.write_text(private)
    made = mint(path, capsys)
    assert verified(made, public)["sub"] == "user:ada"
    assert run(["token", "inspect", made, "--key", str(path)]) == 0


def _locked() -> str:
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("short", "too short"),
        ("{", "cannot be read as a JWK"),
        ('{"kty":"OKP"}', "cannot be read as a JWK"),
        ('{"keys":[]}', "has 0 keys"),
        ('{"keys":7}', "cannot be read as a JWK"),
        ("-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----", "cannot be read as PEM"),
        (_locked(), "passphrase"),
        (_pem(ed25519.Ed25519PrivateKey.generate())[1], "public key"),
        (_pem(rsa.generate_private_key(65537, 1024))[0], "kind that gateways do not take"),
        (_pem(ec.generate_private_key(ec.SECP384R1()))[0], "kind that gateways do not take"),
    ],
)
def test_what_is_no_key_is_said_without_telling_it(
    text: str | None, said: str, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "key"
    if text is not None:
        path.write_text(text)
    told = failed(["mint", "--key", str(path), "--sub", "user:ada"], capsys)
    assert said in told
    assert text is None or len(text) < 10 or text not in told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sub", "ada"], "'ada' is not a participant"),
        (["--tenant", "a.b"], "tenant"),
        (["--ttl", "31d"], "'31d' is no time"),
        (["--ttl", "0s"], "'0s' is no time"),
        (["--ttl", "1w"], "'1w' is no time"),
        (["--ttl", "-1h"], "is no time"),
        (["--session", "chat"], "says no operations"),
        (["--session", "chat-*=raed"], "raed"),
        (["--session", "chat.>=read"], "chat.>"),
        (["--session", "chat="], "no operation"),
        (["--id", "a\nb"], "token's id"),
    ],
)
def test_a_token_that_gateways_would_refuse_is_not_made(
    options: list[str], said: str, key: Path, capsys: Capture
) -> None:
    assert said in failed(["mint", "--key", str(key), "--sub", "user:ada", *options], capsys)


@pytest.mark.parametrize(
    "pattern",
    ["/../*", "/.", "/a/../b", "/a/./*", "/a/..", "/__ds", "/__ds/../a", f"/{'é' * 257}", f"/{'é' * 257}*"],
)
def test_a_grant_of_paths_that_no_stream_can_have_is_not_made(key: Path, capsys: Capture, pattern: str) -> None:
    said = failed(["mint", "--key", str(key), "--sub", "user:ada", "--session", f"{pattern}=read"], capsys)
    assert f"--session {pattern!r:.80} grants nothing: no stream has such a path." in said


@pytest.mark.parametrize(
    "pattern",
    [
        "/*",
        "/a/*",
        "/a/..*",
        "/.*",
        "/__ds*",
        "/__ds/*",
        "/__ds/subscriptions/mine",
        "/a..b",
        f"/{'é' * 256}*",
        "chat-*",
    ],
)
def test_a_grant_of_paths_that_a_stream_can_have_is_made(key: Path, capsys: Capture, pattern: str) -> None:
    made = mint(key, capsys, "--session", f"{pattern}=read")
    assert jwt.decode(made, options={"verify_signature": False})["sessions"] == {pattern: ["read"]}


def test_a_token_is_shown_and_checked(key: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    made = mint(key, capsys, "--session", "chat-*=read")
    assert run(["token", "inspect", made]) == 0
    out = capsys.readouterr().out
    assert "not checked" in out
    assert "user:ada" in out
    assert '{"chat-*":["read"]}' in out
    monkeypatch.setattr(sys, "stdin", io.StringIO(made + "\n"))
    assert run(["token", "inspect", "--key", str(key.with_name("signing.public.json")), "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["signature"], shown["wrong"], shown["claims"]["sub"]) == ("good", None, "user:ada")


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"exp": 1}, "it ended at 1970-01-01"),
        ({"nbf": int(time.time()) + 3000}, "it begins at"),
        ({"tenant": None}, "no tenant"),
        ({"sub": "root:ada"}, "names nobody"),
        ({"sessions": {"chat.>": ["read"]}}, "grants nothing"),
        ({"exp": int(time.time()) + 10**8}, "valid for"),
    ],
)
def test_a_token_that_would_be_refused_is_said_to_be(claims: dict[str, Any], said: str, capsys: Capture) -> None:
    good = {"sub": "user:ada", "tenant": "acme", "exp": int(time.time()) + 600}
    made = jwt.encode({k: v for k, v in (good | claims).items() if v is not None}, SECRET, algorithm="HS256")
    assert run(["token", "inspect", made]) == 1
    assert said in capsys.readouterr().err


def test_a_signature_of_another_key_is_said(key: Path, tmp_path: Path, capsys: Capture) -> None:
    other = tmp_path / "other"
    other.write_text(SECRET)
    made = mint(other, capsys)
    assert run(["token", "inspect", made, "--key", str(key)]) == 1
    captured = capsys.readouterr()
    assert "signature is not that of this key" in captured.err
    assert made not in captured.err
    unsigned = jwt.encode({"sub": "user:ada"}, None, algorithm="none")
    assert run(["token", "inspect", unsigned]) == 1
    assert "algorithm is 'none'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "é.é.é", "e30.W10.AA"])
def test_what_is_no_token_is_said(text: str, capsys: Capture) -> None:
    assert "This is no token: it cannot be read as a JWT." in failed(["inspect", text], capsys)


# --- revoking -----------------------------------------------------------------------------------------


@pytest.fixture
def nats(shared_server: NatsNode, tenant: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> str:
    monkeypatch.setenv("SESSION_FABRIC_NATS", shared_server.url)
    monkeypatch.setenv("SESSION_FABRIC_TENANT", tenant)
    assert run(["stream", "provision"]) == 0
    capsys.readouterr()
    return shared_server.url


def revoked(options: list[str], capsys: Capture) -> dict[str, Any]:
    assert run(["token", "revoke", "-o", "json", *options]) == 0
    standing: dict[str, Any] = json.loads(capsys.readouterr().out)
    return standing


def test_a_token_a_participant_and_a_session_are_revoked(nats: str, tenant: str, key: Path, capsys: Capture) -> None:
    before = time.time() * 1000 - 1000
    made = mint(key, capsys, "--id", "t1", "--tenant", tenant)
    for options, what in [
        (["--token", made], {"token": "t1"}),
        (["--id", "t2"], {"token": "t2"}),
        (["--participant", "user:ada"], {"participant": "user:ada"}),
        (["--session", "chat-42"], {"session": "chat-42"}),
    ]:
        standing = revoked(options, capsys)
        assert {**standing, "tenant": tenant, **what} == standing
        assert before <= standing["before"] <= time.time() * 1000
        assert standing["until"] - standing["before"] == 30 * 86_400_000
    assert run(["token", "revoke", "--participant", "user:bob", "--before", "10m", "--for", "1h"]) == 0
    assert "participant user:bob of tenant" in capsys.readouterr().out


def test_a_token_of_another_tenant_is_revoked_in_its_own(nats: str, key: Path, capsys: Capture) -> None:
    made = mint(key, capsys, "--id", "t1", "--tenant", "elsewhere")
    assert revoked(["--token", made], capsys)["tenant"] == "elsewhere"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "Say what to revoke"),
        (["--id", "t1", "--session", "s"], "Say what to revoke"),
        (["--participant", "ada"], "participant"),
        (["--session", "chat-*"], "session"),
        (["--id", "t1", "--before", "10m"], "revoked whole"),
        (["--id", "t1", "--for", "31d"], "no time"),
        (["--token", jwt.encode({"sub": "user:ada"}, SECRET)], "no id"),
        (["--token", "x"], "no token"),
    ],
)
def test_what_cannot_be_revoked_is_said(options: list[str], said: str, nats: str, capsys: Capture) -> None:
    assert said in failed(["revoke", *options], capsys)

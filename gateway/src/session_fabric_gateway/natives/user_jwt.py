"""What nats-server asks of whoever decides who may come in, and how it is answered: JWTs of its own kind. Pure.

Version 2 of github.com/nats-io/jwt: `authorization_request`, `authorization_response`, `user`; signed with Ed25519.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from session_fabric.jetstream.seeds import Seed, signed_by_server
from session_fabric.words.errors import InvalidRequest

_HEADER: Final = {"typ": "JWT", "alg": "ed25519-nkey"}
_AUDIENCE: Final = "nats-authorization-request"
_NO_LIMIT: Final = -1


@dataclass(frozen=True, slots=True)
class Asked:
    """A server's question: who of its connections wants in, and what it has shown."""

    server: str
    # A key that the server has made for this connection; the answer is about it.
    user_key: str
    token: str | None
    name: str
    # "Client", or something that is no client: a leaf node.
    kind: str
    # "nats" or "websocket"; "mqtt" has rules of its own about subjects.
    wire: str


@dataclass(frozen=True, slots=True)
class User:
    """Who somebody is to the server, and all that it lets him do, until when (seconds since 1970)."""

    name: str
    account: str
    publish_allow: Sequence[str]
    subscribe_allow: Sequence[str]
    subscribe_deny: Sequence[str]
    expires_s: int


def read_question(data: bytes, *, now_s: float) -> Asked:
    """Read what a server has asked and signed. Raises `InvalidRequest`."""
    claims = _verified(data)
    try:
        said = claims["nats"]
        if (claims["aud"], said["type"], said["version"]) != (_AUDIENCE, "authorization_request", 2):
            raise InvalidRequest("This is no authorization request.")
        if said["server_id"]["id"] != claims["iss"] or now_s >= claims["exp"]:
            raise InvalidRequest("The authorization request is another server's, or an old one.")
        token = said["connect_opts"].get("auth_token")
        client = said["client_info"]
        return Asked(
            str(said["server_id"]["id"]),
            str(said["user_nkey"]),
            None if token is None else str(token),
            str(said["connect_opts"].get("name", "")),
            str(client.get("kind", "")),
            str(client.get("type", "")),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidRequest("The authorization request is not of the form that is known here.") from error


def let_in(asked: Asked, user: User, issuer: Seed, *, now_s: float) -> bytes:
    """Return the answer that lets somebody in."""
    told = {
        "pub": {"allow": list(user.publish_allow)},
        "sub": {"allow": list(user.subscribe_allow), "deny": list(user.subscribe_deny)},
        "subs": _NO_LIMIT,
        "data": _NO_LIMIT,
        "payload": _NO_LIMIT,
        "type": "user",
        "version": 2,
    }
    claims = {"name": user.name, "aud": user.account, "exp": user.expires_s, "nats": told}
    made = _signed({**claims, "sub": asked.user_key}, issuer, now_s)
    return _answer(asked, {"jwt": made.decode()}, issuer, now_s)


def keep_out(asked: Asked, reason: str, issuer: Seed, *, now_s: float) -> bytes:
    """Return the answer that refuses; the server writes the reason to its log and tells the client nothing."""
    return _answer(asked, {"error": reason}, issuer, now_s)


def _answer(asked: Asked, told: Mapping[str, Any], issuer: Seed, now_s: float) -> bytes:
    told = {**told, "type": "authorization_response", "version": 2}
    return _signed({"sub": asked.user_key, "aud": asked.server, "nats": told}, issuer, now_s)


def _signed(claims: Mapping[str, Any], issuer: Seed, now_s: float) -> bytes:
    body = {**claims, "iss": issuer.public, "iat": int(now_s)}
    data = b".".join(base64.urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=") for part in (_HEADER, body))
    return data + b"." + base64.urlsafe_b64encode(issuer.sign(data)).rstrip(b"=")


def _verified(data: bytes) -> dict[str, Any]:
    """Return the claims of a JWT that the server it names has signed."""
    signed, _, signature = data.rpartition(b".")
    header, _, body = signed.partition(b".")
    try:
        algorithm, claims = orjson.loads(_plain(header)).get("alg"), orjson.loads(_plain(body))
        good = algorithm == "ed25519-nkey" and signed_by_server(claims["iss"], signed, _plain(signature))
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise InvalidRequest("The authorization request is no JWT.") from error
    if not good:
        raise InvalidRequest("The authorization request is not signed by the server that it names.")
    return dict(claims)


def _plain(part: bytes) -> bytes:
    return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))

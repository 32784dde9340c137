"""What a nats-server is told so that nobody is let in whom the fabric does not know. Pure.

Two accounts: the fabric's, with one user who has all rights in it, and the system's, with none. Whoever else wants in
is asked for a token, which a gateway looks at (auth callout).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from session_fabric.words.errors import InvalidRequest

ACCOUNT: Final = "FABRIC"
SYSTEM: Final = "SYS"
_NAME: Final = re.compile(r"\$SYS|[A-Za-z][A-Za-z0-9_-]{0,63}")
_USER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}")
# Where connections end only the system account sees (docs.nats.io, "System Events"), and it alone can cut one.
_ENDED: Final = "$SYS.ACCOUNT"
_CUT: Final = "$SYS.REQ.SERVER.*.KICK"
# A token of ours has 16 KiB at most, and comes in one line; 4 KB is the server's own limit.
_CONTROL_LINE: Final = "20KB"
# Of one connection. A gateway has six for each session that is followed there; what a native agent may have is fewer by
# far, and looked after by gateways every half minute: until then, this is the end of it.
_MOST_SUBSCRIPTIONS: Final = 1_000_000
# How long a connection may take to say who it is; a gateway's answer is part of that. Less than clients wait for the
# server (2 s), so that they hear a refusal.
_TIMEOUT_S: Final = 1.5


@dataclass(frozen=True, slots=True)
class Door:
    """Public keys. `user`: of the fabric's own processes; `issuer`: of the account that answers who may come in.

    `curve`: what questions are sealed for, so that nobody else in the account reads tokens.
    """

    user: str
    issuer: str
    curve: str | None = None


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What the server shows; `client_ca`: clients must show a certificate of one of these authorities too."""

    cert: Path
    key: Path
    client_ca: Path | None = None


def quoted(value: object) -> str:
    # JSON's escapes of strings are nats-server's too, as long as they are ASCII or left alone.
    return json.dumps(str(value), ensure_ascii=False)


def accounts_config(users: Sequence[str]) -> list[str]:
    """Return the lines that make the accounts; each user is as the server's configuration spells one."""
    return [
        "accounts {",
        f"  {SYSTEM} {{ exports: [",
        *(f"    {line}" for line in _exports(ACCOUNT)),
        "  ] }",
        f"  {ACCOUNT} {{",
        "    jetstream: enabled",
        f"    users: [{', '.join(users)}]",
        "    imports: [",
        *(f"      {line}" for line in _imports(ACCOUNT, SYSTEM)),
        "    ]",
        "  }",
        "}",
        f"system_account: {SYSTEM}",
    ]


def _exports(account: str) -> list[str]:
    return [
        f'{{ stream: "{_ENDED}.*.DISCONNECT", account_token_position: 3 }}',
        f'{{ service: "{_CUT}", accounts: [{account}] }}',
    ]


def _imports(account: str, system: str) -> list[str]:
    return [
        f'{{ stream: {{ account: {system}, subject: "{_ENDED}.{account}.DISCONNECT" }} }}',
        f'{{ service: {{ account: {system}, subject: "{_CUT}" }} }}',
    ]


def door_config(door: Door) -> list[str]:
    """Return the lines that let in the fabric's own, and whom a gateway lets in, and nobody else."""
    return [*accounts_config([f"{{ nkey: {door.user} }}"]), *_asking(door, ACCOUNT, ())]


@dataclass(frozen=True, slots=True)
class Part:
    """What goes into a configuration that there is already: `where`, and the lines."""

    where: str
    lines: Sequence[str]


def parts_config(door: Door, account: str, system: str, known: Sequence[str]) -> list[Part]:
    """Return what a server's configuration needs that has the account already. `known`: users of the server (names,
    or public keys) who are let in as they were, without anybody being asked. Raises `InvalidRequest`.
    """
    for name in (account, system):
        if _NAME.fullmatch(name) is None or name == account == "$SYS":
            raise InvalidRequest(
                f"{name!r:.80} is no account that sessions can be in.",
                hint="Name one of `accounts`; into $G nats-server lets nothing be imported.",
            )
    if account == system:
        raise InvalidRequest(f"{account} is the system's account.", hint="Sessions are in another one.")
    for user in known:
        if _USER.fullmatch(user) is None:
            raise InvalidRequest(f"{user!r:.80} is no user's name.", hint="As it stands in the configuration.")
    return [
        Part(f"accounts.{account}.users", [f"{{ nkey: {door.user} }}"]),
        Part(f"accounts.{account}.imports", _imports(account, system)),
        Part(f"accounts.{system}.exports", _exports(account)),
        Part("", [f"system_account: {system}", *_asking(door, account, known)]),
    ]


def _asking(door: Door, account: str, known: Sequence[str]) -> list[str]:
    """Return the lines that have gateways asked about everybody but ours and `known`."""
    curve = [] if door.curve is None else [f"    xkey: {door.curve}"]
    return [
        "authorization {",
        f"  timeout: {_TIMEOUT_S}",
        "  auth_callout {",
        f"    account: {account}",
        f"    auth_users: [{', '.join([door.user, *map(quoted, known)])}]",
        f"    issuer: {door.issuer}",
        *curve,
        "  }",
        "}",
        f"max_control_line: {_CONTROL_LINE}",
        f"max_subscriptions: {_MOST_SUBSCRIPTIONS}",
    ]


def tls_config(files: TlsFiles) -> list[str]:
    """Return the lines that have clients come over TLS alone. Raises `InvalidRequest` for files that are not there."""
    for file in (files.cert, files.key, files.client_ca):
        if file is not None and not file.is_file():
            raise InvalidRequest(f"There is no file {file}.", hint="The server reads it when it starts.")
    ca = [] if files.client_ca is None else [f"  ca_file: {quoted(files.client_ca.absolute())}", "  verify: true"]
    return [
        "tls {",
        f"  cert_file: {quoted(files.cert.absolute())}",
        f"  key_file: {quoted(files.key.absolute())}",
        *ca,
        "}",
    ]

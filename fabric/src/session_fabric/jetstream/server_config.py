"""What a nats-server is told so that nobody is let in whom the fabric does not know. Pure.

Two accounts: the fabric's, with one user who has all rights in it, and the system's, with none. Whoever else wants in
is asked for a token, which a gateway looks at (auth callout).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from session_fabric.words.errors import InvalidRequest

ACCOUNT: Final = "FABRIC"
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
        "  SYS { exports: [",
        f'    {{ stream: "{_ENDED}.*.DISCONNECT", account_token_position: 3 }}',
        f'    {{ service: "{_CUT}", accounts: [{ACCOUNT}] }}',
        "  ] }",
        f"  {ACCOUNT} {{",
        "    jetstream: enabled",
        f"    users: [{', '.join(users)}]",
        "    imports: [",
        f'      {{ stream: {{ account: SYS, subject: "{_ENDED}.{ACCOUNT}.DISCONNECT" }} }}',
        f'      {{ service: {{ account: SYS, subject: "{_CUT}" }} }}',
        "    ]",
        "  }",
        "}",
        "system_account: SYS",
    ]


def door_config(door: Door) -> list[str]:
    """Return the lines that let in the fabric's own, and whom a gateway lets in, and nobody else."""
    curve = [] if door.curve is None else [f"    xkey: {door.curve}"]
    return [
        *accounts_config([f"{{ nkey: {door.user} }}"]),
        "authorization {",
        f"  timeout: {_TIMEOUT_S}",
        "  auth_callout {",
        f"    account: {ACCOUNT}",
        f"    auth_users: [{door.user}]",
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

"""`fabricctl broker config`: a nats-server that lets nobody in whom the fabric does not know."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from session_fabric.jetstream.own_keys import OwnKeys
from session_fabric.jetstream.server_config import SYSTEM, Part, TlsFiles, door_config, parts_config, tls_config
from session_fabric.words.errors import InvalidRequest


def config(
    keys: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Where the keys are, or are made: keep it private.", show_default=False),
    ],
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="Have clients come over TLS.", show_default=False)
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="Its private key.", show_default=False)
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            "--tls-client-ca",
            metavar="FILE",
            help="Let in clients alone who show a certificate of one of these authorities.",
            show_default=False,
        ),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(
            "--account",
            metavar="NAME",
            help="The server has this account, and others: print parts for it.",
            show_default=False,
        ),
    ] = None,
    system_account: Annotated[
        str, typer.Option("--system-account", metavar="NAME", help="With --account: the system's.")
    ] = SYSTEM,
    user: Annotated[
        list[str] | None,
        typer.Option(
            "--user",
            metavar="NAME",
            help="With --account: a user of the server who is let in as before; may be given again.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print what a nats-server's configuration must say; keys that are missing are made.

    Every node of a cluster gets the same. It holds no secret: the keys' public parts alone.
    """
    lines = []
    if account is None and user:
        raise InvalidRequest("--user is for --account.", hint="A new account has no users but ours.")
    if tls_cert is not None and tls_key is not None:
        lines = tls_config(TlsFiles(tls_cert, tls_key, tls_client_ca))
    elif tls_cert is not None or tls_key is not None or tls_client_ca is not None:
        raise InvalidRequest("--tls-cert and --tls-key go together.", hint="Give both; --tls-client-ca is beside them.")
    try:
        keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(f"{keys} cannot be made: {error.strerror}.") from error
    own = OwnKeys.of(keys)
    if account is not None:
        parts = parts_config(own.door, account, system_account, user or ())
        _print_parts([*parts, Part("", lines)] if lines else parts)
    else:
        print("# Session Fabric: include this in the configuration of each nats-server.")
        print("\n".join([*door_config(own.door), *lines]))
    print(f"For gateways:  --nats-credentials {own.nkey} --native-agents {own.seeds}", file=sys.stderr)
    print(f"For fabricctl: export SESSION_FABRIC_NATS_CREDENTIALS={own.nkey}", file=sys.stderr)
    print("For agents:    fabricctl agent grant agent:NAME --file FILE", file=sys.stderr)


def _print_parts(parts: Sequence[Part]) -> None:
    print("# Session Fabric: each part goes into the configuration of each nats-server, where it says.")
    for part in parts:
        print(f"\n# {f'Into {part.where}, beside what is there' if part.where else 'At the top'}:")
        print("\n".join(part.lines))

"""`fabricctl agent grant | inspect | rotate | revoke`: credentials of those who come to the broker themselves."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import jwt
import typer
from session_fabric.jetstream.credentials import Granted, GrantFile, tls_of
from session_fabric.jetstream.dial import check_url
from session_fabric.revocations import revoke as let_stand
from session_fabric.rules.claims import read_claims
from session_fabric.rules.permissions import check_native, heard_by
from session_fabric.rules.revocations import LONGEST_S, Revocation, revocation
from session_fabric.words.errors import Forbidden, InvalidRequest
from session_fabric.words.names import check_participant

from session_fabric_cli.dev.places import Running, find_running, secret_file
from session_fabric_cli.minting import claims_in, claims_of, mint_token, span
from session_fabric_cli.opening import opened, reach
from session_fabric_cli.options import (
    AudienceOption,
    ContextOption,
    GrantsOption,
    IssuerOption,
    NatsOption,
    Options,
    OutputOption,
    TenantOption,
    gather,
    on_broker,
)
from session_fabric_cli.printing import moment, one_line, print_facts, print_value
from session_fabric_cli.signing import Signing, check_new, read_signing, replace_file, write_new

_LONGEST = "30d"

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="The credentials that `agent grant` has written.", show_default=False)
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="FILE",
        help="The key that signs tokens. Default: that of a running `fabricctl dev`.",
        show_default=False,
    ),
]
TtlOption = Annotated[str, typer.Option("--ttl", metavar="TIME", help="For how long: 10m, 12h, 30d at the most.")]


def grant(
    participant: Annotated[
        str, typer.Argument(metavar="PARTICIPANT", help="Whose: agent:helper, service:billing.", show_default=False)
    ],
    file: Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="Where they go.", show_default=False)],
    key: KeyOption = None,
    session: GrantsOption = None,
    ttl: TtlOption = _LONGEST,
    issuer: IssuerOption = None,
    audience: AudienceOption = None,
    ca: Annotated[
        Path | None,
        typer.Option("--ca", metavar="FILE", help="Who signs for the broker (PEM); it is copied.", show_default=False),
    ] = None,
    cert: Annotated[
        Path | None, typer.Option("--cert", metavar="FILE", help="What it shows the broker.", show_default=False)
    ] = None,
    cert_key: Annotated[
        Path | None, typer.Option("--cert-key", metavar="FILE", help="Its private key.", show_default=False)
    ] = None,
    context: ContextOption = None,
    nats: NatsOption = None,
    tenant: TenantOption = None,
) -> None:
    """Make credentials with which an agent connects to the broker, and may do what they grant and nothing else."""
    _check_native(participant)
    options = gather(context, nats, tenant)
    tenant, running = options.tenant, find_running(at=options.nats)
    url = options.nats or (running.nats if running is not None else None)
    if url is None:
        raise InvalidRequest("Credentials name the broker.", hint="Give --nats URL or SESSION_FABRIC_NATS.")
    check_url(url)
    check_new(file)
    if (cert is None) != (cert_key is None):
        raise InvalidRequest("--cert and --cert-key go together.", hint="Give both, or neither.")
    tls_of(ca, cert, cert_key)
    claims = claims_of(participant, tenant, sessions=session or [], issuer=issuer, audience=audience)
    granted = _granted(
        _signing(key, running),
        claims,
        span(ttl, "--ttl"),
        url=url,
        ca=None if ca is None else ca.read_text(),
        cert=None if cert is None else cert.absolute(),
        key=None if cert_key is None else cert_key.absolute(),
    )
    write_new(file, granted.model_dump(mode="json", exclude_none=True), private=True)
    where = ", ".join(one_line(one) for one in session or []) or f"all sessions of tenant {tenant}, as its role may"
    print(f"{file}: {participant} at {url}, until {moment(granted.expires * 1000)} UTC.", file=sys.stderr)
    print(f"It may: {where}.", file=sys.stderr)
    print(_token_id(granted))


def inspect(file: FileArgument, output: OutputOption = None) -> None:
    """Say whose credentials they are, for which broker, and what they grant.

    Nothing that is secret in them. Leaves with 1 when they have ended.
    """
    granted = GrantFile(file).now()
    facts = {
        "url": granted.url,
        "tenant": granted.tenant,
        "participant": granted.participant,
        "token": _token_id(granted),
        "sessions": claims_in(granted).get("sessions") or "as the role may",
        "expires": granted.expires,
        "tls": granted.ca is not None or granted.cert is not None,
    }
    ended = time.time() >= granted.expires
    output = gather(output=output).output
    if output != "table":
        print_value(output, facts | {"ended": ended})
    else:
        print_facts(output, facts | {"expires": f"{moment(granted.expires * 1000)} UTC"})
    if ended:
        print("They have ended: `fabricctl agent rotate` makes others.", file=sys.stderr)
        raise typer.Exit(1)


def rotate(
    file: FileArgument,
    key: KeyOption = None,
    ttl: TtlOption = _LONGEST,
    revoke_old: Annotated[
        bool, typer.Option("--revoke-old", help="Let the old token count no more, at once, everywhere.")
    ] = False,
    context: ContextOption = None,
    nats: NatsOption = None,
) -> None:
    """Put another token into credentials, with the same grants; an agent that runs takes it without a restart."""
    older = GrantFile(file).now()
    options = gather(context, nats or older.url)
    running = find_running(at=options.nats)
    claims = {name: value for name, value in claims_in(older).items() if name not in ("iat", "exp", "nbf", "jti")}
    newer = _granted(
        _signing(key, running), claims, span(ttl, "--ttl"), url=older.url, ca=older.ca, cert=older.cert, key=older.key
    )
    if revoke_old:
        reach(options)  # before anything is written: nobody may know how
    replace_file(file, newer.model_dump(mode="json", exclude_none=True))
    until = moment(older.expires * 1000)
    print(f"{file}: {newer.participant}, until {moment(newer.expires * 1000)} UTC.", file=sys.stderr)
    if revoke_old:
        asyncio.run(_stand(options, _revocation_of(older)))
        print(f"The old token {_token_id(older)} counts no more.", file=sys.stderr)
    else:
        print(f"The old token {_token_id(older)} counts until {until} UTC, unless it is revoked.", file=sys.stderr)
    print(_token_id(newer))


@on_broker
async def revoke(
    options: Options,
    who: Annotated[
        str,
        typer.Argument(
            metavar="FILE|PARTICIPANT",
            help="These credentials; or all that a participant has been granted until now.",
            show_default=False,
        ),
    ],
) -> None:
    """Let credentials count no more: their connections to the broker end, and what they ask is refused."""
    granted = _read(Path(who))
    if granted is not None:
        wanted, options = _revocation_of(granted), replace(options, nats=options.nats or granted.url)
    else:
        if ":" not in who:
            raise InvalidRequest(
                f"{who!r:.80} is neither a file nor a participant.", hint="Name FILE, or one such as agent:helper."
            )
        wanted = revocation(
            options.tenant, "participant", _check_native(who), now_ms=time.time_ns() // 1_000_000, for_s=LONGEST_S
        )
    standing = await _stand(options, wanted)
    if options.output != "table":
        facts = {"tenant": standing.tenant, standing.of: standing.name, "until": standing.until_ms}
        print_value(options.output, facts)
        return
    print(
        f"Revoked: {standing.of} {one_line(standing.name)} of tenant {standing.tenant}. "
        f"It stands until {moment(standing.until_ms)} UTC."
    )


def _read(file: Path) -> Granted | None:
    return GrantFile(file).now() if file.exists() else None


async def _stand(options: Options, wanted: Revocation) -> Revocation:
    async with opened(options) as fabric:
        now_ms = time.time_ns() // 1_000_000
        return await let_stand(fabric.broker, wanted, by=fabric.participant, now_ms=now_ms)


def _check_native(participant: str) -> str:
    try:
        return check_native(check_participant(participant))
    except Forbidden as error:
        raise InvalidRequest(error.message, hint=error.hint) from error


def _signing(key: Path | None, running: Running | None) -> Signing:
    if key is not None:
        return read_signing(key)
    if running is not None:
        return read_signing(secret_file(Path(running.data)))
    raise InvalidRequest(
        "No key was named to sign with, and no `fabricctl dev` runs whose it could be.",
        hint="Give --key FILE, one that gateways have the public part of: `fabricctl token keygen`.",
    )


def _granted(signing: Signing, claims: dict[str, Any], for_s: int, **more: Any) -> Granted:
    token = mint_token(signing, claims, for_s)
    made = jwt.decode(token, options={"verify_signature": False})
    read = read_claims(made, now_s=time.time())
    heard = "*" if read.grants is None else heard_by(read.grants).sessions
    return Granted(
        tenant=read.tenant,
        participant=read.participant,
        token=token,
        expires=int(read.expires_s),
        sessions=None if heard == "*" else tuple(heard),
        **more,
    )


def _token_id(granted: Granted) -> str:
    return one_line(claims_in(granted).get("jti", "-"))


def _revocation_of(granted: Granted) -> Revocation:
    id, now_ms = claims_in(granted).get("jti"), time.time_ns() // 1_000_000
    if id is None:
        raise InvalidRequest(
            "The token of these credentials has no id (jti).", hint=f"Revoke its participant: {granted.participant}."
        )
    return revocation(granted.tenant, "token", str(id), now_ms=now_ms, for_s=LONGEST_S)

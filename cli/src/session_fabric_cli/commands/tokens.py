"""`fabricctl token keygen | mint | inspect | revoke`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import jwt
import orjson
import typer
from session_fabric.revocations import revoke as let_stand
from session_fabric.rules.claims import read_claims
from session_fabric.rules.revocations import Of, check_token_id, revocation
from session_fabric.words.errors import InvalidRequest

from session_fabric_cli.asking import interruptible
from session_fabric_cli.minting import MOST_CHARACTERS, claims_of, mint_token, span
from session_fabric_cli.opening import opened
from session_fabric_cli.options import (
    AudienceOption,
    ContextOption,
    GrantsOption,
    IssuerOption,
    Options,
    OutputOption,
    TenantOption,
    gather,
    on_broker,
)
from session_fabric_cli.printing import moment, one_line, print_facts, print_value
from session_fabric_cli.signing import check_new, new_key, read_signing, write_new

KeyOption = Annotated[
    Path,
    typer.Option("--key", metavar="FILE", help="The key: a JWK, PEM, or a file with a secret.", show_default=False),
]


def keygen(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key goes.", show_default=False)],
    kid: Annotated[
        str | None, typer.Option("--kid", help="Its id. Default: its thumbprint.", show_default=False)
    ] = None,
) -> None:
    """Make a key that signs tokens (Ed25519): FILE for the private one, FILE.public.json for gateways."""
    private, public = new_key(None if kid is None else check_token_id(kid))
    public_file = file.with_name(f"{file.stem}.public.json")
    check_new(public_file)
    write_new(file, private, private=True)
    write_new(public_file, {"keys": [public]}, private=False)
    print(f"The private key is in {file}: whoever has it can make tokens.", file=sys.stderr)
    print(f"For gateways: --token-keys {public_file}", file=sys.stderr)
    print(public["kid"])


def mint(
    key: KeyOption,
    sub: Annotated[str, typer.Option("--sub", metavar="PARTICIPANT", help="Whose: user:ada.", show_default=False)],
    tenant: TenantOption = None,
    session: GrantsOption = None,
    ttl: Annotated[
        str, typer.Option("--ttl", metavar="TIME", help="For how long: 90s, 10m, 1h, 30d at the most.")
    ] = "1h",
    issuer: IssuerOption = None,
    audience: AudienceOption = None,
    token_id: Annotated[
        str | None, typer.Option("--id", help="Its id (jti), to revoke it by. Default: a new one.", show_default=False)
    ] = None,
    context: ContextOption = None,
) -> None:
    """Make a token, and print it."""
    claims = claims_of(
        sub, gather(context, tenant=tenant).tenant, sessions=session or [], issuer=issuer, audience=audience
    )
    if token_id is not None:
        claims["jti"] = check_token_id(token_id)
    print(mint_token(read_signing(key), claims, span(ttl, "--ttl")))


def inspect(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="The token; - reads it.", show_default=False)] = "-",
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Check the signature with this key.", show_default=False),
    ] = None,
    output: OutputOption = None,
) -> None:
    """Say what is in a token. Leaves with 1 when a gateway would refuse it."""
    text = _token(token)
    header, claims = _read(text)
    wrong = _wrong(text, header, claims, key)
    checked = "not checked (give --key)" if key is None else "good"
    if wrong and wrong.startswith("its signature"):
        checked = "wrong"
    output = gather(output=output).output
    if output != "table":
        print_value(output, {"header": header, "claims": claims, "signature": checked, "wrong": wrong})
    else:
        told = {**header, "signature": checked, **claims}
        print_facts(output, {name: _shown(name, value) for name, value in told.items()})
    if wrong:
        print(f"It would be refused: {wrong}.", file=sys.stderr)
        raise typer.Exit(1)


@on_broker
async def revoke(
    options: Options,
    token: Annotated[str | None, typer.Option("--token", help="This token; - reads it.", show_default=False)] = None,
    token_id: Annotated[
        str | None, typer.Option("--id", help="The token of this id (jti).", show_default=False)
    ] = None,
    participant: Annotated[
        str | None, typer.Option("--participant", help="All tokens of a participant until now.", show_default=False)
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", help="All tokens until now, for this session.", show_default=False)
    ] = None,
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="TIME", help="Not until now: until so long ago (10m).", show_default=False),
    ] = None,
    stands: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long it stands: as long as the longest token lives.")
    ] = "30d",
) -> None:
    """Let tokens count no more, on all gateways, at once."""
    tenant = options.tenant
    given: list[tuple[Of, str]] = []
    if token is not None:
        _, claims = _read(_token(token))
        if "jti" not in claims:
            raise InvalidRequest("The token has no id (jti).", hint="Revoke its participant: --participant.")
        given.append(("token", str(claims["jti"])))
        tenant = str(claims.get("tenant", tenant))
    given += [("token", token_id)] if token_id is not None else []
    given += [("participant", participant)] if participant is not None else []
    given += [("session", session)] if session is not None else []
    if len(given) != 1:
        raise InvalidRequest("Say what to revoke.", hint="One of --token, --id, --participant, --session.")
    if before is not None and given[0][0] == "token":
        raise InvalidRequest("--before is of participants and sessions: a token is revoked whole.")
    now_ms = time.time_ns() // 1_000_000
    wanted = revocation(
        tenant,
        *given[0],
        now_ms=now_ms,
        before_ms=None if before is None else now_ms - span(before, "--before") * 1000,
        for_s=span(stands, "--for"),
    )
    async with opened(options) as fabric:
        standing = await let_stand(fabric.broker, wanted, by=fabric.participant, now_ms=now_ms)
    if options.output != "table":
        facts = {"tenant": standing.tenant, standing.of: standing.name}
        print_value(options.output, {**facts, "before": standing.before_ms, "until": standing.until_ms})
        return
    what = f"{standing.of} {one_line(standing.name)} of tenant {standing.tenant}"
    issued = "" if standing.of == "token" else f", as far as issued before {moment(standing.before_ms)} UTC"
    print(f"Revoked: {what}{issued}. It stands until {moment(standing.until_ms)} UTC.")


def _token(given: str) -> str:
    if given == "-":
        with interruptible():
            given = sys.stdin.read(MOST_CHARACTERS + 2)
    return given.strip()


def _read(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        both = jwt.decode_complete(text, options={"verify_signature": False})
    except (jwt.PyJWTError, UnicodeError) as error:
        raise InvalidRequest(
            "This is no token: it cannot be read as a JWT.",
            hint="One is three parts with dots between, as `fabricctl token mint` prints it.",
        ) from error
    return both["header"], both["payload"]


def _wrong(text: str, header: dict[str, Any], claims: dict[str, Any], key: Path | None) -> str | None:
    """Return for what a gateway would refuse it, None where nothing of that can be seen here."""
    if key is not None:
        signing = read_signing(key)
        material = signing.material.public_key() if hasattr(signing.material, "public_key") else signing.material
        try:
            jwt.api_jws.decode(text, material, algorithms=[signing.algorithm])
        except jwt.PyJWTError as error:
            return f"its signature is not that of this key ({type(error).__name__})"
    elif header.get("alg") not in ("EdDSA", "ES256", "RS256", "HS256"):
        return f"its algorithm is {header.get('alg')!r:.40}"
    now = time.time()
    try:
        said = read_claims(claims, now_s=now)
    except InvalidRequest as error:
        return one_line(error.message.rstrip("."))
    if now >= said.expires_s:
        return f"it ended at {moment(int(said.expires_s * 1000))} UTC"
    begins = claims.get("nbf", 0)
    if isinstance(begins, int | float) and now < begins < 2**40:
        return f"it begins at {moment(int(begins * 1000))} UTC"
    return None


def _shown(name: str, value: Any) -> str:
    if name in ("exp", "iat", "nbf") and isinstance(value, int | float) and 0 <= value < 2**40:
        return f"{moment(int(value * 1000))} UTC"
    return one_line(value if isinstance(value, str) else orjson.dumps(value).decode())

"""`fabricctl session export | import`, `fabricctl audit export`, `fabricctl verify`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from session_fabric.exporting import Previous
from session_fabric.importing import Verified
from session_fabric.rules.audits import previous_of
from session_fabric.words.errors import Corrupt, InvalidRequest
from session_fabric.words.positions import Offset

from session_fabric_cli.archive_files import check_free, check_kept, lines_of, verified_of, write_file
from session_fabric_cli.arguments import NameArgument
from session_fabric_cli.asking import YesOption
from session_fabric_cli.finding import near_names
from session_fabric_cli.opening import opened
from session_fabric_cli.options import Options, Output, on_broker
from session_fabric_cli.printing import moment, print_facts
from session_fabric_cli.progress import progress
from session_fabric_cli.signing import Signing, read_signing

FileOption = Annotated[
    Path, typer.Option("--file", "-f", metavar="FILE", help="Where to; .gz and .zst are packed.", show_default=False)
]
ContinueOption = Annotated[
    Path | None,
    typer.Option("--continue", metavar="FILE", help="Go on where this export ended.", show_default=False),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--sign-key",
        metavar="FILE",
        help="Sign it with this Ed25519 key (`fabricctl token keygen`).",
        show_default=False,
    ),
]


@on_broker
async def export(
    options: Options,
    name: NameArgument,
    file: FileOption,
    continued: ContinueOption = None,
    cursors: Annotated[bool, typer.Option("--cursors", help="Also how far each device has read.")] = False,
    sign_key: KeyOption = None,
    yes: YesOption = False,
) -> None:
    """Export a session to a file that can be verified anywhere, and made a session again."""
    key = None if sign_key is None else _signing_key(sign_key)
    previous = None
    if continued is not None:
        check_kept(continued, file)
        before = verified_of(continued)
        if before.manifest.get("session") != name or before.manifest.get("kind") != "session":
            raise InvalidRequest(
                f"{continued} is no export of session {name}.", hint="Continue an export of the same session."
            )
        previous = Previous(before.head, Offset.parse(before.end["head"]))
    check_free(file, yes=yes)
    async with opened(options) as fabric, near_names(fabric, name) as session:
        await session.record(create=False)
        with progress(f"export {name}") as shown:
            await write_file(file, session.export(previous=previous, cursors=cursors, key=key), shown)
    _print(options.output, file, verified_of(file))


@on_broker
async def import_session(
    options: Options,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What `session export` has written.", show_default=False)
    ],
    as_: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="The session's name. Default: the one it had.", show_default=False),
    ] = None,
) -> None:
    """Make a session of an export; the same file again changes nothing."""
    verified = verified_of(file)
    name = as_ or str(verified.manifest.get("session"))
    async with opened(options) as fabric:
        with progress(f"import {name}"):
            record, made = await fabric.import_session(name, lambda: lines_of(file))
    facts = {
        "session": record.session,
        "state": record.state,
        "events": verified.events,
        "made": made,
        "chain": verified.head,
    }
    print_facts(options.output, facts)


@on_broker
async def export_audit(
    options: Options,
    file: FileOption,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="From then on: 2026-11-01, 2026-11-01T12:00. Default: all.",
            show_default=False,
        ),
    ] = None,
    continued: ContinueOption = None,
    sign_key: KeyOption = None,
    yes: YesOption = False,
) -> None:
    """Export who did what when to a tenant's sessions, as a file that can be verified anywhere."""
    if since is not None and continued is not None:
        raise InvalidRequest(
            "--since and --continue were given.", hint="Give one: --continue goes on where the file ended."
        )
    key = None if sign_key is None else _signing_key(sign_key)
    previous = None
    if continued is not None:
        check_kept(continued, file)
        previous = previous_of(lines_of(continued))
        if previous.tenant != options.tenant:
            raise InvalidRequest(
                f"{continued} is an audit of tenant {previous.tenant}.", hint="Continue an audit of the same tenant."
            )
    since_ms = 0 if since is None else _moment(since)
    check_free(file, yes=yes)
    async with opened(options) as fabric:
        lines = fabric.audit(since_ms=since_ms, previous=previous, key=key)
        with progress("export audit") as shown:
            await write_file(file, lines, shown)
    _print(options.output, file, verified_of(file))


def verify_file(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="An export of a session or an audit.", show_default=False)
    ],
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="Signed it must be, with this key.", show_default=False)
    ] = None,
    after: Annotated[
        Path | None, typer.Option("--after", metavar="FILE", help="The file that it must continue.", show_default=False)
    ] = None,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="A table for people, JSON or YAML for programs.")
    ] = "table",
) -> None:
    """Check an exported file without a broker. Leaves with 1 and names the first line that is wrong."""
    verified = verified_of(file)
    if key is not None:
        wanted = _public_of(read_signing(key))
        if verified.signed_by != wanted:
            by = "nobody has signed it" if verified.signed_by is None else f"it is signed by {verified.signed_by[:16]}…"
            raise Corrupt(
                f"{file} is not signed with that key: {by}.",
                hint="Ask for the file from whom it should be.",
                line=verified.lines,
            )
    if after is not None and verified.manifest.get("previous") != verified_of(after).head:
        raise Corrupt(
            f"{file} does not continue {after}.", hint="A file between them is missing, or it is another's.", line=1
        )
    _print(output, file, verified)


def _print(output: Output, file: Path, verified: Verified) -> None:
    manifest = verified.manifest
    audit = manifest.get("kind") == "audit"
    facts: dict[str, Any] = {
        "file": str(file),
        "kind": manifest.get("kind"),
        "tenant": manifest.get("tenant"),
        "session": manifest.get("session"),
        "exported": int(manifest.get("at", 0)),
        "by": manifest.get("by"),
        "lines": verified.lines,
        "events": None if audit else verified.events,  # an audit has entries: its lines
        "redacted": [one._asdict() for one in verified.redacted],
        "chain": verified.head,
        "continues": manifest.get("previous"),
        "signed_by": verified.signed_by,
    }
    if output == "table":
        redacted = [f"{one.target}: {one.reason} ({one.by})" for one in verified.redacted]
        facts |= {"exported": moment(facts["exported"]), "redacted": redacted}
    print_facts(output, facts)


# --- keys -------------------------------------------------------------------------------------------


def _signing_key(path: Path) -> Ed25519PrivateKey:
    material = read_signing(path).material
    if not isinstance(material, Ed25519PrivateKey):
        raise InvalidRequest(f"{path} is no private Ed25519 key.", hint="Make one with `fabricctl token keygen FILE`.")
    return material


def _public_of(signing: Signing) -> str:
    material = signing.material
    if isinstance(material, Ed25519PrivateKey):
        material = material.public_key()
    if not isinstance(material, Ed25519PublicKey):
        raise InvalidRequest("That is no Ed25519 key.", hint="Use FILE.public.json of `fabricctl token keygen FILE`.")
    return material.public_bytes_raw().hex()


def _moment(text: str) -> int:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(f"--since is {text!r:.60}.", hint="Write 2026-11-01 or 2026-11-01T12:00Z.") from error
    return int((found if found.tzinfo else found.astimezone()).timestamp() * 1000)

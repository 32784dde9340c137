"""The files of a tenant's backup: one of each session and durable stream, and the last, which names them all.

`sessions/NAME.jsonl` is the export of a session, `streams/HASH.jsonl` (of its path) that of a stream. `tenant.jsonl`, a
chain as they are, is written last: it has their last hashes, and holds the subscriptions on streams and what the tenant
has beside them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from io import BufferedWriter
from pathlib import Path
from typing import Any, Final, NamedTuple

from session_fabric.importing import verify as verify_session
from session_fabric.rules.chains import FORMAT, Chain, Checked, Data
from session_fabric.streams.archive import verify as verify_stream
from session_fabric.streams.records import check_path
from session_fabric.words.errors import Corrupt, InvalidRequest
from session_fabric.words.names import check_session
from session_fabric.words.version import VERSION

TENANT: Final = "tenant.jsonl"


class Whole(NamedTuple):
    """A file that is what was written: whose, its last hash, how many lines, events or entries."""

    name: str
    head: str
    lines: int
    size: int


@dataclass(frozen=True, slots=True)
class Form:
    """How one sort of things is kept: in which directory, under which names, with what in them."""

    type: str
    counted: str
    stem: Callable[[str], str]
    check: Callable[[Iterable[bytes]], Whole]

    @property
    def directory(self) -> str:
        return f"{self.type}s"

    def file(self, directory: Path, name: str) -> Path:
        return directory / self.directory / f"{self.stem(name)}.jsonl"

    def verified(self, directory: Path, name: str) -> Whole:
        """Check a file. Raises `Corrupt`, which names it."""
        file = self.file(directory, name)
        told = f"{self.directory}/{file.name}"
        try:
            found = self.check(lines_of(file))
        except FileNotFoundError as error:
            raise Corrupt(f"{told} is missing.", hint="Use another copy of the backup.", line=0) from error
        except Corrupt as error:
            raise Corrupt(f"{told}: {error.message}", hint=error.hint, **error.facts) from error
        if found.name != name:
            raise Corrupt(
                f"{told} is of another {self.type}, {found.name!r:.100}.", hint="Use another copy of it.", line=1
            )
        return found

    def whole(self, directory: Path, name: str) -> Whole | None:
        """Return what is known of a file; None for one that was cut off, or is not there."""
        try:
            return self.verified(directory, name)
        except Corrupt:
            return None


def _session(lines: Iterable[bytes]) -> Whole:
    found = verify_session(lines)
    return Whole(str(found.manifest.get("session")), found.head, found.lines, found.events)


def _stream(lines: Iterable[bytes]) -> Whole:
    found = verify_stream(lines)
    return Whole(str(found.manifest["path"]), found.head, found.lines, found.entries)


SESSIONS: Final = Form("session", "events", check_session, _session)
# A path is no file's name: it may be long, and has slashes.
STREAMS: Final = Form("stream", "entries", lambda path: sha256(check_path(path).encode()).hexdigest()[:32], _stream)
FORMS: Final = (SESSIONS, STREAMS)


class Listed(NamedTuple):
    """What a finished backup says that it has: of each form the lines that name its files, and what is beside them."""

    manifest: Data
    files: Mapping[str, Sequence[Data]]
    subscriptions: Sequence[Any]
    beside: Sequence[Data]

    def of(self, form: Form) -> Sequence[Data]:
        return self.files[form.type]

    def count(self, form: Form) -> int:
        return sum(one[form.counted] for one in self.of(form))


def begin(directory: Path) -> None:
    """Make a backup's directories. Raises `InvalidRequest` where a finished one is."""
    if (directory / TENANT).exists():
        raise InvalidRequest(
            f"{directory} holds a finished backup.", hint="Name another directory: a backup is not written over."
        )
    for form in FORMS:
        (directory / form.directory).mkdir(parents=True, exist_ok=True)


async def write(file: Path, lines: AsyncGenerator[bytes, None]) -> None:
    """Write a file, which is there when all of it is on the disk."""
    part = file.with_suffix(".part")
    with _named(part), part.open("wb") as out:
        async with aclosing(lines):
            async for line in lines:
                out.write(line)
        await asyncio.to_thread(_settle, out)
    part.rename(file)


def finish(
    directory: Path,
    tenant: str,
    by: str,
    written: Mapping[str, Sequence[Whole]],
    subscriptions: Sequence[Data],
    beside: Sequence[Data],
) -> None:
    """Write the file that names all others, which makes it a backup."""
    chain, part = Chain(), directory / f"{TENANT}.part"
    with _named(part), part.open("wb") as out:
        manifest = {"type": "manifest", "format": FORMAT, "kind": "tenant", "fabric": VERSION, "tenant": tenant}
        out.write(chain.line({**manifest, "at": time.time_ns() // 1_000_000, "by": by}))
        for form in FORMS:
            for one in sorted(written[form.type]):
                line = {"type": form.type, form.type: one.name, "chain": one.head, form.counted: one.size}
                out.write(chain.line(line))
        for subscription in subscriptions:
            out.write(chain.line({"type": "subscription", "subscription": subscription}))
        for kept in beside:
            out.write(chain.line(kept))
        counts = {form.directory: len(written[form.type]) for form in FORMS}
        out.write(chain.line({"type": "end", **counts, "subscriptions": len(subscriptions), "kept": len(beside)}))
        _settle(out)
    part.rename(directory / TENANT)


def listed(directory: Path) -> Listed:
    """Read what a finished backup says that it has. Raises `InvalidRequest` where there is none, `Corrupt`."""
    file, checked = directory / TENANT, Checked()
    found: dict[str, list[Data]] = {"session": [], "stream": [], "subscription": [], "kept": []}
    try:
        for data in checked.read(lines_of(file)):
            if data["type"] in found:
                found[data["type"]].append(data)
    except FileNotFoundError as error:
        raise InvalidRequest(
            f"{directory} holds no finished backup: there is no {TENANT}.",
            hint="Create it again with the same directory: it goes on where it was cut off.",
        ) from error
    except Corrupt as error:
        raise Corrupt(f"{TENANT}: {error.message}", hint=error.hint, **error.facts) from error
    if checked.manifest.get("kind") != "tenant":
        raise InvalidRequest(f"{file} is no tenant's backup.", hint="A session's export is imported.")
    subscriptions = [data.get("subscription") for data in found["subscription"]]
    return Listed(checked.manifest, found, subscriptions, found["kept"])


def check(directory: Path, form: Form, listed: Data) -> None:
    """Check one of the files that a backup names. Raises `Corrupt`, which names the file and the first wrong line."""
    found = form.verified(directory, listed[form.type])
    if found.head != listed["chain"]:
        name = form.file(directory, found.name).name
        raise Corrupt(
            f"{form.directory}/{name} is not the file that belongs to this backup: its last hash is another.",
            hint="Use another copy of it.",
            line=found.lines,
        )


def lines_of(file: Path) -> Iterator[bytes]:
    with file.open("rb") as lines:
        yield from lines


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Name the file in what the disk says: of writing to one that is open it does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(file)) from error
        raise


def _settle(out: BufferedWriter) -> None:
    out.flush()
    os.fsync(out.fileno())

"""The files of a tenant's backup: one of each session and durable stream, and the last, which names them all.

`sessions/NAME.jsonl` is the export of a session, `streams/HASH.jsonl` (of its path) that of a stream. `tenant.jsonl`, a
chain as they are, is written last: it has their last hashes, and holds the subscriptions on streams and what the tenant
has beside them.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import orjson

from session_fabric.importing import verify as verify_session
from session_fabric.rules.chains import FORMAT, MOST_LINE, Chain, Checked, Data
from session_fabric.streams.archive import verify as verify_stream
from session_fabric.streams.records import check_path
from session_fabric.words.errors import Corrupt, InvalidRequest
from session_fabric.words.names import check_session
from session_fabric.words.version import VERSION

TENANT: Final = "tenant.jsonl"
LOCK: Final = "backup.lock"


class Whole(NamedTuple):
    """A file that is what was written: of which session or stream, made when (which tells its lives apart), its last
    hash, how many lines, events or entries."""

    name: str
    created: int
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

    def whole(self, directory: Path, name: str, created: int) -> Whole | None:
        """Return what is known of a file; None for one that was cut off, is of an earlier life, or is not there."""
        try:
            found = self.verified(directory, name)
        except Corrupt:
            return None
        return found if found.created == created else None


def _session(lines: Iterable[bytes]) -> Whole:
    found = verify_session(lines)
    return Whole(
        str(found.manifest.get("session")), found.manifest.get("created", 0), found.head, found.lines, found.events
    )


def _stream(lines: Iterable[bytes]) -> Whole:
    found = verify_stream(lines)
    return Whole(str(found.manifest["path"]), found.manifest["created"], found.head, found.lines, found.entries)


SESSIONS: Final = Form("session", "events", check_session, _session)
# A path is no file's name: it may be long, and has slashes.
STREAMS: Final = Form("stream", "entries", lambda path: sha256(check_path(path).encode()).hexdigest()[:32], _stream)
FORMS: Final = (SESSIONS, STREAMS)


class Listed(NamedTuple):
    """What a finished backup says that it has: of each form the lines that name its files, and what is beside them."""

    manifest: Data
    files: Mapping[str, Sequence[Data]]
    subscriptions: Sequence[Any]
    unread: Sequence[Any]
    beside: Sequence[Data]

    def of(self, form: Form) -> Sequence[Data]:
        return self.files[form.type]

    def count(self, form: Form) -> int:
        return sum(one[form.counted] for one in self.of(form))


@contextmanager
def own(directory: Path) -> Iterator[None]:
    """Have a backup's directory, made where there is none, for oneself in this block, however that ends. Raises
    `InvalidRequest` where somebody else has it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory)) from error
    file = directory / LOCK
    with file.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have ended, and have taken the file away, since it was opened.
            ours = file.exists() and os.path.samestat(file.stat(), os.fstat(lock.fileno()))
        except BlockingIOError:
            ours = False
        if not ours:
            raise InvalidRequest(
                f"Another backup is being written to {directory}.",
                hint="Let it end, or name another directory.",
            )
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def begin(directory: Path, tenant: str) -> None:
    """Make a backup's directories. Raises `InvalidRequest` where a finished one is, or files of another tenant."""
    if (directory / TENANT).exists():
        raise InvalidRequest(
            f"{directory} holds a finished backup.", hint="Name another directory: a backup is not written over."
        )
    for form in FORMS:
        (directory / form.directory).mkdir(parents=True, exist_ok=True)
        for file in (directory / form.directory).glob("*.jsonl"):
            if (whose := _tenant_of(file)) not in (None, tenant):
                raise InvalidRequest(
                    f"{directory} holds a backup of tenant {whose!r:.100} that was cut off, and this is one of"
                    f" {tenant!r:.100}.",
                    hint="Name another directory, or have that one finished: with its tenant.",
                )


async def write(file: Path, lines: AsyncGenerator[bytes, None]) -> None:
    """Write a file, which is there when all of it is on the disk; nothing of it where that fails, or is cancelled."""
    part = file.with_suffix(".part")
    with _whole(part, file) as out:
        async with aclosing(lines):
            async for line in lines:
                out.write(line)
        await asyncio.to_thread(_settle, out)


def finish(
    directory: Path,
    tenant: str,
    by: str,
    written: Mapping[str, Sequence[Whole]],
    subscriptions: Sequence[Data],
    unread: Sequence[Data],
    beside: Sequence[Data],
) -> None:
    """Write the file that names all others, which makes it a backup.

    What a try that was cut off has left of others is removed before: of sessions and streams deleted since, say.
    """
    for form in FORMS:
        _clear(directory, form, tenant, written[form.type])
    chain, file = Chain(), directory / TENANT
    with _whole(file.with_name(f"{TENANT}.part"), file) as out:
        manifest = {"type": "manifest", "format": FORMAT, "kind": "tenant", "fabric": VERSION, "tenant": tenant}
        out.write(chain.line({**manifest, "at": time.time_ns() // 1_000_000, "by": by}))
        for form in FORMS:
            for one in sorted(written[form.type]):
                line = {"type": form.type, form.type: one.name, "chain": one.head, form.counted: one.size}
                out.write(chain.line(line))
        for subscription in subscriptions:
            out.write(chain.line({"type": "subscription", "subscription": subscription}))
        for subscription in unread:
            out.write(chain.line({"type": "unread", "subscription": subscription}))
        for kept in beside:
            out.write(chain.line(kept))
        counts = {form.directory: len(written[form.type]) for form in FORMS}
        counts |= {"subscriptions": len(subscriptions), "unread": len(unread), "kept": len(beside)}
        out.write(chain.line({"type": "end", **counts}))
        _settle(out)


def listed(directory: Path) -> Listed:
    """Read what a finished backup says that it has. Raises `InvalidRequest` where there is none, `Corrupt`."""
    file, checked = directory / TENANT, Checked()
    found: dict[str, list[Data]] = {"session": [], "stream": [], "subscription": [], "unread": [], "kept": []}
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
    subscriptions, unread = ([data.get("subscription") for data in found[type]] for type in ("subscription", "unread"))
    return Listed(checked.manifest, found, subscriptions, unread, found["kept"])


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


def _tenant_of(file: Path) -> str | None:
    """Return whose a file says that it is; None for one that was cut off before that, or is none of a backup."""
    try:
        with file.open("rb") as lines:
            tenant = orjson.loads(lines.readline(MOST_LINE))["data"]["tenant"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return tenant if isinstance(tenant, str) else None


def _clear(directory: Path, form: Form, tenant: str, written: Sequence[Whole]) -> None:
    ours = {form.file(directory, one.name) for one in written}
    for file in (directory / form.directory).iterdir():
        if file.suffix == ".part" or (file.suffix == ".jsonl" and file not in ours and _tenant_of(file) == tenant):
            file.unlink()


@contextmanager
def _whole(part: Path, file: Path) -> Iterator[BinaryIO]:
    """Write to `part`, which becomes `file` at the end; an error or a cancellation leaves neither.

    What the disk says names the file: of writing to one that is open it does not.
    """
    try:
        with part.open("wb") as out:
            yield out
        part.rename(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(part)) from error
        raise
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _settle(out: BinaryIO) -> None:
    out.flush()
    os.fsync(out.fileno())

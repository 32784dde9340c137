"""The files of exports and audits: written whole or not at all, packed by their names, read a line at a time."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from session_fabric.importing import Verified, verify
from session_fabric.rules.chains import MOST_LINE
from session_fabric.words.errors import Corrupt, FabricError, InvalidRequest

from session_fabric_cli.asking import confirm
from session_fabric_cli.failing import unwritten
from session_fabric_cli.progress import Progress


def check_free(path: Path, *, yes: bool) -> None:
    """Ask before a file is written over (`yes`: do not). Raises `InvalidRequest`, also for what is no file."""
    if not path.exists():
        return
    if not path.is_file():
        raise InvalidRequest(f"{path} is there, and is no file.", hint="Name a file: it is put in that place whole.")
    confirm(f"Write over {path}", yes=yes)


async def write_file(path: Path, lines: AsyncIterator[bytes], shown: Progress) -> None:
    """Write a file whole or not at all. Raises `InvalidRequest`, and `OSError` where there is no room."""
    with _whole(path) as file:
        async for line in lines:
            file.write(line)
            shown.advance()


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of what is there when the block has ended without an error."""
    draft: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        draft = Path(name)
        with _packed(os.fdopen(handle, "wb"), path) as file:
            yield file
        draft.replace(path)
        draft = None
    except OSError as error:
        raise unwritten(path, error) from error
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


@contextmanager
def _packed(raw: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    with ExitStack() as stack:
        file: Any = stack.enter_context(raw)
        if path.suffix == ".gz":
            file = stack.enter_context(gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0))
        elif path.suffix == ".zst":
            import zstandard

            file = stack.enter_context(zstandard.ZstdCompressor().stream_writer(raw, closefd=False))
        yield file


def lines_of(path: Path) -> Iterator[bytes]:
    """Read a file's lines, one at a time. Raises `InvalidRequest`, `Corrupt`."""
    number = 0
    try:
        with ExitStack() as stack:
            file: Any = stack.enter_context(path.open("rb"))
            if path.suffix == ".gz":
                file = stack.enter_context(gzip.GzipFile(fileobj=file))
            elif path.suffix == ".zst":
                import io

                import zstandard

                file = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file, closefd=False))
            while line := file.readline(MOST_LINE):
                number += 1
                yield line
    except FileNotFoundError as error:
        raise InvalidRequest(f"There is no file {path}.", hint="Make one with `fabricctl session export`.") from error
    except (IsADirectoryError, PermissionError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.") from error
    except FabricError:
        raise
    except Exception as error:  # what unpacking says of a file that is none of its own
        raise Corrupt(
            f"Line {number + 1} is wrong: {path} cannot be unpacked from there on.",
            hint="Use another copy of the file.",
            line=number + 1,
        ) from error


def check_kept(continued: Path, file: Path) -> None:
    """Raise `InvalidRequest` where a file would be written in the place of the one that it continues."""
    if file.exists() and continued.exists() and file.samefile(continued):
        raise InvalidRequest(
            f"{file} is the file that is to be continued.", hint="Write what follows into a file of its own: keep both."
        )


def verified_of(path: Path) -> Verified:
    return verify(lines_of(path))

"""Contexts: brokers by name, with what it takes to reach them, in one file of the user's."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from session_fabric.words.errors import InvalidRequest

from session_fabric_cli.failing import unwritten
from session_fabric_cli.naming import nothing_such
from session_fabric_cli.replacing import replace_file

VARIABLE: Final = "SESSION_FABRIC_CONTEXT"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOST_BYTES: Final = 256 * 1024
_TABLE: Final = "it is no table"
_WRONG: Final[Mapping[str, str]] = {
    "extra_forbidden": "there is no such field",
    "literal_error": "it is none of table, json and yaml",
    "dict_type": _TABLE,
    "mapping_type": _TABLE,
    "model_type": _TABLE,
}


class Context(BaseModel):
    """A broker, and how to introduce oneself there. Files are named as they are found from anywhere: absolutely.

    `nats`: the broker's URL, or several of one with commas between. `keys`: the file of tenants' keys.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nats: str | None = None
    credentials: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    tenant: str | None = None
    keys: Path | None = None
    output: Literal["table", "json", "yaml"] | None = None


class Contexts(BaseModel):
    """The file: contexts by name, and the one that is used where none is named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    current: str | None = None
    contexts: Mapping[str, Context] = Field(default_factory=dict)

    @classmethod
    def read(cls) -> Self:
        """Read the user's file; nothing where there is none. Raises `InvalidRequest`."""
        path = file()
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise InvalidRequest(f"{path} has more than {_MOST_BYTES} bytes.", hint="It is no file of contexts.")
            return cls.model_validate(tomllib.loads(path.read_text("utf-8")))
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise InvalidRequest(f"The contexts cannot be read from {path}: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"{path} is not TOML: {error}.", hint="Mend it, or move it away.") from error
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            why = _WRONG.get(first["type"], "it is no text")
            raise InvalidRequest(f"{path} is wrong at {where}: {why}.", hint="Mend it, or move it away.") from error

    def named(self, name: str) -> Context:
        """Return a context. Raises `NothingSuch`."""
        found = self.contexts.get(name)
        if found is None:
            raise nothing_such("context", name, self.contexts, listed_by="fabricctl context ls")
        return found

    def write(self) -> None:
        """Put it in the place of what is there: for its owner alone, whole or not at all.

        Raises `InvalidRequest`, and `OSError` where there is no room.
        """
        import tomli_w

        path = file()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, tomli_w.dumps(self.model_dump(mode="json", exclude_none=True)).encode())
        except OSError as error:
            raise unwritten(path, error) from error

    def changed(self, **fields: Any) -> Self:
        return self.model_copy(update=fields)


def file() -> Path:
    """Return where contexts are kept (XDG base directories)."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "session-fabric" / "config.toml"


def check_context_name(name: str) -> str:
    """Return it. Raises `InvalidRequest`."""
    if _NAME.fullmatch(name) is None:
        raise InvalidRequest(
            f"{name!r:.80} is not a context's name.", hint="Letters, digits, '.', '_' and '-': at most 64."
        )
    return name


def context_names() -> list[str]:
    """Return the names that the file has, whatever else is wrong with it: for completion."""
    try:
        found = tomllib.loads(file().read_text("utf-8")).get("contexts", {})
    except (OSError, ValueError):
        return []
    return sorted(found) if isinstance(found, dict) else []

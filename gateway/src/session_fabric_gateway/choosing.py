"""What an operator has chosen: flags above the environment above the defaults; what is wrong, said in our words."""

from __future__ import annotations

import argparse
import ipaddress
import os
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import ValidationError
from session_fabric.words.errors import InvalidRequest

from session_fabric_gateway.addresses import Network
from session_fabric_gateway.settings import Settings

ENVIRONMENT: Final = "SESSION_FABRIC_"
_SEVERAL: Final = frozenset({"allow_origin", "limit", "trusted_proxy", "token_issuer", "webhook_host"})


class _Chosen(NamedTuple):
    value: Any
    by: str  # the flag or the variable


def flags_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Return each setting's flag."""
    return {action.dest: action.option_strings[-1] for action in parser._actions}


def choose(flags: Mapping[str, str], parsed: argparse.Namespace, environment: Mapping[str, str]) -> Settings:
    """Return the settings; `flags` are those by which each may be given. Raises `InvalidRequest` that names the flag
    or the variable which is wrong, and what it may be."""
    chosen: dict[str, _Chosen] = {}
    for name in Settings.model_fields:
        given, variable = getattr(parsed, name, None), f"{ENVIRONMENT}{name.upper()}"
        if given is not None:
            chosen[name] = _Chosen(given, flags[name])
        elif variable in environment and name != "limits":
            text = environment[variable]
            several = tuple(filter(None, (one.strip() for one in text.split(",")))) if name in _SEVERAL else text
            chosen[name] = _Chosen(several, variable)
    values = {name: one.value for name, one in chosen.items()}
    file = parsed.dev_secret_file or environment.get(f"{ENVIRONMENT}DEV_SECRET_FILE")
    if file is not None and "dev_secret" not in values:
        try:
            values["dev_secret"] = Path(file).read_text().strip()
        except OSError as error:
            raise InvalidRequest(f"The secret cannot be read from {file}: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"The secret cannot be read from {file}: it is no text.") from error
    if values.get("demo") == "":  # of paths that would be the working directory
        raise InvalidRequest(f"{chosen['demo'].by} '' is no directory.", hint="For no page, write none.")
    if values.get("demo") == "none":
        values["demo"] = None
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        where = error.errors(include_url=False, include_input=False, include_context=False)[0]["loc"]
        raise _wrong(str(where[0]), chosen[str(where[0])], where[1:]) from error
    settings.check()
    return settings


def descriptor(text: str | None) -> int | None:
    """Return the descriptor that `--ready-fd` names. Raises `InvalidRequest` for one that is not open."""
    if text is None:
        return None
    try:
        number = int(text)
        os.fstat(number)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidRequest(
            f"--ready-fd {text!r:.80} is no open file descriptor.", hint="Whoever starts the gateway opens it."
        ) from error
    return number


def _wrong(name: str, chosen: _Chosen, inner: tuple[int | str, ...]) -> InvalidRequest:
    value = chosen.value
    if isinstance(value, list | tuple) and inner and isinstance(inner[0], int):
        value = value[inner[0]]
    field = Settings.model_fields[name]
    shown = f" {value!r:.80}" if field.repr else ""
    hint = f"The default is {field.default}." if isinstance(field.default, int | float) else "See docs/settings.md."
    if get_args(field.annotation)[:1] == (Network,):
        hint = _network(str(value))
    return InvalidRequest(f"{chosen.by}{shown} is not {_may_be(field.annotation, field.metadata)}.", hint=hint)


def _may_be(annotation: Any, metadata: list[Any]) -> str:
    """Say in words what a setting of a type may be."""
    if get_origin(annotation) is Annotated:
        annotation, *fields = get_args(annotation)
        metadata = [one for field in fields for one in field.metadata]
    if get_origin(annotation) in (Union, types.UnionType):
        return _may_be(get_args(annotation)[0], metadata)
    if get_origin(annotation) is Literal:
        return " or ".join(get_args(annotation))
    if annotation is bool:
        return "true or false"
    if annotation in (int, float):
        bounds = {kind: getattr(one, kind) for one in metadata for kind in ("gt", "ge", "le") if hasattr(one, kind)}
        least = f"above {bounds['gt']} and up" if "gt" in bounds else f"from {bounds['ge']}"
        return f"a {'whole number' if annotation is int else 'number of seconds'} {least} to {bounds['le']}"
    return "an address or a network" if get_args(annotation)[:1] == (Network,) else "what it may be"


def _network(text: str) -> str:
    """Say what to write for what is no network: most often an address within one."""
    try:
        meant = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return "Write 10.0.0.0/8, or one address."
    return f"Write {meant}, or {text.strip().partition('/')[0]} for this address alone."

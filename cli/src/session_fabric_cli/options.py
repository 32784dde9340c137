"""The options that all commands on a running broker share, and what counts where several say it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Concatenate, Final, Literal, ParamSpec

import typer
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.names import check_tenant

from session_fabric_cli.contexts import VARIABLE, Context, Contexts, context_names

Output = Literal["table", "json", "yaml"]
P = ParamSpec("P")
Command = Callable[Concatenate["Options", P], Coroutine[Any, Any, None]]

DEFAULT_TIMEOUT_S: Final = 10.0
DEFAULT_TENANT: Final = "default"
# What the environment says, by what it says it of.
VARIABLES: Final = {
    "nats": "SESSION_FABRIC_NATS",
    "credentials": "SESSION_FABRIC_NATS_CREDENTIALS",
    "ca": "SESSION_FABRIC_NATS_CA",
    "cert": "SESSION_FABRIC_NATS_CERT",
    "key": "SESSION_FABRIC_NATS_KEY",
    "tenant": "SESSION_FABRIC_TENANT",
    "keys": "SESSION_FABRIC_ENCRYPTION_KEYS",
}
# What is wrong where nobody names a broker, and what to do.
NO_BROKER: Final = (
    "No broker was named, and no `fabricctl dev` runs on a default directory.",
    "Start `fabricctl dev`, give --nats URL, or keep one: `fabricctl context set NAME --nats URL --use`.",
)
# These belong to a broker: a context's are shown to its own broker alone.
_OF_A_BROKER: Final = frozenset({"credentials", "ca", "cert", "key"})
_SPAN: Final = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(ms|s|m|h)?")
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was said of where and how, settled. `nats` None: nobody named a broker, a running `fabricctl dev` may do.

    `context`: the one in use. `sources`: who said each, for those who wonder.
    """

    context: str | None = None
    nats: str | None = None
    credentials: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    tenant: str = DEFAULT_TENANT
    keys: Path | None = None
    output: Output = "table"
    timeout_s: float = DEFAULT_TIMEOUT_S
    sources: Mapping[str, str] = field(default_factory=dict)


def settle(
    environ: Mapping[str, str],
    contexts: Contexts,
    *,
    context: str | None = None,
    nats: str | None = None,
    tenant: str | None = None,
    output: Output | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> Options:
    """Decide what counts: flags, then the context that a flag names, then the environment, then the context in use.

    Raises `NothingSuch` for a context that is none.
    """
    name = context or environ.get(VARIABLE) or contexts.current
    used = contexts.named(name) if name else Context()
    said: list[tuple[str, Mapping[str, Any]]] = [
        ("flag", {"nats": nats, "tenant": tenant, "output": output}),
        *([(f"context {name}", used.model_dump())] if context else []),
        ("environment", {what: environ.get(variable) for what, variable in VARIABLES.items()}),
        *([(f"context {name}", used.model_dump())] if name and not context else []),
    ]
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, facts in said:
        # Whatever else a context has for its broker is nothing for another one.
        foreign = source.startswith("context") and values.get("nats") not in (None, used.nats)
        for what, value in facts.items():
            if value and what not in values and not (foreign and what in _OF_A_BROKER):
                values[what] = value
                sources[what] = VARIABLES[what] if source == "environment" else source
    for what in (*_OF_A_BROKER, "keys"):
        if what in values:
            values[what] = Path(values[what]).expanduser()
    check_tenant(values.setdefault("tenant", DEFAULT_TENANT))
    return Options(context=name or None, timeout_s=timeout_s, sources=sources, **values)


def seconds(text: str, option: str = "--timeout") -> float:
    """Read a length of time. Raises `InvalidRequest`."""
    match = _SPAN.fullmatch(text)
    found = 0.0 if match is None else float(match[1]) * _UNITS_S[match[2] or "s"]
    if not 0 < found <= 24 * 3600:
        raise InvalidRequest(f"{option} {text!r:.40} is no time of at most a day.", hint="Write 500ms, 10s, 5m or 1h.")
    return found


ContextOption = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="NAME",
        help="The context to use. Default: $SESSION_FABRIC_CONTEXT, else the one of `fabricctl context use`.",
        show_default=False,
        autocompletion=lambda: context_names(),
    ),
]
NatsOption = Annotated[
    str | None,
    typer.Option(
        "--nats",
        metavar="URL",
        help="The broker. Default: $SESSION_FABRIC_NATS, the context's, or that of a running `fabricctl dev`.",
        show_default=False,
    ),
]
TenantOption = Annotated[
    str | None,
    typer.Option(
        "--tenant",
        metavar="NAME",
        help="Whose sessions. Default: $SESSION_FABRIC_TENANT, the context's, or `default`.",
        show_default=False,
    ),
]
OutputOption = Annotated[
    Output | None,
    typer.Option(
        "--output", "-o", help="A table for people, JSON or YAML for programs. Default: table.", show_default=False
    ),
]
TimeoutOption = Annotated[
    str, typer.Option("--timeout", metavar="TIME", help="How long to wait for the broker: 500ms, 10s, 5m.")
]
# What tokens and credentials say, whichever command makes them.
GrantsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--session",
        metavar="PATTERN=OPERATIONS",
        help="What it grants: 'chat-*=read,append'. May be repeated. Default: what the role is granted.",
        show_default=False,
    ),
]
IssuerOption = Annotated[str | None, typer.Option("--issuer", metavar="ISS", show_default=False)]
AudienceOption = Annotated[str | None, typer.Option("--audience", metavar="AUD", show_default=False)]
_SHARED: Final = (
    ("context", ContextOption, None),
    ("nats", NatsOption, None),
    ("tenant", TenantOption, None),
    ("output", OutputOption, None),
    ("timeout", TimeoutOption, "10s"),
)


def gather(
    context: str | None = None,
    nats: str | None = None,
    tenant: str | None = None,
    output: Output | None = None,
    timeout: str = "10s",
) -> Options:
    """Settle the flags with the user's file and the environment of this process."""
    flags = {"context": context, "nats": nats, "tenant": tenant}
    return settle(os.environ, Contexts.read(), output=output, timeout_s=seconds(timeout), **flags)


def on_broker(function: Command[P]) -> Callable[..., None]:
    """Make a command of a coroutine function: its first parameter, `options`, is what the shared options say.

    They are added to the options that the function names itself.
    """
    signature = inspect.signature(function, eval_str=True)
    _, *own = signature.parameters.values()
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, annotation, default in _SHARED
    ]

    @functools.wraps(function)
    def command(**given: Any) -> None:
        shared = {name: given.pop(name) for name, _, _ in _SHARED}
        asyncio.run(function(gather(**shared), **given))  # type: ignore[call-arg]  # what typer read from the signature

    whole = signature.replace(parameters=[*own, *added], return_annotation=None)
    command.__signature__ = whole  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in whole.parameters.values()}
    return command

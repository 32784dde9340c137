"""`fabricctl context ls | use | set | show | rm`: brokers by name."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import typer
from session_fabric.jetstream.dial import check_url, shown
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.names import check_tenant

from session_fabric_cli.contexts import VARIABLE, Context, Contexts, check_context_name, context_names, file
from session_fabric_cli.dev.places import find_running
from session_fabric_cli.failing import say
from session_fabric_cli.naming import nothing_such
from session_fabric_cli.options import NO_BROKER, ContextOption, OutputOption, gather
from session_fabric_cli.printing import print_facts, print_rows, print_value

NameArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The context.", show_default=False, autocompletion=lambda: context_names()),
]


def list_contexts(output: OutputOption = None) -> None:
    """List the contexts: brokers by name."""
    known = Contexts.read()
    current = os.environ.get(VARIABLE) or known.current
    rows = [{"used": name == current, "context": name, **_plain(one)} for name, one in sorted(known.contexts.items())]
    output = gather_output(output)
    columns = {"mark": "", "context": "context", "nats": "broker", "tenant": "tenant", "credentials": "credentials"}
    told = rows if output != "table" else [{**row, "mark": "*" if row["used"] else ""} for row in rows]
    hint = "`fabricctl context set NAME --nats URL --use` makes one."
    print_rows(output, told, columns, empty=f"There are no contexts in {file()}. {hint}")


def use(name: NameArgument) -> None:
    """Use a context from now on, where none is named."""
    known = Contexts.read()
    known.named(name)
    known.changed(current=name).write()
    print(f"Context {name} is used from now on.", file=sys.stderr)
    if os.environ.get(VARIABLE) not in (None, "", name):
        print(f"In this shell {VARIABLE} says {os.environ[VARIABLE]!r:.80}, and counts more.", file=sys.stderr)


def set_context(
    name: NameArgument,
    nats: Annotated[str | None, typer.Option("--nats", metavar="URL", show_default=False, help="The broker.")] = None,
    credentials: Annotated[
        str | None,
        typer.Option(
            "--credentials", metavar="FILE", show_default=False, help="What to introduce oneself to the broker with."
        ),
    ] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="NAME", show_default=False, help="Whose sessions.")
    ] = None,
    ca: Annotated[
        str | None, typer.Option("--ca", metavar="FILE", show_default=False, help="Who signs for the broker (PEM).")
    ] = None,
    cert: Annotated[
        str | None, typer.Option("--cert", metavar="FILE", show_default=False, help="What to show the broker (PEM).")
    ] = None,
    cert_key: Annotated[
        str | None, typer.Option("--cert-key", metavar="FILE", show_default=False, help="Its private key.")
    ] = None,
    keys: Annotated[
        str | None, typer.Option("--keys", metavar="FILE", show_default=False, help="Keys of tenants that are sealed.")
    ] = None,
    output: Annotated[
        Literal["table", "json", "yaml"] | None,
        typer.Option("--output", "-o", show_default=False, help="How commands print."),
    ] = None,
    use: Annotated[bool, typer.Option("--use", help="Use it from now on.")] = False,
) -> None:
    """Make a context, or change what is given of one that is there.

    An empty value takes it back.
    """
    known = Contexts.read()
    before = known.contexts.get(check_context_name(name))
    if before is None and not nats:
        raise InvalidRequest(f"There is no context {name!r} yet: a new one names its broker.", hint="Give --nats URL.")
    if nats:
        check_url(nats)
    if tenant:
        check_tenant(tenant)
    given: dict[str, Any] = {"nats": nats, "tenant": tenant, "output": output}
    given |= {"credentials": credentials, "ca": ca, "cert": cert, "key": cert_key, "keys": keys}
    changed = {field: _read(field, value) for field, value in given.items() if value is not None}
    one = Context.model_validate({**(before or Context()).model_dump(), **changed})
    if (one.cert is None) != (one.key is None):
        raise InvalidRequest("--cert and --cert-key go together.", hint="Give both, or neither.")
    known = known.changed(contexts={**known.contexts, name: one})
    (known.changed(current=name) if use or not known.current else known).write()
    print(f"Context {name} is {'made' if before is None else 'changed'} in {file()}.", file=sys.stderr)


def show(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A context.", show_default=False, autocompletion=lambda: context_names()),
    ] = None,
    context: ContextOption = None,
    output: OutputOption = None,
) -> None:
    """Show what counts now, and who said it; or what a context has."""
    if name is not None:
        print_facts(gather_output(output), {"context": name, **_plain(Contexts.read().named(name))})
        return
    options = gather(context, output=output)
    running = find_running() if options.nats is None else None
    counts: dict[str, tuple[Any, str | None]] = {
        "context": (options.context, "flag" if context else VARIABLE if os.environ.get(VARIABLE) else str(file())),
        "broker": (options.nats and without_password(options.nats), options.sources.get("nats")),
        **{what: (getattr(options, what), options.sources.get(what)) for what in _FILES},
        "tenant": (options.tenant, options.sources.get("tenant")),
        "output": (options.output, options.sources.get("output")),
    }
    if running is not None:
        counts["broker"] = running.nats, "fabricctl dev"
    rows = [
        {
            "what": what,
            "value": None if value is None else str(value),
            "said_by": (said or "default") if value else None,
        }
        for what, (value, said) in counts.items()
    ]
    if options.output != "table":
        print_value(options.output, {row["what"]: {"value": row["value"], "said_by": row["said_by"]} for row in rows})
        return
    print_rows("table", [row for row in rows if row["value"]], ["what", "value", "said_by"])
    if running is not None:
        print("No broker is named: that of the running `fabricctl dev` is taken.", file=sys.stderr)
    elif options.nats is None:
        say(*NO_BROKER)


def remove(name: NameArgument) -> None:
    """Remove a context from the file. Nothing happens to its broker."""
    known = Contexts.read()
    if name not in known.contexts:
        raise nothing_such("context", name, known.contexts, listed_by="fabricctl context ls")
    left = {other: one for other, one in known.contexts.items() if other != name}
    known.changed(contexts=left, current=None if known.current == name else known.current).write()
    print(f"Context {name} is removed.", file=sys.stderr)
    if known.current == name:
        print("None is used now: `fabricctl context use NAME` chooses one.", file=sys.stderr)


_FILES = ("credentials", "ca", "cert", "key", "keys")


def gather_output(output: Any) -> Any:
    """Return how to print where the context in use must not matter: it may be the one that is wrong."""
    return output or "table"


def without_password(url: str) -> str:
    return shown(url) if any(urlsplit(part).password or urlsplit(part).username for part in url.split(",")) else url


def _plain(context: Context) -> dict[str, Any]:
    plain = context.model_dump(mode="json", exclude_none=True)
    return {**plain, "nats": without_password(plain["nats"])} if "nats" in plain else plain


def _read(field: str, value: str) -> str | Path | None:
    """Return what goes into the file; a file's name as it is from anywhere. Raises `InvalidRequest`."""
    if not value or field not in _FILES:
        return value or None
    path = Path(value).expanduser().absolute()
    if not path.is_file():
        raise InvalidRequest(f"There is no file {path}.", hint="Name one that is there, or nothing to take it back.")
    return path

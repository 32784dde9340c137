"""`fabricctl dev`."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from session_fabric.jetstream.credentials import VARIABLE
from session_fabric.logs import form_of
from session_fabric.told import ending_signals, leave_terminal
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.names import check_tenant

from session_fabric_cli.dev.places import Running, home
from session_fabric_cli.dev.server import DEFAULT_PORT, DevServer, Options
from session_fabric_cli.options import VARIABLES

NATS = VARIABLES["nats"]


def dev(
    port: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=65535,
            help=f"Port of the gateway; 0 is a free one. Default: {DEFAULT_PORT}, or a free one if that is taken.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address that the gateway listens on.")] = "127.0.0.1",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Directory that keeps everything. Default: session-fabric/dev in ~/.local/share"
            " ($XDG_DATA_HOME); dev-2, dev-3 … for further ones beside it.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON when ready, and nothing else on stdout.")
    ] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="Ask nobody for a token. Loopback only.")] = False,
    agent: Annotated[bool, typer.Option("--agent/--no-agent", help="Run the demo agent.")] = True,
    model: Annotated[
        str | None, typer.Option(help="Let the demo agent answer with this OpenAI-compatible model.")
    ] = None,
    model_url: Annotated[
        str | None, typer.Option(help="Base URL of the model's API, such as http://localhost:11434/v1.")
    ] = None,
    api_key_env: Annotated[
        str, typer.Option(metavar="VARIABLE", help="Environment variable with the API key.")
    ] = "OPENAI_API_KEY",
    tenant: Annotated[str, typer.Option(help="Tenant of the token and of the demo agent.")] = "default",
    workers: Annotated[int, typer.Option(metavar="N", min=1, max=64, help="Gateway processes.")] = 1,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="Pages of this origin may use the gateway too, such as http://localhost:5173; may be repeated.",
            show_default=False,
        ),
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(metavar="FORM", help="Form of the parts' logs: json or console.", show_default=False)
    ] = None,
) -> None:
    """Run a broker, a gateway with the demo page, and a demo agent, until Ctrl-C."""
    check_tenant(tenant)
    if insecure and not _loopback(host):
        raise InvalidRequest(
            f"--insecure with --host {host} would let anybody in.", hint="Leave one of the two out.", host=host
        )
    options = Options(
        port=port,
        host=host,
        data=data.expanduser().absolute() if data else None,
        insecure=insecure,
        agent=agent,
        agent_options=_agent_options(model, model_url, api_key_env),
        tenant=tenant,
        workers=workers,
        allow_origin=allow_origin or (),
        log_format=None if log_format is None else form_of(log_format),
    )
    asyncio.run(_run(options, json=json))


async def _run(options: Options, *, json: bool) -> None:
    console = Console(stderr=True, highlight=False)
    server = DevServer(options, lambda text: console.print(text, style="yellow", markup=False, soft_wrap=True))
    work = asyncio.ensure_future(_serve(server, json=json))
    loop = asyncio.get_running_loop()
    stops = 0

    def stop(number: int) -> None:
        nonlocal stops
        leave_terminal()
        stops += 1
        if stops == 1:
            work.cancel()
        elif stops == 3:  # somebody is really impatient: the children end with us
            os._exit(128 + number)

    for number in ending_signals():
        loop.add_signal_handler(number, stop, number)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await work
    finally:
        await server.stop()
    if not json:
        console.print("Stopped. Your sessions are kept in", str(server.data), markup=False, soft_wrap=True)


async def _serve(server: DevServer, *, json: bool) -> None:
    running = await server.start()
    if json:
        print(running.model_dump_json(), flush=True)
    else:
        _welcome(running)
    await server.keep()


def _welcome(running: Running) -> None:
    console = Console(highlight=False)
    # The page keeps both tokens: its link to the operator's page needs no other address.
    page = f"{running.url}/#token={running.token}&operator={running.operator_token}"
    console.print("\n[bold]Session Fabric is running.[/bold] Open\n")
    console.print(f"  {page}\n", style="bold cyan", markup=False, soft_wrap=True)
    rows = {
        "gateway": running.url,
        "websocket": running.ws,
        "broker": running.nats,
        "data, logs": running.data if not running.data.startswith(str(home())) else _short(running.data),
    }
    for name, value in rows.items():
        console.print(f"  {name:<11}{value}", markup=False, soft_wrap=True)
    command = shutil.which("fabricctl") or shlex.quote(sys.argv[0])
    hint = "\n  In another terminal, and for agents of your own:"
    hint += f"\n    export {NATS}={running.nats}\n    export {VARIABLE}={shlex.quote(running.nats_credentials)}"
    hint += f"\n    {command} session ls"
    console.print(hint, markup=False, soft_wrap=True)
    console.print("  Ctrl-C stops everything.\n", markup=False)
    sys.stdout.flush()


def _short(path: str) -> str:
    user = str(Path.home())
    return path.replace(user, "~", 1) if path.startswith(user) else path


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _agent_options(model: str | None, model_url: str | None, api_key_env: str) -> list[str]:
    if model is None:
        if model_url is not None:
            raise InvalidRequest("--model-url says where, but no --model says which.", hint="Add --model NAME.")
        return []
    if model_url is None and not os.environ.get(api_key_env):
        raise InvalidRequest(
            f"The environment variable {api_key_env} has no API key.",
            hint="Set it, name another one with --api-key-env, or give --model-url for a server without keys.",
        )
    options = ["--model", model, "--api-key-env", api_key_env]
    return [*options, "--model-url", model_url] if model_url else options

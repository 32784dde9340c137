"""`session-fabric-gateway`: one gateway process, or several under one parent."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, get_args

import uvloop
from session_fabric import logs
from session_fabric.otlp import exporting
from session_fabric.tracing import PASSED_ON, Traces
from session_fabric.words.errors import FabricError, InvalidRequest

from session_fabric_gateway.app import bind, serving, url_of
from session_fabric_gateway.choosing import choose, descriptor, flags_of
from session_fabric_gateway.settings import Settings
from session_fabric_gateway.stopping import Stopping
from session_fabric_gateway.workers import WORKER, supervise

# The rings hold many small objects without cycles, and a full collection looks through all of them: 50 ms for 200
# sessions with a thousand events each. Python's own thresholds (700, 10, 10) have it often, for everybody to wait.
# A collection of the young looks at all that each of them refers to, ten microseconds of memory that nobody has at hand
# for a connection that has just come: with 2,000 of them others waited for 5 ms, and for 20 ms every tenth time.
_COLLECT: Final = (200, 2, 1_000_000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM, SIGINT or SIGHUP; return the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    parsed = parser.parse_args(arguments)
    try:
        logs.to_stderr(parsed.log_level, logs.form_of(parsed.log_format))
        settings = choose(flags_of(parser), parsed, os.environ)
        parsed.ready_fd = descriptor(parsed.ready_fd)
        worker = os.environ.get(WORKER)
        if settings.workers > 1 and worker is None:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(supervise(settings, arguments, lambda ready: _announce(parsed, ready)))
        else:
            with (
                exporting("session-fabric-gateway") as traces,
                asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
            ):
                runner.run(_serve(settings, parsed, traces or PASSED_ON, shared=worker is not None))
    except FabricError as error:
        print(f"session-fabric-gateway: {error}", file=sys.stderr)
        return 2 if isinstance(error, InvalidRequest) else 1
    return 0


async def _serve(settings: Settings, parsed: argparse.Namespace, traces: Traces, *, shared: bool) -> None:
    stopping = Stopping()
    # The port first: that it is busy should not take a broker to find out.
    with ExitStack() as ports, stopping.before_ready():
        sock = ports.enter_context(bind(settings.host, settings.port, shared=shared))
        admin = None
        if settings.admin_port is not None:
            host = settings.admin_host or settings.host
            admin = ports.enter_context(bind(host, settings.admin_port, shared=shared, flag="--admin-port"))
        async with serving(settings, sock, admin, traces) as gateway:
            gc.freeze()
            gc.set_threshold(*_COLLECT)
            stopping.ready()
            _announce(
                parsed,
                {
                    "url": url_of(sock, tls=settings.tls_cert is not None),
                    "pid": os.getpid(),
                    "gateway": gateway.fabric.broker.holder,
                    **({} if admin is None else {"admin": url_of(admin)}),
                },
            )
            await stopping.told.wait()


def _announce(parsed: argparse.Namespace, ready: dict[str, Any]) -> None:
    """Say where to find us: a line of JSON for programs, a sentence for people."""
    ready = {**ready, "ws": f"ws{ready['url'].removeprefix('http')}/v1/ws"}
    line = json.dumps(ready) + "\n"
    if parsed.ready_fd is not None:
        with os.fdopen(parsed.ready_fd, "w") as pipe:
            pipe.write(line)
    if parsed.json and WORKER not in os.environ:
        print(line, end="", flush=True)
    elif parsed.ready_fd is None:
        print(f"Session Fabric gateway at {ready['url']}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="session-fabric-gateway",
        description="The gateway of Session Fabric. Options can be set in the environment too: SESSION_FABRIC_NAME.",
    )
    add = parser.add_argument
    add("--nats", metavar="URL", help="the broker; several, separated by commas (nats://127.0.0.1:4222)")
    add("--nats-user", metavar="NAME")
    add("--nats-credentials", metavar="FILE", help="a credentials file; password and token come by environment alone")
    add("--nats-ca", metavar="FILE", help="trust a broker whose certificate these authorities have signed")
    add("--nats-cert", metavar="FILE", help="show the broker this certificate")
    add("--nats-key", metavar="FILE")
    add("--encryption-keys", metavar="FILE", help="tenants' keys: the broker gets what is said sealed")
    add("--broker-wait", dest="broker_wait_s", metavar="S", help="a start waits so long for a broker (60)")
    add("--no-provision", dest="provision", action="store_const", const=False, help="make no streams at the broker")
    add("--native-agents", metavar="FILE", help="let agents connect to the broker by their tokens; seeds of ours")
    add("--host", help="the address to listen on (127.0.0.1)")
    add("--port", help="the port; 0 for a free one (8080)")
    add("--admin-port", metavar="PORT", help="serve /metrics there alone, and health there too; 0: a free one")
    add("--admin-host", metavar="HOST", help="the address of that port (that of --host)")
    add("--workers", metavar="N", help="processes that share the port (1)")
    add("--token-keys", metavar="FILE", help="keys that sign tokens: PEM, JWK or JWKS; read again when it changes")
    add("--token-jwks-url", metavar="URL", help="keys that sign tokens, as their issuer publishes them")
    add("--token-jwks-ca", type=Path, metavar="FILE", help="trust these authorities there, in place of the system's")
    add("--token-issuer", action="append", metavar="ISS", help="take tokens of this issuer alone; may be repeated")
    add("--token-audience", metavar="AUD", help="take tokens for this audience alone")
    add("--token-leeway-s", metavar="S", help="by how much clocks may differ (30)")
    add("--dev-secret", metavar="SECRET", help="accept HS256 tokens signed with it; better by file or environment")
    add("--dev-secret-file", type=Path, metavar="FILE")
    add("--insecure", action="store_const", const=True, help="let everybody in; on this machine alone")
    add("--demo", metavar="DIR", help="serve this directory's page at / (the demo; `none`: no page)")
    add("--cookie", metavar="NAME", help="take tokens of our pages from this cookie too")
    add("--allow-origin", action="append", metavar="ORIGIN", help="pages of this origin may use us; may be repeated")
    add("--heartbeat", dest="heartbeat_s", metavar="S", help="silence that ends a connection (8)")
    add("--drain", dest="drain_s", metavar="S", help="time for clients to go elsewhere at the end (5)")
    add("--stop", dest="stop_s", metavar="S", help="after which what is left is cut (15)")
    add("--limits", dest="limits_file", type=Path, metavar="FILE", help="how much who may do: TOML or JSON")
    add("--limit", action="append", metavar="NAME=VALUE", help="one of them, above the file; may be repeated")
    add("--trusted-proxy", action="append", metavar="NET", help="believe X-Forwarded-For of these; may be repeated")
    add("--tls-cert", type=Path, metavar="FILE", help="serve TLS with this certificate, read again when it changes")
    add("--tls-key", type=Path, metavar="FILE")
    add("--tls-client-ca", type=Path, metavar="FILE", help="let in clients with a certificate of this authority alone")
    add("--stream-poll", dest="stream_poll_s", metavar="S", help="how long their long polls wait (25)")
    add("--public-url", metavar="URL", help="under which clients know the gateway; else as each request says")
    add("--webhook-host", action="append", metavar="HOST", help="a private host that webhooks may name; repeatable")
    add("--dialect-abort", choices=["detach", "interrupt"], help="what it does to a run when a page lets go (detach)")
    add("--hsts", dest="hsts_s", metavar="S", help="tell browsers to use TLS alone for so long (0: do not)")
    add("--json", action="store_true", help="print one line of JSON when ready")
    add("--ready-fd", metavar="FD", help="write that line to this file descriptor")
    add("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    add("--log-format", choices=get_args(logs.Form), help="json, or for people (json unless stderr is a terminal)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""`fabricctl doctor`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from textwrap import wrap
from urllib.parse import urlsplit

import typer
from session_fabric.census import processes
from session_fabric.jetstream.api import ApiError
from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.jetstream.consumers import durables
from session_fabric.jetstream.probes import Probes
from session_fabric.jetstream.strangers import strangers
from session_fabric.words.errors import BrokerIncompatible, BrokerUnavailable, FabricError

from session_fabric_cli import diagnosis, nodes
from session_fabric_cli.diagnosis import Finding
from session_fabric_cli.opening import check_operator, operated, reach
from session_fabric_cli.operating import operating
from session_fabric_cli.options import Options, on_broker
from session_fabric_cli.printing import one_line, print_rows, terminal_width
from session_fabric_cli.progress import progress

_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


class _DoesNothing(BrokerUnavailable):
    """A broker was reached that carries out nothing: nobody leads."""


@on_broker
async def doctor(options: Options) -> None:
    """Look at a broker and what runs there: each finding with what mends it.

    Leaves nothing behind, and with 1 when something must be mended.
    """
    check_operator(reach(options))
    found: list[Finding] = []
    try:
        survey = await _survey(options)
        async with operated(options, again=True) as broker:
            with progress("Looking") as shown:
                try:
                    async for one in _look(broker, options, survey):
                        found.append(one)
                        shown.advance()
                except FabricError as error:
                    found.append(Finding("fail", "looking", error.message, error.hint))
    except _DoesNothing as error:
        found = [Finding("fail", "streams", error.message, error.hint), *await nodes.look(reach(options).url)]
    except BrokerIncompatible:
        if not any(one.level == "fail" for one in survey):
            raise
        found = survey  # where this does not fit nothing else can be looked at
    rows = [one._asdict() for one in found]
    if options.output == "table":
        print_findings(found)
    else:
        print_rows(options.output, rows, [])
    if any(one.level == "fail" for one in found):
        raise typer.Exit(1)


def print_findings(found: Sequence[Finding]) -> None:
    """Print a finding a line, and what mends it under it; folded where a terminal is narrow."""
    before = 8 + max(len(one.check) for one in found)
    width = terminal_width()
    room = 1000 if width is None else max(20, width - before)
    for one in found:
        first, *more = wrap(one_line(one.found, 400), room)
        print(f"{one.level:<4}  {one.check:<{before - 8}}  {first}")
        for line in [*more, *wrap(f"→ {one_line(one.fix, 400)}", room, subsequent_indent="  ") * bool(one.fix)]:
            print(f"{'':<{before}}{line}")


async def _survey(options: Options) -> list[Finding]:
    """Look at the streams as one who mends them: they need not fit for that."""
    async with operating(options) as operator:
        try:
            return list(diagnosis.of_survey(await operator.check(), await operator.streams()))
        except BrokerUnavailable as error:
            raise _DoesNothing(error.message, hint=error.hint) from error
        except FabricError as error:
            return [Finding("fail", "streams", error.message, error.hint)]


async def _live(probes: Probes) -> Finding:
    try:
        if await probes.republishes():
            return Finding("ok", "live", "what is stored is told live")
    except ApiError as error:
        return Finding("fail", "live", f"nothing is stored: {error.message}", error.hint)
    fix = "Look at the streams' republish rule: `nats stream info SESSIONS-00`."
    return Finding("fail", "live", "what was stored was not told live within 1 s", fix)


async def _ends(probes: Probes) -> Finding:
    try:
        if await probes.hears_ends():
            return Finding("ok", "ends", "the broker tells of connections that end")
    except FabricError as error:
        fix = "Let in more: max_connections of nats-server, or of the account."
        return Finding("fail", "ends", f"no second connection could be made: {error.message}", fix)
    fix = "Import $SYS.ACCOUNT.*.DISCONNECT: `fabricctl broker config` prints how. Without, deaths show after 2 s."
    return Finding("warn", "ends", "the broker does not tell of connections that end", fix)


async def _look(broker: JetStreamBroker, options: Options, survey: Sequence[Finding]) -> AsyncIterator[Finding]:
    at = reach(options)
    probes = Probes(broker, at.credentials)
    server = probes.server
    yield Finding("ok", "broker", f"nats-server {server.get('version')} at {server.get('host')}:{server.get('port')}")
    local = all(urlsplit(url).hostname in _LOCAL for url in at.url.split(","))
    yield diagnosis.of_tls(server, local)
    rights = await probes.rights(broker.topology.streams[0].name)
    for one in diagnosis.of_rights(rights):
        yield one
    for one in diagnosis.of_limits(await broker.api.call("INFO"), server):
        yield one
    streams = list(await broker.list_streams())
    for one in survey:
        yield one
    for one in diagnosis.of_mark(broker.topology.mark):
        yield one
    for one in diagnosis.of_streams([dict(info) for info in streams], bool(server.get("cluster"))):
        yield one
    yield diagnosis.of_clock("the broker", await probes.clock_s(broker.topology.streams[0].name))
    yield await _live(probes)
    yield await _ends(probes)
    names = [stream.name for stream in broker.topology.streams]
    strange = [one for stream in names async for one in strangers(broker.api, stream)]
    for one in diagnosis.of_strangers(strange):
        yield one
    behind = await durables(broker.api, names)
    for one in diagnosis.of_durables(behind, time.time()):
        yield one
    dead = [entry for entry in await broker.bucket("sf-dead").entries() if entry.value is not None]
    if dead:
        fix = "`fabric.dead_letters()` of the SDK: ask each again (`retry`), or let it go (`drop`)."
        yield Finding("warn", "dead letters", f"{len(dead)} inputs were given up by agents", fix)
    else:
        yield Finding("ok", "dead letters", "none")
    for one in diagnosis.of_processes(await processes(broker), time.time() * 1000):
        yield one

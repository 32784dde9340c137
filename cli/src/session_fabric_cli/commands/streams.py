"""`fabricctl stream`: the streams that keep the sessions, and what else the fabric has at the broker."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.table import Table
from session_fabric.jetstream.operating import Operator, shards_of
from session_fabric.rules.layout import Layout, Lodging
from session_fabric.words.errors import InvalidRequest

from session_fabric_cli.commands.stream_settings import (
    ClusterOption,
    MaxBytesOption,
    ReplicasOption,
    TagOption,
    settings_of,
)
from session_fabric_cli.confirming import YesOption, confirm
from session_fabric_cli.connecting import NatsOption, Output, OutputOption, Reached, broker_at
from session_fabric_cli.printing import one_line, print_json, print_table

app = typer.Typer(no_args_is_help=True)


def progress(what: str) -> None:
    print(one_line(what, 200), file=sys.stderr)


@app.command("ls")
def list_streams(nats: NatsOption = None, output: OutputOption = "table") -> None:
    """List the streams that keep the sessions, with what they hold."""
    asyncio.run(_list(broker_at(nats), output))


async def _list(at: Reached, output: Output) -> None:
    async with Operator.connected(at.url, credentials=at.credentials) as operator:
        layout, infos = await operator.layout(), await operator.infos()
    rows = [_row(lodging, infos[lodging.stream]) for lodging in layout.lodgings if lodging.stream in infos]
    _print_rows(rows, output)


def _row(lodging: Lodging, info: Mapping[str, Any]) -> dict[str, Any]:
    config, state = info["config"], info["state"]
    return {
        "stream": config["name"],
        "buckets": _ranges(lodging.shards),
        "tenant": lodging.tenant or "",
        "events": state["messages"],
        "bytes": state["bytes"],
        "subjects": state.get("num_subjects", 0),
        "first": state["first_seq"],
        "last": state["last_seq"],
        "replicas": config.get("num_replicas", 1),
        "consumers": state.get("consumer_count", 0),
        "made": info.get("created", ""),
    }


def _print_rows(rows: Sequence[Mapping[str, Any]], output: Output) -> None:
    if output != "table":
        print_json(rows)
        return
    table = Table(box=None, pad_edge=False)
    for column in rows[0] if rows else ("stream",):
        left = not rows or isinstance(rows[0][column], str)
        table.add_column(column.upper().replace("_", " "), justify="left" if left else "right")
    for row in rows:
        table.add_row(*(one_line(str(value)) for value in row.values()))
    print_table(table)


def _ranges(shards: Sequence[int]) -> str:
    """Write buckets as they are given to `move-bucket`."""
    out: list[list[int]] = []
    for shard in shards:
        if out and out[-1][-1] + 1 == shard:
            out[-1][-1:] = [*out[-1][-1:], shard] if len(out[-1]) == 1 else [shard]
        else:
            out.append([shard])
    return ",".join("-".join(map(str, part)) for part in out)


@app.command("show")
def show(
    stream: Annotated[str, typer.Argument(help="Its name, as `ls` shows it.")],
    nats: NatsOption = None,
    output: OutputOption = "table",
) -> None:
    """Show one stream: settings, replicas, what moves, and who subscribes."""
    asyncio.run(_show(broker_at(nats), stream, output))


async def _show(at: Reached, stream: str, output: Output) -> None:
    async with Operator.connected(at.url, credentials=at.credentials) as operator:
        layout, infos = await operator.layout(), await operator.infos()
        if stream not in infos:
            raise InvalidRequest(
                f"There is no stream {stream!r:.80}.",
                hint=f"There are {', '.join(x.stream for x in layout.lodgings[:20])}.",
            )
        consumers = await operator.consumers(stream)
    page = _page(layout, stream, infos[stream], consumers)
    if output != "table":
        print_json(page)
        return
    subscriptions = page.pop("subscriptions")
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in page.items():
        lines = value if isinstance(value, list) else [value]
        for n, line in enumerate(lines):
            table.add_row(name.replace("_", " ") if n == 0 else "", one_line(str(line), 400))
    print_table(table)
    if subscriptions:
        print()
        _print_rows(subscriptions, "table")


def _page(
    layout: Layout, stream: str, info: Mapping[str, Any], consumers: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    config, state, cluster = info["config"], info["state"], info.get("cluster") or {}
    lodging = layout.named(stream)
    placement = config.get("placement") or {}
    return {
        "stream": stream,
        "buckets": _ranges(lodging.shards) if lodging else "",
        "tenant": (lodging.tenant if lodging else None) or "",
        "events": state["messages"],
        "bytes": state["bytes"],
        "max_bytes": config.get("max_bytes", -1),
        "sequences": f"{state['first_seq']} to {state['last_seq']}",
        "storage": config["storage"],
        "placement": " ".join([placement.get("cluster", ""), *placement.get("tags", [])]).strip(),
        "leader": cluster.get("leader", ""),
        "replicas": [
            f"{r['name']}: {'offline' if r.get('offline') else 'current' if r.get('current') else 'behind'}"
            for r in cluster.get("replicas") or []
        ],
        "moves": [
            f"{_ranges(m.shards)}{f' of {m.tenant}' if m.tenant else ''} from {m.source} to {m.target}: {m.phase}"
            for m in layout.moves
            if stream in (m.source, m.target)
        ],
        "subscriptions": [
            {
                "subscription": c["name"],
                "waiting": c["num_pending"],
                "unacknowledged": c["num_ack_pending"],
                "redelivered": c["num_redelivered"],
                "through": c["ack_floor"]["stream_seq"],
            }
            for c in consumers
        ],
    }


@app.command("provision")
def provision(
    nats: NatsOption = None,
    streams: Annotated[
        int | None, typer.Option(min=1, max=256, help="How many streams share the sessions: a power of two.")
    ] = None,
    replicas: ReplicasOption = None,
    yes: YesOption = False,
) -> None:
    """Make what is missing, set what an earlier version has set otherwise, divide streams until there are --streams."""
    asyncio.run(_provision(broker_at(nats), streams, replicas, yes))


async def _provision(at: Reached, streams: int | None, replicas: int | None, yes: bool) -> None:
    async with Operator.connected(at.url, credentials=at.credentials, say=progress) as operator:
        there = await operator.streams()
        if streams is not None and 0 < there < streams:
            confirm(f"Divide {there} streams into {streams}? They cannot be put together again.", yes)
        layout = await operator.provision(streams=streams, replicas=replicas)
    print(f"Provisioned: {', '.join(lodging.stream for lodging in layout.lodgings)}.")


@app.command("move-bucket")
def move_bucket(
    buckets: Annotated[str, typer.Argument(help="Which of the 256: 7, 40-47 or 1,3,5-9; all of one stream.")],
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="NAME", help="The stream that is made for them.", show_default="the next"),
    ] = None,
    nats: NatsOption = None,
    replicas: ReplicasOption = None,
    max_bytes: MaxBytesOption = None,
    placement_tag: TagOption = None,
    placement_cluster: ClusterOption = None,
    yes: YesOption = False,
) -> None:
    """Move buckets of sessions, in use, to a stream of their own. Interrupted, `repair` brings it to its end."""
    settings = settings_of(replicas, max_bytes, placement_tag, placement_cluster)
    shards = shards_of(buckets)
    asyncio.run(_move(broker_at(nats), shards, to, settings, yes))


async def _move(at: Reached, shards: list[int], to: str | None, settings: Any, yes: bool) -> None:
    async with Operator.connected(at.url, credentials=at.credentials, say=progress) as operator:
        confirm(f"Move {len(shards)} buckets to a stream of their own? They cannot be moved back.", yes)
        await operator.move_bucket(shards, to, settings)


@app.command("check")
def check(nats: NatsOption = None, output: OutputOption = "table") -> None:
    """Compare everything at the broker with what is needed; say each difference with its fix, and leave with 1."""
    raise typer.Exit(asyncio.run(_check(broker_at(nats), output)))


async def _check(at: Reached, output: Output) -> int:
    async with Operator.connected(at.url, credentials=at.credentials) as operator:
        findings = await operator.check()
    rows = [
        {"where": f.where, "what": f.what, "fix": f.fix, "mended_by": "fabricctl stream repair" if f.mend else "you"}
        for f in findings
    ]
    if output != "table":
        print_json(rows)
    elif rows:
        for row in rows:
            print(f"{row['where']}: {one_line(row['what'], 1000)}")
            print(
                f"  {one_line(row['fix'], 1000)}" + (" (fabricctl stream repair)" if row["mended_by"] != "you" else "")
            )
    else:
        print("Everything is as it should be.")
    return 1 if rows else 0


@app.command("repair")
def repair(nats: NatsOption = None, yes: YesOption = False) -> None:
    """Mend in place what can be: settings, what is missing, moves that were interrupted. Says what it cannot."""
    raise typer.Exit(asyncio.run(_repair(broker_at(nats), yes)))


async def _repair(at: Reached, yes: bool) -> int:
    async with Operator.connected(at.url, credentials=at.credentials, say=progress) as operator:
        findings = await operator.check()
        mended = [f for f in findings if f.mend is not None and f.safe]
        for finding in [f for f in findings if f.mend is not None and not f.safe]:
            confirm(f"{finding.where}: {finding.what} {finding.fix} Do it?", yes)
            mended.append(finding)
        await operator.repair(mended)
        left = await operator.check()
    for finding in left:
        print(f"{finding.where}: {one_line(finding.what, 1000)}\n  {one_line(finding.fix, 1000)}")
    print(f"Mended: {len(mended)}; left: {len(left)}.")
    return 1 if left else 0

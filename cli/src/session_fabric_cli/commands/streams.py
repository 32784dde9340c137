"""`fabricctl stream`: the streams that keep the sessions, and what else the fabric has at the broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from session_fabric.jetstream.operating import shards_of
from session_fabric.rules.layout import Layout, Lodging

from session_fabric_cli.asking import YesOption, confirm
from session_fabric_cli.commands.stream_settings import (
    ClusterOption,
    MaxBytesOption,
    ReplicasOption,
    TagOption,
    settings_of,
)
from session_fabric_cli.failing import FAILED
from session_fabric_cli.naming import nothing_such
from session_fabric_cli.operating import operating
from session_fabric_cli.options import Options, on_broker
from session_fabric_cli.printing import one_line, print_facts, print_rows, print_value

_COLUMNS = (
    "stream",
    "buckets",
    "tenant",
    "events",
    "bytes",
    "subjects",
    "first",
    "last",
    "replicas",
    "consumers",
    "made",
)


@on_broker
async def list_streams(options: Options) -> None:
    """List the streams that keep the sessions, with what they hold."""
    async with operating(options) as operator:
        layout, infos = await operator.layout(), await operator.infos()
    rows = [_row(lodging, infos[lodging.stream]) for lodging in layout.lodgings if lodging.stream in infos]
    print_rows(options.output, rows, _COLUMNS)


def _row(lodging: Lodging, info: Mapping[str, Any]) -> dict[str, Any]:
    config, state = info["config"], info["state"]
    return {
        "stream": config["name"],
        "buckets": ranges(lodging.shards),
        "tenant": lodging.tenant,
        "events": state["messages"],
        "bytes": state["bytes"],
        "subjects": state.get("num_subjects", 0),
        "first": state["first_seq"],
        "last": state["last_seq"],
        "replicas": config.get("num_replicas", 1),
        "consumers": state.get("consumer_count", 0),
        "made": info.get("created", ""),
    }


def ranges(shards: Sequence[int]) -> str:
    """Write buckets as they are given to `move-bucket`."""
    out: list[list[int]] = []
    for shard in shards:
        if out and out[-1][-1] + 1 == shard:
            out[-1] = [out[-1][0], shard]
        else:
            out.append([shard])
    return ",".join("-".join(map(str, part)) for part in out)


@on_broker
async def show(options: Options, stream: Annotated[str, typer.Argument(help="Its name, as `ls` shows it.")]) -> None:
    """Show one stream: settings, replicas, what moves, and who subscribes."""
    async with operating(options) as operator:
        layout, infos = await operator.layout(), await operator.infos()
        if stream not in infos:
            raise nothing_such("stream", stream, layout.streams, listed_by="fabricctl stream ls")
        consumers = await operator.consumers(stream)
    page = _page(layout, stream, infos[stream], consumers)
    print_facts(options.output, page, only=[name for name in page if name != "subscriptions"])
    if options.output == "table" and consumers:
        print()
        print_rows("table", page["subscriptions"], list(page["subscriptions"][0]))


def _page(
    layout: Layout, stream: str, info: Mapping[str, Any], consumers: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    config, state, cluster = info["config"], info["state"], info.get("cluster") or {}
    lodging = layout.named(stream)
    placement = config.get("placement") or {}
    return {
        "stream": stream,
        "buckets": ranges(lodging.shards) if lodging else "",
        "tenant": lodging.tenant if lodging else None,
        "events": state["messages"],
        "bytes": state["bytes"],
        "max_bytes": config["max_bytes"] if config.get("max_bytes", -1) > 0 else None,
        "first": state["first_seq"],
        "last": state["last_seq"],
        "storage": config["storage"],
        "placement": [*filter(None, [placement.get("cluster")]), *placement.get("tags", [])],
        "replicas": config.get("num_replicas", 1),
        "leader": cluster.get("leader"),
        "followers": [
            f"{r['name']} {'offline' if r.get('offline') else 'current' if r.get('current') else 'behind'}"
            for r in cluster.get("replicas") or []
        ],
        "moves": [
            f"{ranges(m.shards)}{f' of {m.tenant}' if m.tenant else ''} from {m.source} to {m.target}: {m.phase}"
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


@on_broker
async def provision(
    options: Options,
    streams: Annotated[
        int | None, typer.Option(min=1, max=256, help="How many streams share the sessions: a power of two.")
    ] = None,
    replicas: ReplicasOption = None,
    yes: YesOption = False,
) -> None:
    """Make what is missing, set what an earlier version set otherwise, divide streams until there are --streams."""
    async with operating(options) as operator:
        there = await operator.streams()
        if streams is not None and 0 < there < streams:
            confirm(f"Divide {there} streams into {streams}, for good", yes=yes)
        layout = await operator.provision(streams=streams, replicas=replicas)
    names = [lodging.stream for lodging in layout.lodgings]
    if options.output == "table":
        print(f"Provisioned: {', '.join(names)}.")
    else:
        print_value(options.output, {"streams": names})


@on_broker
async def move_bucket(
    options: Options,
    buckets: Annotated[str, typer.Argument(help="Which of the 256: 7, 40-47 or 1,3,5-9; all of one stream.")],
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="NAME", help="The stream that is made for them. Default: the next free name."),
    ] = None,
    replicas: ReplicasOption = None,
    max_bytes: MaxBytesOption = None,
    placement_tag: TagOption = None,
    placement_cluster: ClusterOption = None,
    yes: YesOption = False,
) -> None:
    """Move buckets of sessions, in use, to a stream of their own. Interrupted, `repair` brings it to its end."""
    settings = settings_of(replicas, max_bytes, placement_tag, placement_cluster)
    shards = shards_of(buckets)
    async with operating(options) as operator:
        confirm(f"Move buckets {ranges(shards)} to a stream of their own, for good", yes=yes)
        layout = await operator.move_bucket(shards, to, settings)
    stream = next(x.stream for x in layout.of(None) if shards[0] in x.shards)
    if options.output == "table":
        print(f"Buckets {ranges(shards)} are in {stream}.")
    else:
        print_value(options.output, {"stream": stream, "buckets": shards})


@on_broker
async def check(options: Options) -> None:
    """Compare everything at the broker with what is needed; say each difference with its fix, and leave with 1."""
    async with operating(options) as operator:
        findings = await operator.check()
    rows = [{"where": f.where, "what": f.what, "fix": f.fix, "repair": f.mend is not None} for f in findings]
    if options.output != "table":
        print_value(options.output, rows)
    elif not rows:
        print("Everything is as it should be.")
    for finding in findings if options.output == "table" else ():
        how = " (`fabricctl stream repair`)" if finding.mend else ""
        print(f"{finding.where}: {one_line(finding.what, 1000)}\n  {one_line(finding.fix, 1000)}{how}")
    if rows:
        raise typer.Exit(FAILED)


@on_broker
async def repair(options: Options, yes: YesOption = False) -> None:
    """Mend in place what can be: settings, what is missing, moves that were interrupted. Says what it cannot."""
    async with operating(options) as operator:
        findings = [f for f in await operator.check() if f.mend is not None]
        for finding in findings:
            if not finding.safe:
                confirm(f"{finding.where}: {one_line(finding.what, 400)} {finding.fix} Do it", yes=yes)
        await operator.repair(findings)
        left = await operator.check()
    rows = [{"where": f.where, "what": f.what, "fix": f.fix} for f in left]
    if options.output != "table":
        print_value(options.output, {"mended": len(findings), "left": rows})
    else:
        for row in rows:
            print(f"{row['where']}: {one_line(row['what'], 1000)}\n  {one_line(row['fix'], 1000)}")
        print(f"Mended: {len(findings)}. Left: {len(left)}.")
    if left:
        raise typer.Exit(FAILED)

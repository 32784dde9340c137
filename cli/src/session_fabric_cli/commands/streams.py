"""`fabricctl stream`: the streams that keep the sessions, and what else the fabric has at the broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from session_fabric.jetstream.consumers import durable_of
from session_fabric.jetstream.operating import shards_of
from session_fabric.rules.layout import Layout, Lodging, move_shards

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
from session_fabric_cli.options import Options, Output, on_broker
from session_fabric_cli.printing import moment, one_line, print_facts, print_rows, print_value

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
_SPARE = ("made", "subjects", "first", "last", "consumers", "bytes", "replicas")


@on_broker
async def list_streams(options: Options) -> None:
    """List the streams that keep the sessions, with what they hold."""
    async with operating(options) as operator:
        layout, infos = await operator.layout(), await operator.infos()
    rows = [_row(lodging, infos[lodging.stream]) for lodging in layout.lodgings if lodging.stream in infos]
    print_streams(options.output, rows)


def print_streams(output: Output, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a list of streams."""
    if output == "table":
        rows = [{**row, "made": moment(row["made"]) if row["made"] is not None else ""} for row in rows]
    print_rows(output, rows, _COLUMNS, names=("stream", "made"), spare=_SPARE)


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
        "made": _moment_ms(info.get("created", "")),
    }


def _moment_ms(made: str) -> int | None:
    """Return what the broker says (RFC 3339, to the nanosecond) in milliseconds since 1970, as other times are."""
    return int(datetime.fromisoformat(made).timestamp() * 1000) if made else None


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
    print_page(options.output, page_of(layout, stream, infos[stream], consumers))


def print_page(output: Output, page: Mapping[str, Any]) -> None:
    """Print one stream: all of it for programs, lines for people."""
    if output != "table":
        print_value(output, page)
        return
    facts = {**page, "followers": _followers(page), "moves": _moves(page)}
    print_facts("table", facts, only=[name for name in facts if name != "subscriptions"])
    if page["subscriptions"]:
        print()
        columns = [name for name in page["subscriptions"][0] if any(row[name] != "" for row in page["subscriptions"])]
        rows = [{**row, "tenant": row["tenant"] or "(all)"} for row in page["subscriptions"]]
        print_rows("table", rows, columns, names=("tenant", "durable"), spare=("redelivered", "through", "session"))


def page_of(
    layout: Layout, stream: str, info: Mapping[str, Any], consumers: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what there is to say of one stream, as the broker describes it, in the names that are printed."""
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
            {
                "server": r["name"],
                "state": "offline" if r.get("offline") else "current" if r.get("current") else "behind",
                "behind": r.get("lag", 0),
            }
            for r in cluster.get("replicas") or []
        ],
        "moves": [
            {"buckets": ranges(m.shards), "tenant": m.tenant, "from": m.source, "to": m.target, "phase": m.phase}
            for m in layout.moves
            if stream in (m.source, m.target) and m.phase != "gone"
        ],
        "subscriptions": [
            {
                **dict(zip(("tenant", "durable", "session"), durable_of(c), strict=True)),
                "waiting": c["num_pending"],
                "unacknowledged": c["num_ack_pending"],
                "redelivered": c["num_redelivered"],
                "through": c["ack_floor"]["stream_seq"],
            }
            for c in consumers
        ],
    }


def _followers(page: Mapping[str, Any]) -> list[str]:
    return [f"{one['server']} {one['state']}" for one in page["followers"]]


def _moves(page: Mapping[str, Any]) -> list[str]:
    return [
        " ".join(
            [one["buckets"], *(["of", one["tenant"]] if one["tenant"] else []), "from", one["from"], "to", one["to"]]
        )
        + f": {one['phase']}"
        for one in page["moves"]
    ]


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
        move_shards(await operator.layout(), shards, to)  # what cannot be is refused before anybody is asked
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

"""What is well with a broker and what is not: facts in, findings out. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, assert_never

from session_fabric.census import Process
from session_fabric.jetstream.consumers import DurableState
from session_fabric.jetstream.durable import MOST_IN_HAND
from session_fabric.jetstream.probes import Right
from session_fabric.jetstream.strangers import Stranger, deletion
from session_fabric.jetstream.survey import Finding as Surveyed
from session_fabric.rules.versions import Mark

from session_fabric_cli import versions
from session_fabric_cli.printing import counted

Level = Literal["ok", "warn", "fail"]
_LEAST_PAYLOAD: Final = 1024 * 1024  # nats-server's own default; bodies are 256 KiB at most inline
_CLOCK_WARN_S: Final = 1.0
_CLOCK_FAIL_S: Final = 30.0  # by this much tokens' times may differ
_LATE_S: Final = 60.0
_FULL: Final = 0.8
_TOO_FULL: Final = 0.95


class Finding(NamedTuple):
    """One line: what was looked at, how it is, and what mends it ("" where nothing has to be)."""

    level: Level
    check: str
    found: str
    fix: str = ""


def of_limits(account: Mapping[str, Any], server: Mapping[str, Any]) -> Iterator[Finding]:
    limits, most = account.get("limits") or {}, server.get("max_payload", 0)
    if most < _LEAST_PAYLOAD:
        yield Finding("warn", "max_payload", f"{most} bytes", "Set max_payload: 1MB in nats-server's configuration.")
    else:
        yield Finding("ok", "max_payload", f"{most} bytes")
    used, room = account.get("storage", 0), limits.get("max_storage", -1)
    if room <= 0:
        yield Finding("ok", "storage", f"{used} bytes used, the account has no limit")
    else:
        level: Level = "fail" if used > room * _TOO_FULL else "warn" if used > room * _FULL else "ok"
        fix = "" if level == "ok" else "Raise max_file of the account, or let retention remove more."
        yield Finding(level, "storage", f"{used} of {room} bytes used", fix)
    if 0 < (most := limits.get("max_ack_pending", -1)) < MOST_IN_HAND:
        found = f"{most}, and durable subscriptions have up to {MOST_IN_HAND} in hand: none can be made"
        yield Finding("fail", "max_ack_pending", found, "Raise max_ack_pending of the account, or set no limit.")
    for name, have in (("max_streams", account.get("streams", 0)), ("max_consumers", account.get("consumers", 0))):
        most = limits.get(name, -1)
        if 0 < most <= have:
            yield Finding("fail", name, f"all {most} are used", f"Raise {name} of the account.")


def of_survey(survey: Sequence[Surveyed], kept: int) -> Iterator[Finding]:
    """Tell what `stream check` has found; of copies `of_streams` tells. `kept`: how many streams keep sessions."""
    for one in survey:
        said = f"{one.where}: {one.what}"
        fix = one.fix if one.mend is None else f"{one.fix.rstrip('.')}: `fabricctl stream repair`."
        match one.about:
            case "settings" | "promises":
                yield Finding("fail", "streams", said, fix)
            case "stuck":
                yield Finding("fail", "moves", said, fix)
            case "moving":
                yield Finding("ok", "moves", f"{said} {one.fix}")
            case "leftovers":
                yield Finding("warn", "leftovers", said, fix)
            case "copies":
                pass
            case never:
                assert_never(never)
    if not any(one.about in ("settings", "promises") for one in survey):
        keep = "1 keeps sessions, as it must be" if kept == 1 else f"{kept} keep sessions, as they must be"
        yield Finding("ok", "streams", keep)


def of_mark(mark: Mark) -> Iterator[Finding]:
    note = versions.of_mark(mark)
    if note is not None:
        yield Finding("warn", "versions", note.say, note.do)


def of_streams(infos: Sequence[Mapping[str, Any]], clustered: bool) -> Iterator[Finding]:
    single = [info["config"]["name"] for info in infos if info["config"].get("num_replicas", 1) < 3]
    if clustered and single:
        fix = f"`nats stream edit {single[0]} --replicas 3`, and so on."
        some = counted(len(single), "stream has", "streams have")
        yield Finding("warn", "replicas", f"{some} fewer than 3 in a cluster", fix)
    elif infos:
        copies = counted(infos[0]["config"].get("num_replicas", 1), "copy", "copies")
        yield Finding(
            "ok",
            "replicas",
            f"{counted(len(infos), 'stream')}, {copies} each",
        )
    if not clustered:
        return
    for info in infos:
        cluster, name = info.get("cluster") or {}, info["config"]["name"]
        away = [peer["name"] for peer in cluster.get("replicas") or [] if peer.get("offline")]
        behind = [peer["name"] for peer in cluster.get("replicas") or [] if not peer.get("current")]
        if not cluster.get("leader"):
            yield Finding("fail", "cluster", f"{name} has no leader", "Start the nodes that are down: a quorum lacks.")
        elif away:
            yield Finding("fail", "cluster", f"{name}: {', '.join(away)} is away", "Start that node again.")
        elif behind:
            yield Finding("warn", "cluster", f"{name}: {', '.join(behind)} is behind", "It catches up; look again.")
    if all((info.get("cluster") or {}).get("leader") for info in infos):
        yield Finding("ok", "leaders", "every stream has one")


def of_clock(whose: str, ahead_s: float) -> Finding:
    off, ahead_s = abs(ahead_s), round(ahead_s, 1) + 0.0
    level: Level = "fail" if off >= _CLOCK_FAIL_S else "warn" if off >= _CLOCK_WARN_S else "ok"
    fix = "" if level == "ok" else "Have both machines keep time by NTP."
    return Finding(level, f"clock of {whose}", f"{ahead_s:+.1f} s from this machine's", fix)


def of_rights(rights: Sequence[Right]) -> Iterator[Finding]:
    for right in rights:
        if right.held is False:
            fix = (
                f"Allow these credentials to {right.how} to {right.subject}, or use those of `fabricctl broker config`."
            )
            yield Finding("fail", "permissions", f"may not {right.what}", fix)
        elif right.held is None:
            yield Finding("warn", "permissions", f"no answer when asked to {right.what}", "Look again.")
    held = sum(right.held is True for right in rights)
    if held == len(rights):
        yield Finding("ok", "permissions", f"all {held} rights that the fabric needs")


def of_tls(server: Mapping[str, Any], local: bool) -> Finding:
    if server.get("tls_required"):
        return Finding("ok", "TLS", "the broker takes TLS alone")
    if local:
        return Finding("ok", "TLS", "none, on this machine alone")
    fix = "`fabricctl broker config DIR --tls-cert FILE --tls-key FILE` says how to ask for it."
    return Finding("warn", "TLS", "the broker takes connections without it", fix)


def of_durables(durables: Sequence[DurableState], now_s: float) -> Iterator[Finding]:
    for one in durables:
        whose = f"{one.name} of {one.tenant or 'all tenants'}"
        of_tenant = f" --tenant {one.tenant}" if one.tenant else ""
        if one.paused_s:
            fix = f"`fabricctl consumer resume {one.name}{of_tenant}`, if that is over."
            yield Finding("warn", "consumers", f"{whose} is paused", fix)
        elif one.oldest_ms is not None and now_s - one.oldest_ms / 1000 > _LATE_S:
            said = f"{whose}: {one.pending + one.in_ack} wait, the oldest for {now_s - one.oldest_ms / 1000:.0f} s"
            fix = f"`fabricctl agent ls{of_tenant}`: does anybody serve it, and with room?"
            yield Finding("warn", "consumers", said, fix)
    if not any(one.paused_s or one.oldest_ms for one in durables):
        yield Finding("ok", "consumers", f"{counted(len(durables), 'durable subscription')}, none behind")


def of_strangers(found: Sequence[Stranger]) -> Iterator[Finding]:
    for one in found:
        where = f"{one.name} in stream {one.stream}"
        deleting = f"delete it, and ours is made: {deletion(one.stream, one.name)}."
        if one.differs:
            said = f"{where} is not as the fabric makes it: {', '.join(one.differs)}"
            yield Finding("fail", "consumers", said, f"Somebody else has made it: {deleting}")
        else:
            said = f"{where} hands out {', '.join(one.hands_out)}: no agent of that pool can work on it"
            yield Finding("warn", "consumers", said, f"If somebody else has made it: {deleting}")


def of_processes(found: Sequence[Process], now_ms: float) -> Iterator[Finding]:
    gateways = [one for one in found if one.kind == "gateway"]
    if not gateways:
        yield Finding("warn", "gateways", "none lives", "Start one: session-fabric-gateway --nats URL.")
    for one in found:
        if one.version is None:
            said = f"{one.kind} {one.holder} does not answer"
            yield Finding("warn", "processes", said, "It hangs, or is being found dead: look again.")
        elif one.skew in ("apart", "unknown"):
            said = f"{one.kind} {one.holder} is of version {one.version or '0.1 or older'}"
            yield Finding("warn", "versions", said, "Upgrade it (docs/upgrading.md).")
    for one in gateways:
        if isinstance(told := one.told.get("now"), int):
            clock = of_clock(f"gateway {one.holder}", (told - now_ms) / 1000)
            if clock.level != "ok":
                yield clock
        if one.told.get("drained"):
            yield Finding("ok", "gateways", f"{one.holder} is drained, to be stopped")
    sealing = [one.told["seals"] for one in gateways if isinstance(one.told.get("seals"), bool)]
    if len(set(sealing)) > 1:
        said = f"{sealing.count(False)} of {counted(len(sealing), 'gateway has', 'gateways have')} no tenants' keys"
        fix = "Give all of them --encryption-keys: one that has none refuses what is to be sealed, or leaves it open."
        yield Finding("warn", "encryption", said, fix)
    if gateways:
        yield Finding("ok", "gateways", f"{len(gateways)} live")

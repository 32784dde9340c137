"""How the page about a session looks on a terminal, wide or narrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from session_fabric_cli.inspecting.hints import Hint
from session_fabric_cli.inspecting.page import Page
from session_fabric_cli.inspecting.runs import RunLine
from session_fabric_cli.inspecting.tables import headed, print_cells, section
from session_fabric_cli.printing import moment, one_line, span

_STYLES = {"failed": "red", "orphaned": "red", "running": "green", "suspended": "yellow", "cancelled": "dim"}
_MOST_RUNS = 12
_WAITING = ("input", "pool", "from", "waits", "came", "behind")


def show_page(console: Console, page: Page, hints: Sequence[Hint]) -> None:
    """Print it: what is wrong first, then what is under way, then what was."""
    _head(console, page)
    advice = Table.grid(padding=(0, 1))
    for hint in hints:
        advice.add_row(Text("!", style="bold yellow"), Text(one_line(hint.say, 400)))
        if hint.command:
            advice.add_row("", Text(f"  {one_line(hint.command, 400)}", style="bold"))
    if hints:
        console.print()
        console.print(advice)
    section(console, "waiting", _WAITING, _waiting(page))
    _runs(console, page)
    section(
        console,
        "controls",
        ("run", "action", "by", "asked", "outcome", "after"),
        [
            (
                c.run,
                c.action,
                c.by,
                _ago(page, c.asked),
                c.state + (", overdue" if c.overdue else ""),
                _ms(c.outcome_ms),
            )
            for c in page.controls[-_MOST_RUNS:]
        ],
    )
    section(
        console,
        "open requests",
        ("request", "kind", "what", "to", "age", "left", "claimed by"),
        [
            (
                r.request,
                r.kind,
                r.what,
                _to(r.to),
                _ms(r.age_ms),
                _left(page, r.deadline),
                "" if r.claimed_by is None else f"{r.claimed_by} ({_left(page, r.claimed_until)})",
            )
            for r in page.requests
        ],
    )
    section(
        console,
        "floors",
        ("pool", "who has it", "process", "since", "offered to"),
        [
            (
                f.pool,
                f.participant or "nobody",
                _process(f.holder, f.alive) if f.holder else {None: "", True: "present", False: "not present"}[f.there],
                _ago(page, f.since),
                ", ".join(_to(offer["to"]) for offer in f.offers),
            )
            for f in page.floors
        ],
    )
    section(
        console,
        "present",
        ("participant", "device", "status", "since", "process"),
        [
            (p.participant, p.device, p.status or "", _ago(page, p.since), _process(p.holder, p.alive, p.gateway))
            for p in page.present
        ],
    )
    _lag(console, page)
    section(
        console,
        "failures",
        ("run", "pool", "when", "code", "what was said"),
        [
            (f.run, f.pool or "", _ago(page, f.ts), (f.code or "") + (" (given up)" if f.dead else ""), f.error or "")
            for f in page.failures[-_MOST_RUNS:]
        ],
    )
    section(
        console,
        "documents",
        ("document", "revision", "by", "changed"),
        [(d["document"], d["revision"], d["by"] or "", _ago(page, d["ts"])) for d in page.documents],
    )
    if page.traces:
        headed(console, "traces")
        console.print(Padding(Text("\n".join(one_line(trace) for trace in page.traces)), (0, 0, 0, 2), expand=False))
    _messages(console, page)


def show_lag(console: Console, page: Page) -> None:
    """Print how far behind readers and workers are, and what waits."""
    _name(console, page)
    section(console, "waiting", _WAITING, _waiting(page))
    _lag(console, page)


def _lag(console: Console, page: Page) -> None:
    """Print how far behind readers and workers are."""
    section(
        console,
        "durable subscriptions",
        ("name", "of", "behind", "oldest", "stream: waiting", "in hand", "again", "workers asking"),
        [
            (
                line.name,
                f"pool {line.pool}" if line.pool else "this session" if line.mine else "all sessions",
                line.behind,
                _ms(line.oldest_ms),
                line.waiting,
                line.in_hand,
                line.again,
                line.asking,
            )
            for line in page.lag
        ],
    )
    section(
        console,
        "read markers",
        ("participant", "device", "offset", "unread", "oldest"),
        [
            (c.participant, c.device, c.offset, f"{c.behind}{'+' if c.more else ''}", _ms(c.oldest_ms))
            for c in page.cursors
        ],
    )


def print_runs(console: Console, page: Page, runs: Sequence[RunLine]) -> None:
    """Print runs, each with what was unusual of it."""
    columns = ("run", "state", "agent", "began", "took", "first", "said", "notes")
    rows = []
    for run in runs:
        state = Text(run.state + (" (fork)" if run.forked else ""), style=_STYLES.get(run.state, ""))
        size = f" ({run.characters:,})" if run.characters else ""
        said = f"{run.messages}{size}" if run.messages else ""
        cells = (run.run, run.agent, _ago(page, run.started), _ms(run.took_ms), _ms(run.first_ms), said)
        name, agent, *rest = (Text(one_line(str(cell))) for cell in cells)
        rows.append((name, state, agent, *rest, Text(one_line("; ".join(_notes(run)), 300))))
    print_cells(console, columns, rows)


def _notes(run: RunLine) -> list[str]:
    notes = []
    if run.pool:
        notes.append(f"pool {run.pool}")
    if run.alive is not None:
        notes.append(f"process {run.holder} {'lives' if run.alive else 'is gone'}")
    if run.takeovers:
        notes.append(f"taken over {run.takeovers} time{'s' if run.takeovers > 1 else ''}")
    for name, ms in (("suspended", run.suspended_ms), ("orphaned", run.orphaned_ms)):
        if ms:
            notes.append(f"{name} for {_ms(ms)}")
    silences = [gap for gap in run.gaps if gap.kind == "silence"]
    if silences:
        longest = max(silences, key=lambda gap: gap.ms)
        lasts = "silent for" if longest.until is None else "was silent for"
        notes.append(f"{lasts} {_ms(longest.ms)} from {moment(longest.since)[11:]}")
    if run.usage:
        notes.append(" ".join(f"{key}={value}" for key, value in list(run.usage.items())[:4]))
    if run.error:
        notes.append(run.error)
    return notes


def _name(console: Console, page: Page) -> None:
    facts = page.session
    name = Text.assemble((one_line(str(facts["session"])), "bold"), f"  {facts['state']}  tenant {facts['tenant']}")
    console.print(name)


def _head(console: Console, page: Page) -> None:
    facts = page.session
    _name(console, page)
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    policy = facts["policy"]
    busy = f"{policy['when_busy']}{', whatever a message says' if policy['strict'] else ''}"
    rows = {
        "created": f"{moment(facts['created'])} UTC ({_ago(page, facts['created'])} ago)",
        "last event": "" if facts["active"] is None else f"{_ago(page, facts['active'])} ago",
        "head": facts["head"],
        "labels": " ".join(f"{key}={value}" for key, value in facts["labels"].items()),
        "takes part": ", ".join(facts["participants"]),
        "when busy": f"{busy}; answers are due within {policy['answer_within_s']} s",
        "streams": " ".join(dict.fromkeys(segment["stream"] for segment in facts["segments"])),
        "forked from": facts["source"] or "",
        "forks": ", ".join(facts["forks"]),
        "removed up to": facts["removed_upto"] or "",
        "sealed": "yes" if facts["sealed"] else "",
    }
    for label, value in rows.items():
        if value:
            table.add_row(label, Text(one_line(str(value), 300)))
    console.print(table)


def _waiting(page: Page) -> list[Sequence[Any]]:
    words = {"nowhere": "not delivered", "delivered": "to a worker", "taken": "taken by a worker"}
    return [
        (one.input, one.pool, one.by, _ms(one.waits_ms), words[one.came], one.behind or one.person or "")
        for one in page.waiting[-_MOST_RUNS:]
    ]


def _runs(console: Console, page: Page) -> None:
    if not page.runs:
        return
    headed(console, "runs")
    shown = [run for run in page.runs if run.open]
    shown += [run for run in page.runs[-_MOST_RUNS:] if not run.open]
    left = len(page.runs) - len(shown)
    print_runs(console, page, sorted(shown, key=lambda run: run.offset))
    if left:
        console.print(
            Padding(
                Text(f"and {left} older; `fabricctl session runs` shows all", style="dim"), (0, 0, 0, 2), expand=False
            )
        )


def _messages(console: Console, page: Page) -> None:
    if not page.messages:
        return
    headed(console, "said last")
    for message in page.messages:
        status = "" if message.status == "completed" else f" ({message.status})"
        head = Text.assemble((one_line(message.actor), "bold"), f"  {_ago(page, message.ts)} ago{status}")
        console.print(Padding(head, (0, 0, 0, 2), expand=False))
        console.print(Padding(Text(one_line(message.text, 280)), (0, 0, 0, 4), expand=False))


def _ago(page: Page, ms: int | None) -> str:
    return "" if not ms else span(max(0, page.now - ms) / 1000)


def _ms(ms: int | None) -> str:
    return "" if ms is None else span(ms / 1000)


def _left(page: Page, until: int | None) -> str:
    if until is None:
        return ""
    left = until - page.now
    return span(left / 1000) if left >= 0 else f"{span(-left / 1000)} ago"


def _process(holder: str, alive: bool | None, gateway: bool = False) -> str:
    return f"{'gateway ' if gateway else ''}{holder} {'lives' if alive else 'is gone'}"


def _to(to: Any) -> str:
    if to is None:
        return "anybody"
    return f"{to.get('participant')} on {to.get('device')}" if isinstance(to, dict) else str(to)

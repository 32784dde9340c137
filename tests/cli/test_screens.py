"""How lists look on terminals of 50, 80 and 100 columns: as golden files, each read by somebody before it was kept.

`SESSION_FABRIC_GOLDEN=1` writes them anew.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from session_fabric.census import Process
from session_fabric.jetstream.consumers import DurableState, Share
from session_fabric_cli.commands.consumers import print_durables
from session_fabric_cli.commands.doctor import print_findings
from session_fabric_cli.commands.gateways import print_gateways
from session_fabric_cli.commands.sessions import print_sessions
from session_fabric_cli.commands.streams import print_streams
from session_fabric_cli.diagnosis import Finding

GOLDEN = Path(__file__).parents[1] / "golden" / "screens"
NOW_MS = 1_767_225_600_000
NOW_S = NOW_MS / 1000
MINUTE = 60_000


def row(name: str, ago: int, last: int | None, state: str = "open", **labels: str) -> dict[str, object]:
    active = None if last is None else NOW_MS - last
    at = NOW_MS - ago
    return {
        "tenant": "acme",
        "session": name,
        "state": state,
        "created": at - 5 * MINUTE,
        "changed": at,
        "active": active,
        "labels": labels,
    }


def short_sessions() -> None:
    print_sessions([row("chat", 4_000, 340), row("s", 90_000, None, "closed")], NOW_MS)


def sessions() -> None:
    print_sessions(
        [
            row("support-2f9d1c7a-8a1b-4c55-9c61-0b9f6f6a1c22", 4_000, 340, team="red", channel="web", priority="high"),
            row("chat-42", 90_000, 12_000),
            row("user:ada@example.org~inbox", 3 * 3_600_000, None, "closed", team="blue"),
            row("s", 9 * 86_400_000, 9 * 86_400_000),
        ],
        NOW_MS,
    )


def doctor() -> None:
    print_findings(
        [
            Finding("ok", "broker", "nats-server 2.15.1 at nats-0.nats.svc.cluster.local:4222"),
            Finding("fail", "permissions", "may not pause durable subscriptions",
                    "Allow these credentials to publish to $JS.API.CONSUMER.PAUSE.>, or use those of `fabricctl broker "
                    "config`."),
            Finding("fail", "streams", "SESSIONS-03: allow_direct is False, must be True.",
                    "An update of the stream sets it: `fabricctl stream repair`."),
            Finding("fail", "moves",
                    "SESSIONS-01: 16 buckets are on their way to SESSIONS-16 (cutting). Nobody is at it.",
                    "Bring it to its end: `fabricctl stream repair`."),
            Finding("ok", "clock of the broker", "+0.0 s from this machine's"),
            Finding("warn", "gateways", "none lives", "Start one: session-fabric-gateway --nats URL."),
        ]
    )  # fmt: skip


def consumer_lag() -> None:
    def share(stream: str, pending: int, in_ack: int, again: int, ago: int | None, paused_s: float = 0) -> Share:
        return Share(stream, "c", pending, in_ack, again, 2, 30.0, paused_s, None if ago is None else NOW_MS - ago)

    print_durables(
        [
            DurableState("acme", "pool-support", "", [share("SESSIONS-00", 12, 3, 1, 7 * MINUTE)]),
            DurableState("acme", "pool-billing-and-refunds", "", [share("SESSIONS-01", 1, 0, 0, 9_000, 3_000.0)]),
            DurableState("globex", "search-indexer", "support-2f9d1c7a-8a1b-4c55-9c61-0b9f6f6a1c22",
                         [share("SESSIONS-02", 4_211_904, 200, 17, 26 * 3_600_000)]),
            DurableState("", "sf-deadlines", "", [share("SESSIONS-00", 0, 1, 0, 2_000)]),
        ],
        NOW_S,
    )  # fmt: skip


def gateways() -> None:
    def told(number: int, **more: object) -> dict[str, object]:
        return {
            "host": f"session-fabric-gateway-{number}",
            "pid": 7,
            "address": f"http://10.42.0.{17 + number}:8080",
            "workers": 2,
            "connections": 1204 + number,
            "subscriptions": 3310,
            "since": NOW_MS - 26 * 3_600_000,
            **more,
        }

    print_gateways(
        [
            Process("b23XnErGHt4EaNYSzvR0", None, "0.1.0", 1, told(0)),
            Process("MQeCzbtwGTEPw95NXH1b", None, "0.1.0", 1, told(1, draining=True)),
            Process("kkMEqGCf7MDTbCFcbPSk", None, None, None),
        ],
        NOW_S,
    )


def streams() -> None:
    def stream(number: int, buckets: str, tenant: str | None = None) -> dict[str, object]:
        counts = {"events": 4_211_904, "bytes": 1_882_112_004, "subjects": 41_022, "first": 1, "last": 4_300_211}
        name = f"SESSIONS-{number:02}"
        more = {"replicas": 3, "consumers": 4, "made": NOW_MS}
        return {"stream": name, "buckets": buckets, "tenant": tenant, **counts, **more}

    print_streams("table", [stream(0, "0-15"), stream(1, "16-19,24-31"), stream(16, "0-255", "acme")])


SCREENS: dict[str, Callable[[], None]] = {
    "session-ls": sessions,
    "session-ls-short": short_sessions,
    "doctor": doctor,
    "consumer-lag": consumer_lag,
    "gateway-ls": gateways,
    "stream-ls": streams,
}


_LISTS = ("session-ls", "doctor", "consumer-lag", "gateway-ls", "stream-ls")
SIZES = [*((name, width) for name in _LISTS for width in (80, 100)), ("session-ls-short", 50), ("stream-ls", 50)]


@pytest.mark.parametrize(("name", "width"), SIZES)
def test_a_list_looks_as_it_did(
    name: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable, value in {"COLUMNS": str(width), "LINES": "40", "TERM": "dumb"}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    SCREENS[name]()
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    shown = "".join(f"{line}\n" for line in lines)
    path = GOLDEN / f"{name}-{width}.txt"
    if os.environ.get("SESSION_FABRIC_GOLDEN"):
        path.write_text(shown)
    assert shown == path.read_text()
    assert max(map(len, lines)) <= width

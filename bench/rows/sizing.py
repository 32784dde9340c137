"""What a session and an event cost at the broker: memory, disk, and the time until it is up again."""

from __future__ import annotations

import time

from bench.load import delta
from bench.plan import Plan
from bench.report import Row
from bench.sockets import Publisher
from bench.stage import Stage

_SESSIONS = 10_000
_EVENTS = 50_000
_TEXT = "a token "


def measure(plan: Plan) -> list[Row]:
    sessions, events = plan.scaled(_SESSIONS), plan.scaled(_EVENTS)
    names = [f"size-{number}" for number in range(sessions)]
    with Stage(streams=16) as stage:
        memory, disk = stage.broker_rss(), stage.disk_bytes()
        places = stage.sessions(names)
        session_kib = (stage.broker_rss() - memory) / sessions / 1024
        session_bytes = (stage.disk_bytes() - disk) / sessions
        disk, publisher = stage.disk_bytes(), Publisher(stage.nats_port)
        # Tokens of a hundred answers at a time, as they come.
        said = [delta(places[names[n % 100]], f"r{n % 100}", n, _TEXT, n) for n in range(events)]
        publisher.publish(said)
        publisher.close()
        event_bytes = (stage.disk_bytes() - disk) / events
        stage.kill_broker()
        begun = time.monotonic()
        stage.start_broker()
        started_s = time.monotonic() - begun
    return [
        Row(
            f"{sessions:,} sessions: the broker's memory for each",
            f"{session_kib:.2f} KiB",
            "",
            session_kib,
            None,
            "less",
            "KiB",
            notes="a record and its first event, two subjects",
        ),
        Row("  disk for each", f"{session_bytes:.0f} B", "", session_bytes, None, "less", "B"),
        Row(
            "  a token of 8 bytes: disk",
            f"{event_bytes:.0f} B",
            "",
            event_bytes,
            None,
            "less",
            "B",
            notes=f"{events:,} of a hundred runs, one replica",
        ),
        Row("  killed, until it listens again", f"{started_s:.2f} s", "", started_s, None, "less", "s"),
    ]

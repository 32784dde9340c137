"""What is counted: every metric of the fabric, and the closed set of what its label may say.

Names are Prometheus': base units, `_total` of what only rises. A session, tenant or participant is never a label: how
many series there are does not depend on them. Who counts is `ports.Metrics`; docs/metrics.md lists all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

# What comes in where a label's value is none of its closed set.
OTHER: Final = "other"

FAST_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SLOW_S: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)


@dataclass(frozen=True, slots=True)
class Counter:
    """What only rises. `label`: what tells its series apart, `values`: all that it may say."""

    name: str
    text: str
    label: str | None = None
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gauge:
    """What rises and falls. `together`: what several processes that are scraped as one have, added up or the most."""

    name: str
    text: str
    label: str | None = None
    values: tuple[str, ...] = ()
    together: Literal["sum", "max"] = "sum"


@dataclass(frozen=True, slots=True)
class Histogram:
    """How much, or how long, in buckets."""

    name: str
    text: str
    buckets: tuple[float, ...] = FAST_S


Measure = Counter | Gauge | Histogram
_P: Final = "session_fabric"

# --- the broker -----------------------------------------------------------------------------------
BROKER_CONNECTED: Final = Gauge(f"{_P}_broker_connected", "1 while the broker is connected, added up over processes.")
DISCONNECTS: Final = Counter(f"{_P}_broker_disconnects_total", "Times that the connection to the broker was lost.")
ROUND_TRIP: Final = Histogram(f"{_P}_broker_round_trip_seconds", "From a ping to the broker to its answer.")
PINGS_LOST: Final = Counter(f"{_P}_broker_pings_lost_total", "Pings that the broker did not answer in time.")
PUBLISHES: Final = Counter(
    f"{_P}_publishes_total",
    "Events given to the log, by what came of it.",
    "outcome",
    ("stored", "duplicate", "conflict", "unavailable", "refused", "invalid"),
)
PUBLISH: Final = Histogram(f"{_P}_publish_seconds", "From giving an event to the log to its being stored.")
BLOB_BYTES: Final = Counter(f"{_P}_blob_bytes_total", "Bytes of bodies that were too large to be stored inline.")
CONSUMERS: Final = ("pool", "deadlines", "subscription")
DELIVERIES: Final = Counter(
    f"{_P}_deliveries_total", "Events that durable consumers were handed.", "consumer", CONSUMERS
)
REDELIVERIES: Final = Counter(
    f"{_P}_redeliveries_total", "Of these, events that somebody had been handed before.", "consumer", CONSUMERS
)
WAITING: Final = Gauge(
    f"{_P}_consumer_waiting_events", "Events that wait for a durable consumer.", "consumer", CONSUMERS, "max"
)
UNACKED: Final = Gauge(
    f"{_P}_consumer_unacked_events",
    "Events that were handed out and are not acknowledged yet.",
    "consumer",
    CONSUMERS,
    "max",
)
PURGED: Final = Counter(
    f"{_P}_purged_events_total",
    "Events removed from the log, by why.",
    "reason",
    ("completed", "retention", "erased", "redacted"),
)

# --- retention ------------------------------------------------------------------------------------
RETENTION_TURN: Final = Gauge(
    f"{_P}_retention_turn", "1 while this process is the one that keeps sessions to their retention."
)
RETENTION_SESSIONS: Final = Gauge(
    f"{_P}_retention_sessions", "Sessions that it keeps to something that is said of them; 0 in all other processes."
)
RETENTION_LOOKS: Final = Counter(
    f"{_P}_retention_looks_total",
    "Sessions looked at because something of them may be due, by what came of it.",
    "outcome",
    ("trimmed", "deleted", "kept", "waits", "failed"),
)

# --- runs -----------------------------------------------------------------------------------------
RUNS_ACTIVE: Final = Gauge(f"{_P}_runs_active", "Runs that are under way in this process.")
RUNS: Final = Counter(
    f"{_P}_runs_total",
    "Runs that this process has ended, by how.",
    "end",
    ("success", "cancelled", "failed", "orphaned", "lost", "agent_lost"),
)
RUN: Final = Histogram(f"{_P}_run_seconds", "From a run's claim to its end.", SLOW_S)
RUN_WAIT: Final = Histogram(f"{_P}_run_wait_seconds", "From an input's being stored to its run's claim.", SLOW_S)
FIRST_TEXT: Final = Histogram(f"{_P}_run_first_text_seconds", "From a run's claim to its first text stored.", SLOW_S)
TAKEOVERS: Final = Counter(f"{_P}_takeovers_total", "Runs of lost agents that others went on with.")
ATTEMPTS_FAILED: Final = Counter(f"{_P}_attempts_failed_total", "Handlers that raised, and were called again.")
DEAD_LETTERS: Final = Counter(f"{_P}_dead_letters_total", "Inputs that no agent could answer.")
CONTROLS: Final = Counter(
    f"{_P}_controls_total", "Control requests, by outcome.", "outcome", ("accepted", "rejected", "expired")
)
CONTROL: Final = Histogram(f"{_P}_control_seconds", "From a control request's being stored to its outcome.")

# --- processes, and what becomes of them ------------------------------------------------------------
LEASE_HELD: Final = Gauge(f"{_P}_lease_held", "1 while this process's lease stands, added up over processes.")
RENEWALS: Final = Counter(f"{_P}_lease_renewals_total", "Leases renewed, or not.", "outcome", ("renewed", "failed"))
LAPSES: Final = Counter(f"{_P}_lease_lapses_total", "Times that others may have taken this process for dead.")
SUSPECTS: Final = Counter(
    f"{_P}_suspects_total", "Processes looked into, by what was found.", "found", ("dead", "alive")
)
ABSENCES: Final = Counter(
    f"{_P}_absences_total",
    "Agents of runs that are followed here whose connection has ended, and those that were back after it.",
    "what",
    ("away", "back"),
)
MENDS: Final = Counter(
    f"{_P}_mends_total",
    "What lost processes have left behind, put in order.",
    "outcome",
    ("mended", "again", "refused"),
)
MEND: Final = Histogram(f"{_P}_mend_seconds", "From finding a process dead to all it held being in order.", SLOW_S)
PRESENCE: Final = Counter(
    f"{_P}_presence_changes_total", "Members told of in sessions.", "change", ("joined", "updated", "left")
)
DEADLINES: Final = Counter(
    f"{_P}_deadlines_total",
    "Events looked at for their deadlines.",
    "outcome",
    ("settled", "waits", "failed", "left"),
)
EXPIRED: Final = Counter(
    f"{_P}_expired_total",
    "What has waited for too long and was ended.",
    "what",
    ("message", "control", "request", "offer", "run"),
)
LOOP_LAG: Final = Histogram(f"{_P}_loop_lag_seconds", "How late the event loop was when it was looked at.")

ALL: Final[tuple[Measure, ...]] = (
    BROKER_CONNECTED,
    DISCONNECTS,
    ROUND_TRIP,
    PINGS_LOST,
    PUBLISHES,
    PUBLISH,
    BLOB_BYTES,
    DELIVERIES,
    REDELIVERIES,
    WAITING,
    UNACKED,
    PURGED,
    RETENTION_TURN,
    RETENTION_SESSIONS,
    RETENTION_LOOKS,
    RUNS_ACTIVE,
    RUNS,
    RUN,
    RUN_WAIT,
    FIRST_TEXT,
    TAKEOVERS,
    ATTEMPTS_FAILED,
    DEAD_LETTERS,
    CONTROLS,
    CONTROL,
    LEASE_HELD,
    RENEWALS,
    LAPSES,
    SUSPECTS,
    ABSENCES,
    MENDS,
    MEND,
    PRESENCE,
    DEADLINES,
    EXPIRED,
    LOOP_LAG,
)

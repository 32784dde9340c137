"""The rows, by name, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable

from bench.plan import Plan
from bench.report import Row
from bench.rows import (
    abuse,
    catchup,
    cli,
    durable,
    election,
    fanout,
    frameworks,
    gone,
    handshakes,
    idle,
    inspecting,
    latejoin,
    life,
    many,
    members,
    native,
    restart,
    rolling,
    scrape,
    sizing,
    stuck,
    tokens,
)

ROWS: dict[str, Callable[[Plan], list[Row]]] = {
    "fanout": fanout.measure,
    "many": many.measure,
    "restart": restart.measure,
    "rolling": rolling.measure,
    "sizing": sizing.measure,
    "stuck": stuck.measure,
    "tokens": tokens.measure,
    "idle": idle.measure,
    "latejoin": latejoin.measure,
    "catchup": catchup.measure,
    "life": life.measure,
    "gone": gone.measure,
    "election": election.measure,
    "members": members.measure,
    "handshakes": handshakes.measure,
    "scrape": scrape.measure,
    "native": native.measure,
    "abuse": abuse.measure,
    "cli": cli.measure,
    "inspecting": inspecting.measure,
    "durable": durable.measure,
    "frameworks": frameworks.measure,
}

"""What operators write: limits, keys of tenants. They are trusted; a slip of theirs is told by its name too."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Final

import orjson
from session_fabric import Keys
from session_fabric.rules.rates import parse_rate
from session_fabric_gateway.allowances import read_allowances
from session_fabric_gateway.origins import check_listed

from tests.fuzz.target import Target, refused_by_code


def limits(data: bytes) -> None:
    """Read a file of limits, as TOML and as JSON; what is read says for every tenant what it may."""
    for suffix in (".toml", ".json"):
        with _File(data, suffix) as file, refused_by_code():
            found = read_allowances(file, ())
            found.of("acme").model_dump_json()


def limit(data: bytes) -> None:
    """Read what is given on the command line."""
    text = data.decode("utf-8", "replace")
    with refused_by_code():
        read_allowances(None, [text])
    with refused_by_code():
        rate = parse_rate(text)
        assert rate is None or 0 < rate.burst < math.inf
    with refused_by_code():
        check_listed([text])


def tenants(data: bytes) -> None:
    """Read a file of tenants' keys."""
    with _File(data, ".json") as file, refused_by_code():
        Keys.read(file).current("acme")


class _File:
    """A file that has these bytes, for as long as the block lasts."""

    def __init__(self, data: bytes, suffix: str) -> None:
        self._data, self._suffix = data, suffix

    def __enter__(self) -> Path:
        self._held = tempfile.NamedTemporaryFile(suffix=self._suffix, dir="/dev/shm")
        self._held.write(self._data)
        self._held.flush()
        return Path(self._held.name)

    def __exit__(self, *_: object) -> None:
        self._held.close()


_KEY: Final = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="

TARGETS: Final = (
    Target(
        "limits",
        limits,
        [b'[participant]\nappends = "50/200"\n[tenants.acme.tenant]\nopen_connections = 5\n[connection]\nbytes = 4.5\n',
         orjson.dumps({"participant": {"appends": "50/200", "requests": "none"}, "address": {"strangers": 3}}),
         orjson.dumps({"tenants": {"acme": {"tenant": {"connections": 3}}}, "gateway": {"strangers": "none"}})],
    ),
    Target("setting", limit, [b"participant.appends=50/200", b"address.strangers=none", b"50/200", b"4.5", b"none",
                              b"https://app.example:443"]),
    Target(
        "tenants",
        tenants,
        [orjson.dumps({"acme": [{"id": "k1", "key": _KEY}], "*": [{"id": "k2", "key": _KEY}]})],
    ),
)  # fmt: skip

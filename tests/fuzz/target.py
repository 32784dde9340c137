"""What is fuzzed: a parser, behind a function of bytes, and good input to begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import orjson
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict, CIMultiDictProxy
from session_fabric import FabricError
from session_fabric_gateway.codes import STATUS, facts_of

# What an error says is for people: it quotes what was wrong, cut.
MOST_TOLD_BYTES: Final = 4096


@dataclass(frozen=True)
class Target:
    """`run` returns for whatever bytes; an exception is a finding."""

    name: str
    run: Callable[[bytes], object]
    seeds: Sequence[bytes]


@contextmanager
def refused_by_code() -> Iterator[None]:
    """Let pass what a parser may raise: an error of ours that has a code which clients know, and can be told."""
    try:
        yield
    except FabricError as error:
        refused = error
    else:
        return
    assert refused.code in STATUS, f"{refused.code} is no code that clients know"
    assert STATUS[refused.code] < 500, f"{refused.code} says that it is our fault"
    told = orjson.dumps(facts_of(refused))
    assert len(told) < MOST_TOLD_BYTES, f"an error of {len(told)} bytes"


def request_of(path: str, **headers: str) -> web.Request:
    """Return a request that has these headers, as aiohttp reads them: what is no UTF-8 in them is surrogates.

    Raises `ValueError` for a path that no server takes for one.
    """
    request = make_mocked_request("GET", path)
    request._headers = CIMultiDictProxy(CIMultiDict({k.replace("_", "-"): v for k, v in headers.items()}))
    return request


def text_of(data: bytes) -> str:
    """Return bytes as text the way aiohttp reads a head: what is no UTF-8 stays, as surrogates."""
    return data.decode("utf-8", "surrogateescape")

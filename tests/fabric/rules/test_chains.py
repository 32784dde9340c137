"""A file of lines in which nothing can be changed without its being seen."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.rules.chains import FORMAT, Chain, Checked
from session_fabric.words.errors import Corrupt

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


def file(count: int = 5, *, previous: str | None = None, signed: bool = False) -> list[bytes]:
    chain = Chain(previous)
    lines = [chain.line({"type": "manifest", "format": FORMAT, "previous": previous})]
    lines += [chain.line({"type": "event", "number": n, "text": "Grüße\n" * n}) for n in range(count)]
    lines.append(chain.line({"type": "end", "events": count}))
    return [*lines, chain.signature(KEY)] if signed else lines


def checked(lines: list[bytes]) -> Checked:
    reading = Checked()
    list(reading.read(lines))
    return reading


@pytest.mark.parametrize("signed", [False, True])
def test_what_was_written_is_read(signed: bool) -> None:
    reading = checked(file(signed=signed))
    assert reading.end == {"type": "end", "events": 5}
    assert (reading.signed_by is not None) is signed
    assert reading.lines == 8 if signed else 7


def test_a_file_follows_on_the_one_that_it_continues() -> None:
    first = checked(file())
    assert checked(file(previous=first.head)).manifest["previous"] == first.head
    assert checked(file(previous=first.head)).head != first.head


def refused_at(lines: list[bytes]) -> int:
    with pytest.raises(Corrupt) as refused:
        checked(lines)
    assert f"Line {refused.value.facts['line']} " in refused.value.message
    return int(refused.value.facts["line"])


@given(st.booleans(), st.data())
def test_a_byte_that_was_changed_is_found_in_its_line_or_the_next(signed: bool, data: st.DataObject) -> None:
    lines = file(signed=signed)
    at = data.draw(st.integers(0, len(lines) - 1))
    where = data.draw(st.integers(0, len(lines[at]) - 1))
    new = data.draw(st.integers(0, 255).filter(lambda byte: byte != lines[at][where]))
    lines[at] = lines[at][:where] + bytes([new]) + lines[at][where + 1 :]
    # A file has lines where its line feeds are.
    whole = b"".join(lines)
    split = [line + b"\n" for line in whole.split(b"\n")]
    split[-1] = split[-1][:-1]
    assert refused_at([line for line in split if line]) in (at + 1, at + 2)


@given(st.booleans(), st.data())
def test_lines_left_out_put_in_or_swapped_are_found(signed: bool, data: st.DataObject) -> None:
    lines = file(signed=signed)
    n = data.draw(st.integers(0, len(lines) - 2))
    changes: list[Callable[[], list[bytes]]] = [
        lambda: lines[:n] + lines[n + 1 :],
        lambda: lines[: n + 1] + lines[n:],
        lambda: [*lines[:n], lines[n + 1], lines[n], *lines[n + 2 :]],
        lambda: lines[: n + 1],
        lambda: [*lines, lines[-1]],
    ]
    changed = data.draw(st.sampled_from(changes))()
    if changed == lines[:-1] and signed:
        return  # a signature that was cut off leaves a file that is whole, and unsigned: its manifest says so
    assert 1 <= refused_at(changed) <= len(lines) + 1


def test_a_file_of_which_each_line_was_made_anew_is_another_file() -> None:
    """Whoever can make all hashes anew is found out by the signature, or by a hash that was kept elsewhere."""
    lines = file(signed=True)
    forged = Chain()
    out = []
    for line in lines[:-1]:
        found: Any = re.search(rb'"data":(.*),"chain"', line)
        out.append(forged.line(orjson.loads(found[1].replace(b'"number":3', b'"number":4'))))
    assert checked(out).head != checked(lines).head
    signature: Any = re.search(rb'"data":(.*),"chain"', lines[-1])
    out.append(forged.line(orjson.loads(signature[1])))
    assert refused_at(out) == len(lines)


def test_another_form_is_said_to_be_one() -> None:
    chain = Chain()
    with pytest.raises(Corrupt, match=f"this version reads format {FORMAT}"):
        checked([chain.line({"type": "manifest", "format": 2, "previous": None})])

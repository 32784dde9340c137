"""Which pages may use a gateway."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.words.errors import InvalidRequest
from session_fabric_gateway.origins import check_listed, host_name, may_use

NONE: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("origin", "host", "listed", "may"),
    [
        ("https://app.example", "gateway.example", ["https://app.example"], True),
        ("https://APP.example", "gateway.example", ["https://app.example/"], True),
        ("https://app.example:443", "gateway.example", ["https://App.Example"], True),
        ("https://app.example", "gateway.example", ["https://app.example:443"], True),
        ("https://app.example:8443", "gateway.example", ["https://app.example"], False),
        ("http://app.example", "gateway.example", ["https://app.example"], False),
        ("https://app.example.evil.example", "gateway.example", ["https://app.example"], False),
        ("https://evil-app.example", "gateway.example", ["https://app.example"], False),
        ("https://app.example@evil.example", "gateway.example", ["https://app.example"], False),
        ("https://evil.example/https://app.example", "gateway.example", ["https://app.example"], False),
        ("null", "gateway.example", ["https://app.example"], False),
        ("null", "gateway.example", ["*"], True),
        ("null", "", [], False),
        ("", "", [], False),
        ("https://", "", [], False),
        ("file://", "", [], False),
        ("https://gateway.example", "gateway.example", [], True),
        ("https://gateway.example", "gateway.example:443", [], True),
        ("https://gateway.example:443", "gateway.example", [], True),
        ("https://gateway.example", "GATEWAY.example", [], True),
        ("https://gateway.example", "gateway.example:8080", [], False),
        ("http://localhost:8080", "localhost:8080", [], True),
        ("http://[::1]:8080", "[::1]:8080", [], True),
        ("chrome-extension://abcdef", "abcdef", [], False),
        ("https://evil.example", "gateway.example", ["*"], True),
    ],
)
def test_a_page_of_the_same_host_or_a_listed_one_may_and_no_other(
    origin: str, host: str, listed: list[str], may: bool
) -> None:
    assert may_use(origin, host, check_listed(listed)) is may


def test_a_gateway_with_a_certificate_is_not_that_of_pages_without() -> None:
    assert may_use("https://gateway.example", "gateway.example", NONE, secure=True)
    assert not may_use("http://gateway.example", "gateway.example", NONE, secure=True)
    assert may_use("http://gateway.example", "gateway.example", check_listed(["http://gateway.example"]), secure=True)


@pytest.mark.parametrize(
    "origin", ["app.example", "https://app.example/page", "null", "ftp://app.example", "https://*"]
)
def test_what_is_no_origin_cannot_be_listed(origin: str) -> None:
    with pytest.raises(InvalidRequest, match="no origin"):
        check_listed([origin])


@given(st.text(max_size=80), st.text(max_size=40))
def test_nothing_that_a_browser_may_send_is_taken_for_another(origin: str, host: str) -> None:
    if may_use(origin, host, NONE):
        assert host.lower() in origin.lower() or host.lower().rpartition(":")[0] in origin.lower()
    assert not may_use(origin, host, frozenset({"https://app.example"})) or "://" in origin


@given(st.text(max_size=80))
def test_whatever_a_host_header_says_is_a_name_or_none(host: str) -> None:
    assert isinstance(host_name(host), str)

"""Whose connection it is: what trusted proxies say, and nobody else."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_fabric_gateway.addresses import UNKNOWN, client_of, key_of, parse_address

PROXIES = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # not from a proxy of ours: made up
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),  # what the client itself wrote is to the left
        ("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.7", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.9", "10.0.0.9"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, unknown, 10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("fd00::1", '"[2001:db8::5]:4711"', "2001:db8::/64"),
        ("2001:db8::1", None, "2001:db8::/64"),
        ("2001:db8:0:0:9:9:9:9", None, "2001:db8::/64"),
        ("fe80::1%eth0", None, "fe80::/64"),
        (None, None, UNKNOWN),
    ],
)
def test_the_client_is_the_nearest_that_no_proxy_of_ours_is(
    peer: str | None, forwarded: str | None, client: str
) -> None:
    assert client_of(peer, forwarded, PROXIES) == client


@given(st.text(max_size=60))
def test_whatever_a_client_writes_itself_it_is_who_the_proxy_heard(written: str) -> None:
    assert client_of("10.0.0.1", f"{written},198.51.100.1", PROXIES) == "198.51.100.1"
    assert client_of("203.0.113.9", written, PROXIES) == "203.0.113.9"


@given(st.ip_addresses(v=4))
def test_an_ipv4_client_of_an_ipv6_socket_is_the_same_client(address: ipaddress.IPv4Address) -> None:
    assert parse_address(f"::ffff:{address}") == address
    assert key_of(parse_address(str(address))) == str(address)

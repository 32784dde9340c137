"""What tokens grant of durable streams, and what of one tenant another sees."""

from __future__ import annotations

import aiohttp
import pytest

from tests.gateway.conftest import Running

_JSON = {"Content-Type": "application/json"}


def _headers(
    house: Running, participant: str, sessions: dict[str, list[str]] | None = None, **more: str
) -> dict[str, str]:
    claims = {} if sessions is None else {"sessions": sessions}
    return {"Authorization": f"Bearer {house.token(participant, **claims, **more)}"} | _JSON


async def _ask(http: aiohttp.ClientSession, method: str, path: str, headers: dict[str, str], body: str = "") -> int:
    async with http.request(method, f"/v1/stream/{path}", headers=headers, data=body or None) as answer:
        return answer.status


@pytest.mark.parametrize(
    ("operation", "method", "body", "status"),
    [("create", "PUT", "", 201), ("append", "POST", "{}", 204), ("read", "GET", "", 200), ("erase", "DELETE", "", 204)],
)
async def test_each_method_needs_its_own_operation(
    house: Running, http: aiohttp.ClientSession, operation: str, method: str, body: str, status: int
) -> None:
    everything = _headers(house, "service:maker", {"/*": ["*"]})
    if method != "PUT":
        assert await _ask(http, "PUT", "logs/a", everything) == 201
    for other in {"create", "append", "read", "erase"} - {operation}:
        headers = _headers(house, "service:other", {"/logs/*": [other]})
        assert await _ask(http, method, "logs/a", headers, body) == 403
    headers = _headers(house, "service:own", {"/logs/*": [operation]})
    assert await _ask(http, method, "logs/a", headers, body) == status


async def test_a_grant_on_one_path_is_none_on_another(house: Running, http: aiohttp.ClientSession) -> None:
    headers = _headers(house, "service:one", {"/logs/*": ["create"]})
    assert await _ask(http, "PUT", "secrets/a", headers) == 403


async def test_a_grant_on_sessions_by_name_is_none_on_streams(house: Running, http: aiohttp.ClientSession) -> None:
    headers = _headers(house, "agent:one", {"logs*": ["create", "read"]})
    assert await _ask(http, "PUT", "logs", headers) == 403


async def test_a_user_with_no_more_than_his_role_has_no_streams(house: Running, http: aiohttp.ClientSession) -> None:
    assert await _ask(http, "PUT", "mine", _headers(house, "agent:one")) == 201
    assert await _ask(http, "GET", "mine", _headers(house, "user:ada", {"chat": ["*"]})) == 403


async def test_another_tenants_stream_of_the_same_path_is_not_there(
    house: Running, http: aiohttp.ClientSession
) -> None:
    assert await _ask(http, "PUT", "same", _headers(house, "agent:one"), "[1]") == 201
    other = _headers(house, "agent:one", tenant="other")
    assert await _ask(http, "GET", "same", other) == 404
    assert await _ask(http, "POST", "same", other, "[2]") == 404


async def test_a_fork_needs_the_right_to_read_its_source(house: Running, http: aiohttp.ClientSession) -> None:
    assert await _ask(http, "PUT", "source", _headers(house, "agent:one"), "[1]") == 201
    headers = _headers(house, "agent:two", {"/mine/*": ["*"]}) | {"Stream-Forked-From": "/v1/stream/source"}
    del headers["Content-Type"]
    assert await _ask(http, "PUT", "mine/fork", headers) == 403


async def test_a_subscription_needs_the_right_to_read_all_that_it_matches(
    house: Running, http: aiohttp.ClientSession
) -> None:
    headers = _headers(house, "agent:two", {"/__ds/*": ["*"], "/mine/*": ["*"]})
    body = '{"type":"pull-wake","pattern":"%s/**","wake_stream":"mine/wakes"}'
    assert await _ask(http, "PUT", "__ds/subscriptions/s", headers, body % "theirs") == 403
    assert await _ask(http, "PUT", "__ds/subscriptions/s", headers, body % "mine") == 201

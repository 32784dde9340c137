"""Tokens in cookies: where they are switched on, for pages of ours, and for nobody else's."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from session_fabric.words.errors import InvalidRequest
from session_fabric_gateway.settings import Settings

from tests.gateway.conftest import SECRET, Running, Start
from tests.gateway.sockets import Client, connect

PAGE = "https://app.example"


async def asked(house: Running, method: str = "GET", cookie: str = "sf", **headers: str) -> tuple[int, Any, Any]:
    """Return the status, the body and who may read it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url, cookies = f"{house.url}/v1/sessions", {cookie: house.token()}
    body = {} if method == "POST" else None
    async with (
        aiohttp.ClientSession(cookies=cookies, cookie_jar=aiohttp.CookieJar(unsafe=True)) as http,
        http.request(method, url, json=body, headers=named) as answer,
    ):
        return answer.status, await answer.json(), answer.headers.get("Access-Control-Allow-Credentials")


async def test_a_cookie_is_taken_from_pages_of_ours_alone(start: Start) -> None:
    async with start(cookie="sf", allow_origin=(PAGE,)) as house:
        own = house.url
        assert (await asked(house, Origin=PAGE))[::2] == (200, "true")
        assert (await asked(house, "POST", Origin=PAGE))[0] == 201
        assert (await asked(house, "POST", Origin=own))[0] == 201
        assert (await asked(house, Sec_Fetch_Site="same-origin"))[0] == 200
        for method, headers in (
            ("GET", {}),
            ("POST", {}),
            ("GET", {"Sec_Fetch_Site": "cross-site"}),
            ("GET", {"Sec_Fetch_Site": "none"}),
            ("POST", {"Sec_Fetch_Site": "same-origin"}),
        ):
            status, problem, _ = await asked(house, method, **headers)
            assert (status, problem["code"]) == (401, "unauthenticated"), (method, headers)
        for origin in ("https://evil.example", "null", "https://app.example.evil.example"):
            status, problem, readable = await asked(house, "POST", Origin=origin)
            assert (status, problem["code"], readable) == (403, "forbidden", None)
        assert (await asked(house, cookie="other", Origin=PAGE))[0] == 401


async def test_without_the_setting_no_cookie_is_taken(house: Running) -> None:
    status, problem, readable = await asked(house, Origin=house.url)
    assert (status, problem["code"], readable) == (401, "unauthenticated", None)


async def test_a_socket_of_a_page_of_ours_needs_no_token_in_hello(start: Start) -> None:
    async with start(cookie="sf", allow_origin=(PAGE,)) as house:

        async def welcomed(**headers: str) -> Client | None:
            cookie = {"Cookie": f"sf={house.token()}"}
            async with connect(house.url, headers=cookie | headers) as client:
                await client.send(op="hello")
                frame = await client.next()
                return client if frame["op"] == "welcome" and frame["participant"] == "user:ada" else None

        assert await welcomed(Origin=PAGE) is not None
        assert await welcomed() is None
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await welcomed(Origin="https://evil.example")


@pytest.mark.parametrize(("settings", "why"), [({"allow_origin": ("*",)}, "every page"), ({"cookie": "a b"}, "name")])
def test_cookies_that_let_strangers_in_are_no_setting(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        Settings.model_validate({"dev_secret": SECRET, "cookie": "sf"} | settings).check()

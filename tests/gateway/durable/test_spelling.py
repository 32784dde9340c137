"""How streams and what they hold are named in requests: paths, sources of forks, tags."""

from __future__ import annotations

from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from tests.gateway.conftest import Running


@pytest.fixture
def headers(house: Running) -> dict[str, str]:
    return {"Authorization": f"Bearer {house.token('agent:one')}"}


def at(house: Running, path: str) -> URL:
    return URL(f"{house.url}/v1/stream/{path}", encoded=True)


@pytest.mark.parametrize("path", ["a b", "é/ü", "100%", "a%20b", "*", ">", "a.b", "what?", "😀"])
async def test_a_fork_names_its_source_as_a_url_does(
    house: Running, http: aiohttp.ClientSession, headers: dict[str, str], path: str
) -> None:
    source = quote(path)
    async with http.put(at(house, source), headers=headers, data=b"one") as answer:
        assert answer.status == 201
    forked = headers | {"Stream-Forked-From": f"/v1/stream/{source}"}
    async with http.put(at(house, "fork"), headers=forked) as answer:
        assert answer.status == 201, await answer.text()
    async with http.get(at(house, "fork"), headers=headers) as answer:
        assert await answer.read() == b"one"


@pytest.mark.parametrize("path", ["..", "a/../b", "%2e%2e/b", "a/.", "./a", "a%2F..%2Fb"])
async def test_a_path_that_clients_and_proxies_would_shorten_is_refused(
    house: Running, http: aiohttp.ClientSession, headers: dict[str, str], path: str
) -> None:
    async with http.put(at(house, path), headers=headers) as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "invalid_name")


async def test_a_tag_that_a_proxy_has_made_weak_is_the_same_tag(
    house: Running, http: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    async with http.put(at(house, "tagged"), headers=headers, data=b"one") as answer:
        assert answer.status == 201
    async with http.get(at(house, "tagged"), headers=headers) as answer:
        tag = answer.headers["ETag"]
    for said, status in ((tag, 304), (f"W/{tag}", 304), (f'"x", W/{tag}', 304), ("*", 304), ('"x"', 200), ("", 200)):
        async with http.get(at(house, "tagged"), headers=headers | {"If-None-Match": said}) as answer:
            assert answer.status == status, said

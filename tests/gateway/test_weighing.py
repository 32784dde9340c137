"""JSON of very many values is refused before it is read; text of any kind is not."""

from __future__ import annotations

import asyncio

import aiohttp
import orjson
import pytest
import yarl
from hypothesis import given
from hypothesis import strategies as st
from session_fabric.words.errors import TooLarge
from session_fabric_gateway import weighing
from session_fabric_gateway.weighing import MOST_VALUES, weigh

from tests.gateway.conftest import Running
from tests.gateway.sockets import greeted, user_message

NUMBERS = [0] * (MOST_VALUES + 1)
# What looks like many values, and is one.
TEXTS = {
    "commas": "," * MOST_VALUES * 2,
    "quotes": '",' * MOST_VALUES,
    "backslashes": '\\",' * MOST_VALUES,
    "only backslashes": "\\" * MOST_VALUES * 2 + ",",
    "JSON": orjson.dumps(NUMBERS).decode(),
}


@pytest.mark.parametrize("name", TEXTS)
async def test_a_text_is_one_value_whatever_is_in_it(name: str) -> None:
    await weigh(orjson.dumps([TEXTS[name], TEXTS[name]]), "It")


@pytest.mark.parametrize("value", [NUMBERS, [NUMBERS], {"a": "x,", "b": NUMBERS}, {str(n): 0 for n in range(100_001)}])
async def test_so_many_values_are_taken_and_not_one_more(value: object) -> None:
    with pytest.raises(TooLarge, match="It has more than 100000 JSON values"):
        await weigh(orjson.dumps(value), "It")
    await weigh(orjson.dumps(NUMBERS[:-1]), "It")


Json = st.recursive(
    st.text(alphabet='ab,"\\[]{}:\u20ac') | st.integers(0, 9),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(alphabet='a,"\\'), inner, max_size=5),
)


def commas(value: object) -> int:
    if isinstance(value, list | dict):
        inner = list(value.values()) if isinstance(value, dict) else value
        return max(0, len(inner) - 1) + sum(map(commas, inner))
    return 0


@given(value=Json, most=st.integers(1, 20), slice_bytes=st.integers(1, 30))
async def test_what_is_counted_is_what_a_parser_finds(value: object, most: int, slice_bytes: int) -> None:
    data = orjson.dumps(value) + b" " * most
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weighing, "MOST_VALUES", most)
        patch.setattr(weighing, "_SLICE_BYTES", slice_bytes)
        try:
            await weigh(data, "It")
        except TooLarge:
            assert commas(value) >= most
        else:
            assert commas(value) < most


async def test_a_frame_and_a_body_of_too_many_values_are_refused_and_the_connection_goes_on(house: Running) -> None:
    async with greeted(house.url, house.token()) as ada:
        await ada.open("s1")
        refused = await ada.ask("append", session="s1", event={"body": {"type": "app.x", "x": NUMBERS}})
        assert (refused["op"], refused["code"], refused["limit"]) == ("error", "too_large", MOST_VALUES)
        assert (await ada.append("s1", user_message("x," * MOST_VALUES)))["op"] == "appended"
    headers = {"Authorization": f"Bearer {house.token()}"}
    body = {"body": {"type": "app.x", "x": NUMBERS}}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.post(f"{house.url}/v1/sessions/s1/events", json=body) as answer,
    ):
        problem = await answer.json()
        assert (answer.status, problem["code"], problem["limit"]) == (413, "too_large", MOST_VALUES)


async def test_a_body_of_too_many_values_is_refused_before_it_is_all_there(house: Running) -> None:
    """Its sender has sent an eighth of what it announced, and hears of it."""
    url = yarl.URL(house.url)
    announced = 4 * 1024 * 1024
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(
        f"POST /v1/sessions/s1/events HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: Bearer {house.token()}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {announced}\r\n\r\n[".encode()
        + b"0," * (announced // 16)
    )
    async with asyncio.timeout(10):
        assert b" 413 " in await reader.readline()
    writer.close()

"""What an operator has chosen: what counts, and what is said of what is wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from session_fabric.words.errors import InvalidRequest
from session_fabric_gateway import main
from session_fabric_gateway.choosing import choose, descriptor, flags_of
from session_fabric_gateway.settings import Settings

NUMBERS = [name for name, field in Settings.model_fields.items() if field.annotation in (int, float)] + ["admin_port"]
PARSER = main._parser()
FLAGS = flags_of(PARSER)


def chosen(*arguments: str, **environment: str) -> Settings:
    environment = {f"SESSION_FABRIC_{name.upper()}": value for name, value in environment.items()}
    return choose(FLAGS, PARSER.parse_args(arguments), {"SESSION_FABRIC_INSECURE": "true", **environment})


def refused(*arguments: str, **environment: str) -> str:
    with pytest.raises(InvalidRequest) as wrong:
        chosen(*arguments, **environment)
    said = f"{wrong.value.message} {wrong.value.hint}"
    assert "nput" not in wrong.value.message  # pydantic's
    return said


def test_a_flag_is_above_the_variable_and_the_variable_above_the_default() -> None:
    assert chosen().heartbeat_s == 8.0
    assert chosen(heartbeat_s="3").heartbeat_s == 3.0
    assert chosen("--heartbeat", "2.5", heartbeat_s="3").heartbeat_s == 2.5
    assert chosen(workers="4", admin_port="0").admin_port == 0


def test_a_variable_with_several_has_commas_and_blanks_around_them_if_one_likes() -> None:
    networks = chosen(trusted_proxy="10.0.0.0/8, ::1 ,").trusted_proxy
    assert [str(network) for network in networks] == ["10.0.0.0/8", "::1/128"]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "-1", "1e300", "9" * 400, "x", "", "1,5", "0x10"])
def test_a_number_that_cannot_be_is_told_with_what_it_may_be(name: str, value: str) -> None:
    said = refused(**{name: value})
    assert said.startswith(f"SESSION_FABRIC_{name.upper()} {value!r:.80} is not a ")
    assert " to " in said
    if name in FLAGS:
        assert refused(f"{FLAGS[name]}={value}") == said.replace(f"SESSION_FABRIC_{name.upper()}", FLAGS[name])


@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_told_is_what_is_taken(name: str) -> None:
    words = refused(**{name: "x"}).split()
    most = words[words.index("to") + 1].rstrip(".")
    assert getattr(chosen(**{name: most}), name) == float(most)
    assert refused(**{name: str(float(most) + 1).removesuffix(".0")})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"trusted_proxy": "x"}, "SESSION_FABRIC_TRUSTED_PROXY 'x' is not an address or a network."),
        ({"trusted_proxy": "::1,10.0.0.1/8"}, "Write 10.0.0.0/8, or 10.0.0.1 for this address alone."),
        ({"insecure": "maybe"}, "SESSION_FABRIC_INSECURE 'maybe' is not true or false."),
        ({"provision": ""}, "SESSION_FABRIC_PROVISION '' is not true or false."),
        ({"dialect_abort": "stop"}, "SESSION_FABRIC_DIALECT_ABORT 'stop' is not detach or interrupt."),
        ({"public_url": "gateway.example"}, "--public-url 'gateway.example' is no URL"),
        ({"public_url": "https://a.example:99999"}, "--public-url 'https://a.example:99999' is no URL"),
        ({"webhook_host": "https://hooks.internal/"}, "--webhook-host 'https://hooks.internal/' is no host's name"),
        ({"webhook_host": "hooks.internal:8443"}, "Write it without https://, port and path"),
        ({"demo": "/nonexistent"}, "--demo '/nonexistent' is no directory."),
    ],
)
def test_another_setting_that_is_wrong_is_told_with_what_it_may_be(given: dict[str, Any], said: str) -> None:
    assert said in refused(**given)


def test_nothing_is_no_page_of_everybodys() -> None:
    assert refused("--demo", "") == "--demo '' is no directory. For no page, write none."
    assert refused(demo="") == "SESSION_FABRIC_DEMO '' is no directory. For no page, write none."


def test_a_secret_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\x7fELF\xff\xfe")
    assert "it is no text" in refused("--dev-secret-file", str(tmp_path / "secret"))


def test_a_flag_of_several_is_told_by_the_one_that_is_wrong() -> None:
    said = refused("--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "y")
    assert said.startswith("--trusted-proxy 'y' is not an address or a network.")


def test_what_nobody_set_is_not_checked_against_an_empty_text() -> None:
    assert chosen(public_url="").public_url == ""
    assert chosen(demo="none").demo is None
    assert chosen(webhook_host="hooks.internal, 10.0.0.7,fd00::7").webhook_host == (
        "hooks.internal",
        "10.0.0.7",
        "fd00::7",
    )


@pytest.mark.parametrize("text", ["x", "", "-1", "1.5", "1000000", "9" * 40, "9" * 5000])
def test_a_descriptor_that_is_not_open_is_told(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is no open file descriptor"):
        descriptor(text)


def test_a_descriptor_that_is_open_is_taken() -> None:
    read, write = os.pipe()
    try:
        assert descriptor(str(write)) == write
    finally:
        os.close(read)
        os.close(write)
    assert descriptor(None) is None

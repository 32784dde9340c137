"""How much who may do: what is written is what holds, and what is wrong is named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from session_fabric.rules.rates import Rate, parse_rate
from session_fabric.words.errors import InvalidRequest
from session_fabric_gateway.allowances import Allowances, OfParticipant, read_allowances

SETTINGS = (Path(__file__).parents[2] / "docs/settings.md").read_text()

FILE = """
[participant]
appends = "50/200"
subscriptions = 500
[tenants.acme.participant]
appends = "none"
opens = 7
[tenants.acme.tenant]
open_connections = 3
"""


def test_what_a_flag_says_is_above_the_file_and_the_file_above_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    file.write_text(FILE)
    found = read_allowances(file, ["participant.subscriptions=600", "gateway.strangers = none"])
    assert found.participant.appends == Rate(50, 200)
    assert found.participant.subscriptions == 600
    assert found.participant.opens == OfParticipant().opens
    assert found.gateway.strangers is None
    assert found.of("others") is found


def test_what_a_tenant_has_of_its_own_leaves_the_rest_as_it_is_for_all(tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    file.write_text(FILE)
    acme = read_allowances(file, ["participant.subscriptions=600"]).of("acme")
    assert (acme.participant.appends, acme.participant.opens) == (None, Rate(7, 14))
    assert acme.participant.subscriptions == 600
    assert acme.tenant.open_connections == 3
    assert acme.program == Allowances().program


def test_json_says_the_same_as_toml(tmp_path: Path) -> None:
    toml, other = tmp_path / "limits.toml", tmp_path / "limits.json"
    toml.write_text(FILE)
    participant = {"appends": "50/200", "subscriptions": 500}
    acme = {"participant": {"appends": None, "opens": "7"}, "tenant": {"open_connections": "3"}}
    other.write_text(json.dumps({"participant": participant, "tenants": {"acme": acme}}))
    assert read_allowances(toml, []) == read_allowances(other, [])


def test_where_everybody_is_the_same_participant_only_connections_are_held() -> None:
    found = read_allowances(None, ["tenant.appends=5"], told_apart=False)
    assert found.participant.appends is found.address.connections is found.tenant.opens is None
    assert found.connection == Allowances().connection
    assert found.tenant.appends == Rate(5, 10)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("limits.toml", "[participant]\nappends = 'many'", "participant.appends"),
        ("limits.toml", "[participant]\nappend = 5", "participant.append: there is no such limit"),
        ("limits.toml", "[person]\nappends = 5", "person: there is no such limit"),
        ("limits.toml", "[participant]\nsubscriptions = 0", "participant.subscriptions"),
        ("limits.toml", "[participant]\nsubscriptions = true", "participant.subscriptions"),
        ("limits.toml", "participant = 5", "participant: it is no table of limits"),
        ("limits.toml", "[participant]\nappends = [5]", "participant.appends: write 200 for so many a second"),
        ("limits.toml", "[participant]\nappends = inf", "participant.appends: A rate is 'inf'"),
        ("limits.toml", "[tenants.'a b'.tenant]\nopens = 5", "'a b'"),
        ("limits.toml", "[tenants]\nacme = 5", "acme"),
        ("limits.toml", "tenants = 5", "tenants"),
        ("limits.toml", "[tenants.acme.address]\nrequests = 5", "acme"),
        ("limits.toml", "[[", "not TOML"),
        ("limits.json", "{", "not JSON"),
        ("limits.json", "[]", "not a table"),
        ("limits.toml", None, "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_with_the_name_of_what_is_wrong(
    tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    with pytest.raises(InvalidRequest, match=re.escape(said)):
        read_allowances(file, [])


@pytest.mark.parametrize("given", ["participant.appends", "appends=5", "participant.appends=", "a.b=5", "=5"])
def test_a_wrong_flag_is_refused(given: str) -> None:
    with pytest.raises(InvalidRequest):
        read_allowances(None, [given])


def test_the_settings_page_has_every_limit_with_its_default() -> None:
    listed = dict(re.findall(r"^\| `(\w+\.\w+)` \| `([^`]+)` \|", SETTINGS, re.MULTILINE))
    ours = {}
    for scope, field in Allowances.model_fields.items():
        if scope != "tenants":
            for of, limit in type(field.default).model_fields.items():
                ours[f"{scope}.{of}"] = limit.default
    assert listed.keys() == ours.keys()
    for name, text in listed.items():
        default = ours[name]
        assert (int(text) if isinstance(default, int) else parse_rate(text)) == default, name

"""Dashboards, by the models that Grafana publishes of what it loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.deploy.prometheus import DASHBOARDS

register_default_plugins()


def _lost(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Return the places of ours that Grafana's models do not know, or take for something else."""
    if isinstance(ours, dict):
        theirs = theirs if isinstance(theirs, dict) else {}
        return [
            lost
            for name, value in ours.items()
            for lost in (_lost(value, theirs[name], f"{path}.{name}") if name in theirs else [f"{path}.{name}"])
        ]
    if isinstance(ours, list):
        if not isinstance(theirs, list) or len(ours) != len(theirs):
            return [path]
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [lost for at, (one, other) in pairs for lost in _lost(one, other, f"{path}[{at}]")]
    return [] if ours == theirs else [path]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_grafanas_models_know_all_that_a_dashboard_says(path: Path) -> None:
    said = json.loads(path.read_text(encoding="utf-8"))
    understood = json.loads(JSONEncoder().encode(Dashboard.from_json(said)))
    assert _lost(said, understood) == []


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_have_a_title_a_description_a_unit_and_a_place_of_their_own(path: Path) -> None:
    panels = json.loads(path.read_text(encoding="utf-8"))["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["title"]
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
            assert panel["fieldConfig"]["defaults"]["unit"]
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_dashboards_have_addresses_of_their_own_and_lead_to_each_other() -> None:
    said = [json.loads(path.read_text(encoding="utf-8")) for path in DASHBOARDS]
    assert len({one["uid"] for one in said}) == len(said)
    for one in said:
        assert one["tags"] == one["links"][0]["tags"] == ["session-fabric"]

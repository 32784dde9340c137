"""Rules and alerts, by Prometheus's own tool; and that each alert has its runbook."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.deploy.prometheus import DASHBOARDS, RULES, panels, promtool, rules
from tests.docs.pages import ROOT, page, sections
from tests.docs.test_reference import COMMANDS

ALERTS = [rule for rule in rules() if "alert" in rule]
TESTS = RULES.with_name("session-fabric.rules.test.yml")


def test_prometheus_takes_the_rules_and_the_example_configuration() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml", cwd=TESTS.parent)


def test_each_alert_fires_when_it_must_and_stays_quiet_when_it_must_not() -> None:
    promtool("test", "rules", TESTS.name, cwd=TESTS.parent)


def test_no_alert_is_without_a_test_of_either() -> None:
    tests = yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]
    checked = [(one["alertname"], "exp_alerts" in one) for test in tests for one in test["alert_rule_test"]]
    assert sorted(checked) == sorted((alert["alert"], fires) for alert in ALERTS for fires in (True, False))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(alert: dict[str, dict[str, str]]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks.md#{str(alert['alert']).lower()}"


def test_each_alert_has_its_runbook_and_each_runbook_its_alert() -> None:
    headings = re.findall(r"^### (\S+)$", page("docs/runbooks.md"), re.MULTILINE)
    assert headings == [alert["alert"] for alert in ALERTS]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_a_runbook_says_what_users_see_how_to_make_sure_what_it_is_and_what_to_do(alert: dict[str, str]) -> None:
    text = sections(page("docs/runbooks.md"))[alert["alert"]]
    for part in ("**Users see.**", "**Make sure.**", "**It can be**", "**Do**"):
        assert part in text


def test_runbooks_name_only_commands_that_there_are() -> None:
    named = set(re.findall(r"`(fabricctl(?: [a-z][a-z-]*)+)", page("docs/runbooks.md")))
    assert named
    assert {command for command in named if command not in COMMANDS} == set()


def test_runbooks_and_alerts_name_only_log_events_that_there_are() -> None:
    files = [path for member in ("fabric", "gateway") for path in (ROOT / member / "src").rglob("*.py")]
    source = "\n".join(path.read_text(encoding="utf-8") for path in files)
    for line in page("docs/runbooks.md").splitlines():
        if "log" in line.split():
            for event in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", line):
                assert f'"{event}"' in source, event


def test_prometheus_can_read_every_query_of_every_panel(tmp_path: Path) -> None:
    assert len(DASHBOARDS) == 4
    groups = [{"name": "panels", "rules": [{"record": f"panel:{n}", "expr": p.expr} for n, p in enumerate(panels())]}]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": groups}))
    assert "SUCCESS" in promtool("check", "rules", str(file))

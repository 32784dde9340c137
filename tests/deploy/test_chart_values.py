"""What the chart does not take, and with which words; and that what is written about its values is true."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from typing import Any

import pytest
import yaml

from tests.deploy.combinations import CHOICES, merged
from tests.support.charts import CHART, HELMS, helm, one, rendered
from tests.support.containers import ROOT

GOOD = merged(CHOICES["broker"]["open"], CHOICES["auth"]["keys"])
SENTENCES: list[tuple[dict[str, Any], str]] = [
    ({"auth": {"tokenKeys": {"existingSecret": ""}}}, "Nothing says who may come in: set auth.tokenKeys"),
    ({"auth": {"jwks": {"url": "https://id.example"}}}, "auth.jwks.url needs auth.issuers and auth.audience"),
    (
        {"auth": {"devSecret": {"generate": True}, "jwks": {"ca": {"existingSecret": "ca"}}}},
        "auth.jwks.ca.existingSecret is for auth.jwks.url",
    ),
    ({"auth": {"devSecret": {"generate": True, "existingSecret": "a"}}}, "exclude each other: set one"),
    ({"gateway": {"cookie": "t", "allowOrigins": ["*"]}}, "list the origins of your pages"),
    ({"gateway": {"drainSeconds": 40}}, "gateway.drainSeconds=40 is more than gateway.stopSeconds=30"),
    ({"gateway": {"terminationGracePeriodSeconds": 55}}, "=55 is not more than preStopSeconds + drainSeconds"),
    ({"gateway": {"adminPort": 8080}}, "gateway.adminPort=8080 is where clients are served"),
    ({"nats": {"bundled": {"enabled": True}}}, "nats.url=nats://a:4222,nats://b:4222 is a broker of yours"),
    ({"nats": {"url": ""}}, "nats.url says where the broker is; for one of our own set nats.bundled.enabled=true"),
    (
        {"nats": {"bundled": {"enabled": True}, "credentials": {"existingSecret": "a"}}},
        "nats.credentials.existingSecret is for a broker of yours",
    ),
    (
        {"nats": {"credentials": {"existingSecret": "a"}, "password": {"existingSecret": "b"}}},
        "nats.credentials.existingSecret and nats.password.existingSecret exclude each other",
    ),
    (
        {"nats": {"url": "", "bundled": {"enabled": True, "terminationGracePeriodSeconds": 40}}},
        "=40 is less than lameDuckSeconds + 15 = 45",
    ),
    ({"ingress": {"enabled": True}}, "ingress.enabled=true needs ingress.hosts"),
    ({"httpRoute": {"enabled": True}}, "httpRoute.enabled=true needs httpRoute.parentRefs"),
    ({"autoscaling": {"enabled": True, "minReplicas": 20}}, "autoscaling.minReplicas=20 is more than"),
    ({"provisioning": {"streams": 12}}, "provisioning.streams=12 is no power of two"),
]
# What the schema refuses: which value, and what of it must be in the sentence.
REFUSED: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"gateway": {"replicas": "two"}}, ("gateway", "replicas", "integer")),
    ({"gateway": {"replica": 2}}, ("gateway", "replica", "not allowed")),
    ({"gateway": {"logLevel": "loud"}}, ("logLevel", "debug")),
    ({"gateway": {"resources": {"request": {}}}}, ("resources", "request")),
    ({"gateway": {"topologySpread": {"zones": "maybe"}}}, ("zones", "DoNotSchedule")),
    ({"nats": {"bundled": {"replicas": 2}}}, ("replicas", "1", "3")),
    ({"nats": {"bundled": {"lameDuckSeconds": 5}}}, ("lameDuckSeconds", "30")),
    ({"nats": {"url": "nats://user:secret@host:4222"}}, ("nats", "url")),
    ({"nats": {"url": "http://host"}}, ("nats", "url")),
    ({"image": {"digest": "latest"}}, ("image", "digest")),
    ({"auth": {"jwks": {"url": "http://id.example"}}}, ("jwks", "url")),
    ({"ingress": {"hosts": "a.example"}}, ("hosts", "array")),
    ({"service": {"port": 0}}, ("service", "port")),
    ({"networkPolicy": {"enabled": "yes"}}, ("networkPolicy", "enabled", "boolean")),
    ({"serviceMonitor": {"interval": "often"}}, ("serviceMonitor", "interval")),
    ({"podDisruptionBudget": {"maxUnavailable": "some"}}, ("maxUnavailable",)),
    ({"extra": 1}, ("extra", "not allowed")),
]


def said(values: dict[str, Any], version: str) -> str:
    done = subprocess.run(
        [ROOT / ".venv/bin" / version, "template", "sf", CHART, "-f", "-"],
        input=json.dumps(merged(GOOD, values)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    return done.stderr


@pytest.mark.parametrize("version", HELMS)
@pytest.mark.parametrize(("values", "sentence"), SENTENCES, ids=[sentence[:40] for _, sentence in SENTENCES])
def test_what_does_not_go_together_is_said_with_what_to_set(
    values: dict[str, Any], sentence: str, version: str
) -> None:
    assert sentence in said(values, version)


@pytest.mark.parametrize("version", HELMS)
@pytest.mark.parametrize(("values", "words"), REFUSED, ids=[json.dumps(values)[:60] for values, _ in REFUSED])
def test_a_value_of_the_wrong_kind_is_named(values: dict[str, Any], words: tuple[str, ...], version: str) -> None:
    text = said(values, version)
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(lines) == 1, text
    assert all(word in lines[0] for word in words), text


def test_what_is_written_twice_is_the_same() -> None:
    sys.path.insert(0, str(ROOT / "helm"))
    try:
        import describe
    finally:
        sys.path.pop(0)
    assert describe.schema() == (CHART / "values.schema.json").read_text(), "run `make chart`"
    page = (ROOT / "docs/kubernetes.md").read_text()
    assert describe.page(page) == page, "run `make chart`"
    there = {file: file.read_text() for file in CHART.glob("files/**/*") if file.is_file()}
    assert there == describe.copies(), "run `make chart`"


def test_every_value_is_used() -> None:
    templates = "".join(file.read_text() for file in CHART.glob("templates/**/*") if file.is_file())

    def leaves(node: Any) -> list[str]:
        if not isinstance(node, dict) or not node:
            return []
        return list(node) + [leaf for below in node.values() for leaf in leaves(below)]

    words = set(leaves(yaml.safe_load((CHART / "values.yaml").read_text())))
    given_on = {"requests", "limits", "cpu", "memory", "maxSurge", "grafana_dashboard"}
    assert {word for word in words - given_on if f".{word}" not in templates} == set()


def test_the_chart_and_its_image_have_the_version_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "gateway/pyproject.toml").read_text())["project"]["version"]
    assert chart["version"] == chart["appVersion"] == version
    deployment = one(rendered(GOOD), "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == f"session-fabric:{version}"


def test_the_notes_say_how_to_get_in() -> None:
    # Helm 3 asks a cluster even for this.
    done = helm("install", "sf", str(CHART), "--dry-run=client", "-f", str(CHART / "values-small.yaml"))
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    assert "port-forward service/sf-session-fabric 8080:80" in notes
    assert "fabricctl token mint --key /etc/session-fabric/dev-secret/secret --sub user:ada" in notes
    assert "helm test sf" in notes


# What Kubernetes lets nobody change: an upgrade of a release that was installed so must keep it.
SELECTORS = {
    "Deployment sf-session-fabric": {
        "app.kubernetes.io/name": "session-fabric",
        "app.kubernetes.io/instance": "sf",
        "app.kubernetes.io/component": "gateway",
    },
    "StatefulSet sf-session-fabric-nats": {
        "app.kubernetes.io/name": "session-fabric",
        "app.kubernetes.io/instance": "sf",
        "app.kubernetes.io/component": "nats",
    },
}


def test_an_upgrade_changes_nothing_that_kubernetes_lets_nobody_change() -> None:
    made = rendered({"commonLabels": {"new": "label"}}, "values-small.yaml")
    found = {
        f"{r['kind']} {r['metadata']['name']}": r["spec"]["selector"]["matchLabels"]
        for r in made
        if r["kind"] in ("Deployment", "StatefulSet")
    }
    assert found == SELECTORS
    nodes = one(made, "StatefulSet")["spec"]
    assert nodes["serviceName"] == "sf-session-fabric-nats-nodes"
    assert nodes["podManagementPolicy"] == "Parallel"
    # A claim's labels are as fixed as the rest of it: the version is not among them.
    (claim,) = nodes["volumeClaimTemplates"]
    assert claim["metadata"] == {"name": "data", "labels": SELECTORS["StatefulSet sf-session-fabric-nats"]}

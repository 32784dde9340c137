"""What the chart makes, for every pair of choices: right for Kubernetes' schemas, and what those do not say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import jsonschema
import kubernetes_validate
import pytest
import referencing
from kubernetes_validate.utils import all_versions, schema_contents

from tests.deploy.combinations import CHOICES, COMBINED, merged
from tests.support.charts import CHART, HELMS, Resource, helm, models_say, one, pod_of, pods, rendered

VERSIONS: Final = [v for v in all_versions() if tuple(map(int, v.split(".")))[:2] >= (1, 29)]
# One of each minor version.
MINORS: Final = list({v.rsplit(".", 1)[0]: v for v in VERSIONS}.values())
EXAMPLES: Final = [
    ("values-small.yaml",),
    ("values-production.yaml",),
    ("values-production.yaml", "values-multizone.yaml"),
]
THEIRS: Final = ("HTTPRoute", "ServiceMonitor", "PrometheusRule")
# Of which the schemas that are to be had take whatever else is said too.
KNOWN: Final = {
    "HTTPRoute": {"parentRefs", "hostnames", "rules"},
    "HTTPRoute.rules": {"matches", "timeouts", "backendRefs"},
    "HTTPRoute.rules.timeouts": {"request", "backendRequest"},
    "HTTPRoute.rules.backendRefs": {"name", "port"},
    "HTTPRoute.rules.matches": {"path"},
    "HTTPRoute.rules.matches.path": {"type", "value"},
    "ServiceMonitor": {"selector", "namespaceSelector", "endpoints"},
    "ServiceMonitor.endpoints": {"port", "path", "interval", "scrapeTimeout", "scheme", "tlsConfig"},
    "ServiceMonitor.endpoints.tlsConfig": {"insecureSkipVerify"},
    "PrometheusRule": {"groups"},
    "PrometheusRule.groups": {"name", "interval", "rules"},
    "PrometheusRule.groups.rules": {"alert", "record", "expr", "for", "labels", "annotations", "keep_firing_for"},
}
_LABEL: Final = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")


@cache
def _validator(version: str, kind: str, api: str) -> jsonschema.Draft202012Validator:
    # As kubernetes_validate.validate does it, which reads all definitions for each resource.
    folder = f"kubernetes-json-schema/v{version}-local-strict"
    name = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api)
    return jsonschema.Draft202012Validator(
        schema_contents(f"{folder}/{kind.lower()}-{name}.json", version), registry=_definitions(version)
    )


@cache
def _definitions(version: str) -> Any:
    file = f"kubernetes-json-schema/v{version}-local-strict/_definitions.json"
    return referencing.Registry().with_resource(
        "_definitions.json", referencing.Resource.from_contents(schema_contents(file, version))
    )


def _everything() -> Iterator[tuple[str, Resource]]:
    for name, values in COMBINED.items():
        for resource in rendered(values):
            yield name, resource


def _different(resources: Iterator[tuple[str, Resource]]) -> dict[str, tuple[str, Resource]]:
    return {json.dumps(resource, sort_keys=True): (name, resource) for name, resource in resources}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", [MINORS[0], MINORS[-1]])
def test_whatever_is_chosen_kubernetes_knows_every_word_of_it(version: str) -> None:
    for name, resource in _different(_everything()).values():
        if resource["kind"] in THEIRS:
            continue
        wrong = list(_validator(version, resource["kind"], resource["apiVersion"]).iter_errors(resource))
        assert not wrong, f"{name}: {resource['kind']} {resource['metadata']['name']}: {wrong[0].message}"


@pytest.mark.parametrize("version", MINORS)
def test_the_examples_are_right_for_every_version_that_is_supported(version: str) -> None:
    for files in EXAMPLES:
        for resource in rendered(None, *files, kube=version):
            if resource["kind"] not in THEIRS:
                kubernetes_validate.validate(resource, version, strict=True)


@pytest.mark.timeout(300)
def test_what_is_not_kubernetes_own_is_right_for_its_schema() -> None:
    theirs = [(n, r) for n, r in _different(_everything()).values() if r["kind"] in THEIRS]
    assert {resource["kind"] for _, resource in theirs} == set(THEIRS)
    assert models_say([resource for _, resource in theirs]) == []

    def unknown(node: Any, path: str) -> Iterator[str]:
        for part in node if isinstance(node, list) else [node]:
            if path in KNOWN:
                yield from (f"{path}.{key}" for key in set(part) - KNOWN[path])
                for key, below in part.items():
                    yield from unknown(below, f"{path}.{key}")

    assert [word for _, r in theirs for word in unknown(r["spec"], r["kind"])] == []


@pytest.mark.parametrize("version", HELMS)
@pytest.mark.parametrize("files", [(), *EXAMPLES], ids=lambda files: "+".join(files) or "defaults")
def test_helm_has_nothing_against_it(version: str, files: tuple[str, ...]) -> None:
    options = [word for file in files for word in ("-f", str(CHART / file))]
    done = helm("lint", "--strict", str(CHART), *options, version=version)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[ERROR]" not in done.stdout
    assert "[WARNING]" not in done.stdout


def test_both_helms_make_the_same_of_it() -> None:
    for values in list(COMBINED.values())[::6]:
        fixed = merged(values, {"auth": {"devSecret": {"generate": False, "existingSecret": "dev"}}})
        kinds = [
            [r for r in rendered(fixed, version=version) if not r["metadata"]["name"].endswith("nats-auth")]
            for version in HELMS
        ]
        assert kinds[0] == kinds[1]


@pytest.mark.timeout(300)
def test_no_label_and_no_annotation_is_anything_but_a_string() -> None:
    for name, resource in _everything():
        metas = [resource["metadata"]]
        if resource["kind"] in ("Deployment", "StatefulSet", "Job"):
            metas.append(resource["spec"]["template"]["metadata"])
        for meta in metas:
            for part in ("labels", "annotations"):
                for key, value in (meta.get(part) or {}).items():
                    assert isinstance(value, str), f"{name}: {resource['kind']}: {key}={value!r}"
                    assert "e+" not in value or not re.fullmatch(r"[0-9.]+e\+[0-9]+", value), f"{key}={value}"
            for key, value in meta["labels"].items():
                assert _LABEL.match(value), f"{name}: {key}={value}"
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?", resource["metadata"]["name"])


@pytest.mark.timeout(300)
def test_every_pod_is_restricted_bounded_and_asks_kubernetes_nothing() -> None:
    for name, resource in _everything():
        if resource not in pods([resource]):
            continue
        pod, where = pod_of(resource), f"{name}: {resource['kind']} {resource['metadata']['name']}"
        assert pod["automountServiceAccountToken"] is False, where
        assert pod["securityContext"]["runAsNonRoot"] is True, where
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), where
        assert all(set(v) - {"name"} <= {"emptyDir", "secret", "configMap"} for v in pod["volumes"]), where
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, where
            assert security["readOnlyRootFilesystem"] is True, where
            assert security["capabilities"] == {"drop": ["ALL"]}, where
            assert container["resources"]["limits"]["memory"], where
            assert container["resources"]["requests"], where
            assert not container["image"].endswith((":", ":latest")), where
            mounts = [mount["name"] for mount in container["volumeMounts"]] if "volumeMounts" in container else []
            there = {v["name"] for v in pod["volumes"]} | {
                claim["metadata"]["name"] for claim in resource["spec"].get("volumeClaimTemplates", [])
            }
            assert set(mounts) <= there, where
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                handlers = {"httpGet", "exec", "tcpSocket", "grpc"} & set(container.get(probe, {}))
                assert probe not in container or len(handlers) == 1, where


@pytest.mark.timeout(300)
def test_what_selects_pods_selects_those_that_are_meant() -> None:
    for name, values in COMBINED.items():
        resources = rendered(values)
        labels = {
            r["kind"]: r["spec"]["template"]["metadata"]["labels"]
            for r in resources
            if r["kind"] in ("Deployment", "StatefulSet")
        }

        def fits(selector: dict[str, str], kind: str, labels: dict[str, Any] = labels) -> bool:
            return kind in labels and selector.items() <= labels[kind].items()

        for r in resources:
            if r["kind"] == "Service":
                selector = r["spec"]["selector"]
            elif r["kind"] in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
                selector = r["spec"]["selector"]["matchLabels"]
            else:
                continue
            broker = selector["app.kubernetes.io/component"] == "nats"
            assert fits(selector, "StatefulSet" if broker else "Deployment"), f"{name}: {r['metadata']['name']}"
            assert not fits(selector, "Deployment" if broker else "StatefulSet"), f"{name}: {r['metadata']['name']}"
            names = {
                port["name"]
                for of in resources
                if of["kind"] == ("StatefulSet" if broker else "Deployment")
                for port in pod_of(of)["containers"][0]["ports"]
            }
            if r["kind"] == "Service":
                assert {port["targetPort"] for port in r["spec"]["ports"]} <= names


@pytest.mark.timeout(300)
def test_a_pod_has_more_time_to_end_than_it_takes() -> None:
    for values in COMBINED.values():
        resources = rendered(values)
        gateway = pod_of(one(resources, "Deployment"))
        said = dict(arg[2:].split("=", 1) for arg in gateway["containers"][0]["args"] if "=" in arg)
        pause = gateway["containers"][0].get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["0"])
        sleep = int(re.sub(r"\D", "", pause[-1]))
        assert gateway["terminationGracePeriodSeconds"] > sleep + float(said["drain"]) + float(said["stop"])
        for stateful in (r for r in resources if r["kind"] == "StatefulSet"):
            config = one(resources, "ConfigMap", "-nats")["data"]["nats.conf"]
            lame = int(re.findall(r'lame_duck_duration: "(\d+)s"', config)[0])
            assert pod_of(stateful)["terminationGracePeriodSeconds"] >= lame + 15


def test_sockets_and_large_bodies_get_through_an_ingress() -> None:
    values = merged(CHOICES["broker"]["open"], CHOICES["auth"]["keys"], CHOICES["door"]["ingress"])
    annotations = one(rendered(values), "Ingress")["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "3600"
    assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert annotations["nginx.ingress.kubernetes.io/proxy-body-size"] == "9m"
    again = one(rendered(merged(values, CHOICES["door"]["ingress-tls"])), "Ingress")["metadata"]["annotations"]
    assert again["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "600"


def test_secrets_are_named_and_never_in_what_is_made() -> None:
    for values in COMBINED.values():
        for resource in rendered(values):
            if resource["kind"] == "Secret":
                assert resource["metadata"]["name"].endswith(("-dev-secret", "-nats-auth"))
                assert set(resource["data"]) <= {"secret", "password", "route-password"}

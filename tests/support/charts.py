"""The chart, rendered by the real Helm; and what its containers are told, for processes of this machine."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.containers import ROOT

CHART: Final = ROOT / "helm/session-fabric"
HELMS: Final = ("helm3", "helm4")
Resource = dict[str, Any]
_INTERPOLATED: Final = re.compile(r"\$\(([A-Z0-9_]+)\)")


def helm(*arguments: str, version: str = "helm4") -> subprocess.CompletedProcess[str]:
    binary = ROOT / ".venv/bin" / version
    assert binary.exists(), f"{version} is missing: run `.ci/provide helm`."
    return subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=120, check=False)


@cache
def _rendered(name: str, namespace: str, files: tuple[str, ...], values: str, version: str, kube: str) -> str:
    options = [option for file in files for option in ("-f", str(CHART / file))]
    if kube:
        options += ["--kube-version", kube]
    # What is JSON is YAML.
    done = subprocess.run(
        [ROOT / ".venv/bin" / version, "template", name, CHART, "--namespace", namespace, *options, "-f", "-"],
        input=values,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(
    values: Mapping[str, Any] | None = None,
    *files: str,
    name: str = "sf",
    namespace: str = "apps",
    version: str = "helm4",
    kube: str = "",
) -> list[Resource]:
    """Return what `helm template` makes."""
    text = _rendered(name, namespace, files, json.dumps(values or {}), version, kube)
    # By the loader in C: as safe, and one in Python alone takes as long as Helm.
    return [resource for resource in yaml.load_all(text, Loader=yaml.CSafeLoader) if resource]


def one(resources: Sequence[Resource], kind: str, ending: str = "") -> Resource:
    found = [r for r in resources if r["kind"] == kind and r["metadata"]["name"].endswith(ending)]
    assert len(found) == 1, f"{len(found)} of {kind} …{ending}"
    return found[0]


def pod_of(resource: Resource) -> Resource:
    """Return the pod's spec of whatever makes pods."""
    spec: Resource = resource["spec"] if resource["kind"] == "Pod" else resource["spec"]["template"]["spec"]
    return spec


def pods(resources: Sequence[Resource]) -> list[Resource]:
    return [r for r in resources if r["kind"] in ("Deployment", "StatefulSet", "Job", "Pod")]


@dataclass
class Told:
    """What a container is started with, its secrets and names put in."""

    command: list[str]
    environment: dict[str, str]

    @classmethod
    def of(
        cls,
        container: Resource,
        *,
        secrets: Mapping[tuple[str, str], str] | None = None,
        fields: Mapping[str, str] | None = None,
        put: Mapping[str, str] | None = None,
    ) -> Told:
        """As kubelet does it. `put`: what stands for names and paths that are only in a cluster."""
        environment: dict[str, str] = {}

        def expanded(text: str) -> str:
            text = _INTERPOLATED.sub(lambda found: environment[found[1]], text)
            for name, here in (put or {}).items():
                text = text.replace(name, here)
            return text

        for variable in container.get("env", []):
            if "value" in variable:
                environment[variable["name"]] = expanded(str(variable["value"]))
            elif "secretKeyRef" in variable["valueFrom"]:
                of = variable["valueFrom"]["secretKeyRef"]
                environment[variable["name"]] = (secrets or {})[of["name"], of["key"]]
            else:
                environment[variable["name"]] = (fields or {})[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        return cls([expanded(word) for word in [*container["command"], *container.get("args", [])]], environment)


def models_say(resources: Sequence[Resource]) -> list[dict[str, str]]:
    """Return what the schemas of others' resources have against these."""
    script = ROOT / "tests/deploy/models/validate.mjs"
    done = subprocess.run(
        ["node", script], input=json.dumps(resources), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{done.stderr}\nIs tests/deploy/models/node_modules there (`make dev-env`)?"
    return [json.loads(line) for line in done.stdout.splitlines()]


def files(directory: Path, **contents: str) -> Path:
    for name, text in contents.items():
        (directory / name).write_text(text)
    return directory

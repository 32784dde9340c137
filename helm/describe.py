"""`python helm/describe.py`: write what follows from what is written elsewhere.

The table in docs and the schema follow from the comments in values.yaml: the chart's values are described once, there.
What a value may be beyond its type stands here. Rules and dashboards are copies: a chart has its files in itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[1]
CHART: Final = ROOT / "helm/session-fabric"
PAGE: Final = ROOT / "docs/kubernetes.md"
BEGIN: Final = "<!-- values: written by helm/describe.py -->"
END: Final = "<!-- end of values -->"
_KEY: Final = re.compile(r"^( *)([A-Za-z]+):")

Schema = dict[str, Any]
NAME: Final[Schema] = {"type": "string", "pattern": "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$", "maxLength": 253}
FILE: Final[Schema] = {"type": "string", "pattern": "^[-._a-zA-Z0-9]+$"}
SECONDS: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 3600}
STRINGS: Final[Schema] = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
OBJECTS: Final[Schema] = {"type": "array", "items": {"type": "object"}}
ANYTHING: Final[Schema] = {"type": "object"}
COUNT_OR_SHARE: Final[Schema] = {"type": ["integer", "string"], "pattern": "^[0-9]+%$", "minimum": 0}
SPREAD: Final[Schema] = {"type": "string", "enum": ["DoNotSchedule", "ScheduleAnyway", "off"]}
DURATION: Final[Schema] = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"}
RESOURCES: Final[Schema] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        part: {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
        for part in ("requests", "limits")
    },
}


def _port(least: int = 1) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": 65535}


# By the last words of a path; the longest that fits counts.
MORE: Final[dict[str, Schema]] = {
    "commonLabels": STRINGS,
    "annotations": STRINGS,
    "podAnnotations": STRINGS,
    "podLabels": STRINGS,
    "labels": STRINGS,
    "limits": STRINGS,
    "nodeSelector": STRINGS,
    "nameOverride": NAME,
    "fullnameOverride": NAME,
    "existingSecret": NAME,
    "tlsSecret": NAME,
    "className": NAME,
    "priorityClassName": NAME,
    "serviceAccount.name": NAME,
    "key": FILE,
    "caKey": FILE,
    "resources": RESOURCES,
    "affinity": ANYTHING,
    "tolerations": OBJECTS,
    "parentRefs": OBJECTS,
    "extraEnv": OBJECTS,
    "extraEnvFrom": OBJECTS,
    "ingressFrom": OBJECTS,
    "metricsFrom": OBJECTS,
    "natsTo": OBJECTS,
    "extraEgress": OBJECTS,
    "natsPorts": {"type": "array", "minItems": 1, "items": _port()},
    "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "repository": {"type": "string", "minLength": 1, "pattern": "^[^:@\\s]+(:[0-9]+/[^:@\\s]+)?$"},
    "tag": {"type": "string", "pattern": "^[A-Za-z0-9_.-]*$"},
    "pullPolicy": {"type": "string", "enum": ["Always", "IfNotPresent", "Never"]},
    "logLevel": {"type": "string", "enum": ["debug", "info", "warning", "error"]},
    "workers": {"type": "integer", "minimum": 1, "maximum": 64},
    "heartbeatSeconds": {"type": "number", "exclusiveMinimum": 0},
    "preStopSeconds": SECONDS,
    "drainSeconds": SECONDS,
    "stopSeconds": SECONDS | {"minimum": 1},
    "terminationGracePeriodSeconds": SECONDS,
    "lameDuckSeconds": SECONDS | {"minimum": 30},
    "scaleDownStabilizationSeconds": SECONDS,
    "activeDeadlineSeconds": {"type": "integer", "minimum": 1},
    "bundled.replicas": {"type": "integer", "enum": [1, 3]},
    "size": {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(Mi|Gi|Ti)$"},
    "zones": SPREAD,
    "nodes": SPREAD,
    "maxUnavailable": COUNT_OR_SHARE,
    "rollingUpdate": {
        "type": "object",
        "additionalProperties": False,
        "properties": {"maxSurge": COUNT_OR_SHARE, "maxUnavailable": COUNT_OR_SHARE},
    },
    "nats.url": {"type": "string", "pattern": "^((nats|tls)://[^,\\s@]+(,(nats|tls)://[^,\\s@]+)*)?$"},
    "jwks.url": {"type": "string", "pattern": "^(https://.+)?$"},
    "streams": {"type": "integer", "minimum": 1, "maximum": 256},
    "service.port": _port(),
    "adminPort": _port(1024),
    "service.type": {"type": "string", "enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "minReplicas": {"type": "integer", "minimum": 1},
    "maxReplicas": {"type": "integer", "minimum": 1},
    "targetCPUUtilizationPercentage": {"type": "integer", "minimum": 1, "maximum": 1000},
    "interval": DURATION,
    "scrapeTimeout": DURATION,
}


@dataclass(frozen=True)
class Value:
    path: str
    default: Any
    meaning: str


def described(text: str) -> Iterator[tuple[str, str]]:
    """Yield each path of values.yaml that has a comment (`# --`) above it, and the comment."""
    path: list[str] = []
    said = ""
    for line in text.splitlines():
        if line.strip().startswith("# -- "):
            said = line.strip()[5:]
        elif found := _KEY.match(line):
            depth = len(found[1]) // 2
            path = [*path[:depth], found[2]]
            if said:
                yield ".".join(path), said
            said = ""


def values() -> list[Value]:
    """Return every value of the chart. Raises `ValueError` for one without a comment."""
    text = (CHART / "values.yaml").read_text()
    meanings, tree = dict(described(text)), yaml.safe_load(text)
    out = []

    def walk(node: Any, path: str) -> None:
        if path in meanings:
            out.append(Value(path, node, meanings[path]))
        elif isinstance(node, dict) and node:
            for key, below in node.items():
                walk(below, f"{path}.{key}" if path else key)
        else:
            raise ValueError(f"{path} has no comment in values.yaml: `# -- what it means`.")

    walk(tree, "")
    return out


def schema_of(value: Value) -> Schema:
    words = value.path.split(".")
    for at in range(len(words)):
        if (more := MORE.get(".".join(words[at:]))) is not None:
            return {"description": value.meaning} | more
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    if isinstance(value.default, list):
        return {"description": value.meaning, "type": "array", "items": {"type": "string", "minLength": 1}}
    kind = kinds[type(value.default)]
    return {"description": value.meaning, "type": kind} | ({"minimum": 0} if kind == "integer" else {})


def schema() -> str:
    """Return values.schema.json: what is not in it is refused."""
    root: Schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart session-fabric",
        "type": "object",
        "additionalProperties": False,
        # Helm hands these down to every chart.
        "properties": {"global": ANYTHING},
    }
    for value in values():
        node = root
        *above, last = value.path.split(".")
        for word in above:
            node = node["properties"].setdefault(
                word, {"type": "object", "additionalProperties": False, "properties": {}}
            )
        node["properties"][last] = schema_of(value)
    return json.dumps(root, indent=2) + "\n"


def table() -> str:
    """Return the values as a table."""
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for value in values():
        default = json.dumps(value.default) if value.default not in ("", [], {}) else ""
        rows.append(f"| `{value.path}` | {f'`{default}`' if default else ''} | {value.meaning} |")
    return "\n".join(rows)


def page(text: str) -> str:
    """Return the page with the table as it must be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def copies() -> dict[Path, str]:
    """Return the files of the chart that are those of deploy/, and what must be in them."""
    rules = ROOT / "deploy/prometheus/session-fabric.rules.yml"
    dashboards = sorted((ROOT / "deploy/grafana").glob("*.json"))
    files = {CHART / "files/rules.yml": rules} | {CHART / "files/dashboards" / file.name: file for file in dashboards}
    return {copy: file.read_text() for copy, file in files.items()}


if __name__ == "__main__":
    (CHART / "values.schema.json").write_text(schema())
    PAGE.write_text(page(PAGE.read_text()))
    for copy, text in copies().items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text)

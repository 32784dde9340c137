"""A real Prometheus, and what our files ask of one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.docs.pages import ROOT
from tests.support.servers import die_with_parent, free_port

RULES = ROOT / "deploy/prometheus/session-fabric.rules.yml"
DASHBOARDS = tuple(sorted((ROOT / "deploy/grafana").glob("*.json")))


def tool(name: str) -> str:
    """Return a program of Prometheus's. A missing one fails, it never skips."""
    found = shutil.which(name)
    assert found is not None, f"{name} is missing: run `.ci/provide prometheus`"
    return found


def promtool(*arguments: str, cwd: Path | None = None) -> str:
    done = subprocess.run([tool("promtool"), *arguments], capture_output=True, text=True, timeout=110, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


class Panel(NamedTuple):
    dashboard: str
    title: str
    expr: str


def panels() -> list[Panel]:
    """Return every query of every panel, its variables filled in."""
    found = []
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", ()):
                expr = target["expr"].replace("$__rate_interval", "10s")
                found.append(Panel(path.stem, panel["title"], re.sub(r"\$(job|instance)", ".*", expr)))
    return found


def metrics_of(expr: str) -> set[str]:
    return set(re.findall(r"\bsession_fabric_[a-z0-9_:]+", expr))


class Prometheus:
    """A started server, asked over HTTP."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **query: str) -> Any:
        url = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def query(self, expr: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/v1/query", query=expr)["result"]
        return found

    def names(self) -> set[str]:
        return set(self.get("/api/v1/label/__name__/values"))


@contextmanager
def prometheus(directory: Path, jobs: Mapping[str, str]) -> Iterator[Prometheus]:
    """Run a server that scrapes each job's `host:port` ten times a second, with our rules."""
    config = {
        "global": {"scrape_interval": "200ms", "evaluation_interval": "200ms"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in jobs.items()
        ],
    }
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    port = free_port()
    command = [tool("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={directory / 'data'}"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=die_with_parent)
    try:
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(20)

"""Links of the documentation lead somewhere, and pages name no machine."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs.pages import ROOT, anchors, label, links, pages

# Places on one machine, and names of hosts that only some can reach.
_PLACES = re.compile(r"(?<![\w.])/(?:root|home|Users|tmp|work|workspace|mnt|opt)/[\w.-]+")
# Hosts that a page may send a reader to, or stand for one.
_HOSTS = re.compile(
    # `nats` and `nats-1` are services of the chart and of the compose file.
    r"localhost|nats(?:-\d)?|127\.0\.0\.1|\[::1\]|broker|[\w.-]+\.example|(?:www\.)?github\.com|nodejs\.org|docs\.nats\.io|docs\.ag-ui\.com"
)
_URL = re.compile(r"\b(?:https?|wss?|nats|tls)://[^\s`\"'<>)]+")
_RELATED = (*pages(), *sorted((ROOT / "requirements").glob("*.txt")), ROOT / "clients/typescript/package-lock.json")


@pytest.mark.parametrize("path", pages(), ids=label)
def test_every_link_of_a_page_leads_somewhere(path: Path) -> None:
    dead = []
    for target in links(path):
        place, _, anchor = target.partition("#")
        if urlsplit(target).scheme:
            continue
        file = (path.parent / place).resolve() if place else path
        if not file.exists() or (
            anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8"))
        ):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("path", _RELATED, ids=label)
def test_a_page_names_no_place_on_somebodys_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert _PLACES.findall(text) == []


@pytest.mark.parametrize("path", pages(), ids=label)
def test_a_page_names_only_hosts_that_every_reader_can_reach(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    hosts = {urlsplit(url).hostname or url for url in _URL.findall(text) if "$" not in url}
    assert {host for host in hosts if not _HOSTS.fullmatch(host) and host != "host"} == set()


def test_every_page_of_the_documentation_can_be_reached_from_the_readme() -> None:
    reached = set[Path]()
    waiting = [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in reached or path.suffix != ".md" or not path.is_file():
            continue
        reached.add(path)
        waiting += [(path.parent / target.partition("#")[0]).resolve() for target in links(path) if "://" not in target]
    assert {label(path) for path in (ROOT / "docs").rglob("*.md")} - {label(path) for path in reached} == set()

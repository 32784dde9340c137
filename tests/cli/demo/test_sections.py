from __future__ import annotations

from session_fabric_cli.demo.sections import anchor, blocks, find_sections, split

PAGE = """# Guide

Before all.

## First `part`

One
two.

```bash
# not a heading
```

### Empty

## Last

- a
- b

| x | y |
|---|---|
| 1 | 2 |
"""


def test_a_page_is_cut_at_its_headings_and_empty_sections_are_left_out() -> None:
    assert [s.title for s in split("docs/guide.md", PAGE)] == ["Guide", "Guide: First part", "Guide: Last"]


def test_a_heading_inside_a_code_block_is_not_one() -> None:
    assert "# not a heading" in split("docs/guide.md", PAGE)[1].text


def test_a_section_links_to_its_heading() -> None:
    assert split("docs/guide.md", PAGE)[1].link == "docs/guide.md#first-part"
    assert anchor("4. WebSocket: `GET /v1/ws`".replace("`", "")) == "4-websocket-get-v1ws"


def test_a_section_is_cut_into_what_can_be_quoted_alone() -> None:
    last = split("docs/guide.md", PAGE)[2]
    assert blocks(last.text) == ["- a", "- b", "| x | y |\n|---|---|", "| 1 | 2 |"]
    assert blocks(split("docs/guide.md", PAGE)[1].text) == ["One\ntwo.", "```bash\n# not a heading\n```"]


def test_a_text_without_headings_is_one_section_named_after_its_file() -> None:
    assert [s.title for s in split("docs/plain.md", "Only text.")] == ["plain"]


def test_the_documentation_is_found() -> None:
    assert any(s.path == "docs/protocol.md" for s in find_sections())

"""docs/data.md: its snippets run, and it names every layout and suffix."""

import re
from pathlib import Path

import pytest

from hubel.data.magic import SUFFIXES
from hubel.data.pictures import MAX_PIXELS
from hubel.data.source import FORMATS

PAGE = (Path(__file__).parent.parent / "docs" / "data.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippets_run(snippet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "docs/data.md", "exec"), {})


def test_there_are_snippets():
    assert len(SNIPPETS) >= 2


@pytest.mark.parametrize("name", FORMATS.names())
def test_every_layout_is_described(name):
    assert name in PAGE.lower().replace("class folders", "folders")


def test_every_suffix_and_limit_is_named():
    assert all(f"{suffix} " in PAGE or f"{suffix}," in PAGE for suffix in SUFFIXES)
    assert f"{MAX_PIXELS:,}" in PAGE


def test_links_within_the_page_lead_somewhere():
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    }
    for target in re.findall(r"\]\(#([^)]+)\)", PAGE):
        assert target in headings

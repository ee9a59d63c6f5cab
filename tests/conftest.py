"""What all tests share."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Every test has a cache folder of its own, never the user's."""
    monkeypatch.setenv("HUBEL_CACHE", str(tmp_path_factory.mktemp("cache")))

"""What all tests share."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fakes import write_pictures


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Every test has a cache folder of its own, never the user's."""
    monkeypatch.setenv("HUBEL_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder of 72 small pictures in three classes; tests must not change it."""
    return write_pictures(tmp_path_factory.mktemp("pictures") / "spots")

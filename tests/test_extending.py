"""The examples of docs/extending.md are whole: each works as the one file it is said to be."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import write_pictures
from PIL import Image

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
EXAMPLES = dict(re.findall(r"```python\n# (hubel/\S+\.py)\n(.*?)```", PAGE.read_text(), re.DOTALL))

START = """
import importlib, sys
from pathlib import Path
for folder in Path({home!r}).glob("hubel/**"):
    package = ".".join(folder.relative_to({home!r}).parts)
    if any(folder.glob("*.py")):
        importlib.import_module(package).__path__.append(str(folder))
from hubel.cli.main import main
sys.argv = ["hubel", *{words!r}]
main()
"""


def ran(home, *words):
    """`hubel WORDS` where the examples' folders belong to hubel's packages."""
    script = START.format(home=str(home), words=[str(w) for w in words])
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture
def home(tmp_path):
    for name, code in EXAMPLES.items():
        path = tmp_path / "home" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    return tmp_path / "home"


def test_the_page_has_a_task_and_a_format():
    assert sorted(EXAMPLES) == ["hubel/data/formats/prefixes.py", "hubel/tasks/grade.py"]


def test_the_task_is_fitted_evaluated_and_predicts(home, tmp_path):
    data = write_pictures(tmp_path / "data")
    run, words = tmp_path / "run", ("--epochs", 6, "--threads", 1, "--engine", "fp32", "--json")
    fitted = ran(home, "fit", data, "--task", "grade", "--output", run, *words)
    assert fitted.returncode == 0, fitted.stderr
    metrics = json.loads(fitted.stdout)["metrics"]
    assert metrics["top1"] > 0.5
    assert metrics["mean_distance"] < 1
    judged = ran(home, "evaluate", run, "--json")
    assert judged.returncode == 0, judged.stderr
    assert json.loads(judged.stdout)["metrics"]["top1"] > 0.5
    said = ran(home, "predict", run, data / "north" / "000.png", "--json")
    probabilities = json.loads(said.stdout)["predictions"][0]["probabilities"]
    assert sum(probabilities.values()) == pytest.approx(1)
    assert min(probabilities.values()) >= 0


def test_a_task_that_is_not_there_is_told(tmp_path):
    data = write_pictures(tmp_path / "data")
    refused = ran(tmp_path / "nothing", "fit", data, "--task", "grade", "--output", tmp_path / "r")
    assert refused.returncode == 1
    assert "--task 'grade' is not known" in refused.stderr


def test_the_format_is_opened_by_itself(home, tmp_path):
    folder = tmp_path / "flat"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("sea_0", "sea_1", "sea_ice_0", "sea_ice_1", "land_0", "other0"):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    (folder / "prefixes.txt").write_text("sea\nsea_ice\n\nland\n")
    seen = ran(home, "inspect", folder, "--json")
    assert seen.returncode == 0, seen.stderr
    document = json.loads(seen.stdout)
    assert document["format"] == "prefixes"
    assert [c["total"] for c in document["classes"]] == [2, 2, 1]
    assert "ignored 1 pictures named after no class of prefixes.txt" in seen.stdout
    (folder / "prefixes.txt").write_text("sea\n")
    refused = ran(home, "inspect", folder)
    assert refused.returncode == 1
    assert "lists 1 classes, training needs two" in refused.stderr

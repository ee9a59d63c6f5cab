"""The page about a detector: what is in its pictures."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from hubel.data.boxes import Boxes
from hubel.evaluate.detection import evaluate_detection
from hubel.metrics.boxes import Predictions
from hubel.report import detection
from hubel.report.detection import write_detection_report
from hubel.report.drawn import BLUE, ORANGE

CLASSES = ("cat", "<b>dog")
CAT, DOG = (40, 60, 140, 160), (180, 60, 300, 160)
FACTS = {"run": "a run", "task": "detect", "command": "hubel fit x"}


@pytest.fixture
def page(tmp_path):
    """Of a cat that is found, a dog that is missed, and a cat where there is none."""
    truth = Boxes.of([[(0, CAT, False), (1, DOG, False)]], 1)
    said = [(0, 0.91, *CAT), (0, 0.95, 180, 200, 300, 300)]
    evaluation = evaluate_detection(truth, Predictions.of([said]), CLASSES, ["a.png"], split="test")
    path = write_detection_report(
        tmp_path / "report.html",
        evaluation,
        run_facts=FACTS,
        history=[],
        picture=lambda name: np.full((400, 400, 3), 128, np.uint8),
        figures_dir=tmp_path,
    )
    return path.read_text("utf-8")


def halves(page):
    (uri,) = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', page)
    whole = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri)))).astype(int)
    assert whole.shape == (400, 400 + 6 + 400, 3)
    return whole[:, :400], whole[:, 406:]


def share(pixels, colour):
    return (np.abs(pixels - colour).max(axis=-1) < 50).mean()


def above(box, width=30):
    """The patch of words above a box."""
    return slice(box[1] - 14, box[1] - 2), slice(box[0], box[0] + width)


def test_boxes_have_words_in_the_colour_of_right_and_wrong(page):
    left, right = halves(page)
    assert share(left[above(CAT)], BLUE) > 0.3  # found
    assert share(left[above(DOG)], ORANGE) > 0.3  # missed
    assert share(right[above(CAT)], BLUE) > 0.3
    assert share(right[above((180, 200))], ORANGE) > 0.3
    assert share(right[60:160, 180:300], (128, 128, 128)) == 1  # where nothing is said
    # A score makes the words of a prediction longer than those of the truth.
    assert share(right[above(CAT, 60)], BLUE) > share(left[above(CAT, 60)], BLUE) + 0.2


def test_the_words_are_the_class_and_the_score(monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr(
        detection,
        "paired_uri",
        lambda array, left, right: told.append((left, right)) or "data:,",
    )
    evaluation = evaluate_detection(
        Boxes.of([[(1, DOG, False)]], 1),
        Predictions.of([[(0, 0.9, *CAT), (1, 0.4, *DOG)]]),
        CLASSES,
        ["a.png"],
        split="test",
    )
    write_detection_report(
        tmp_path / "other.html",
        evaluation,
        run_facts=FACTS,
        history=[],
        picture=lambda name: np.zeros((400, 400, 3), np.uint8),
        figures_dir=tmp_path,
    )
    ((left, right),) = told
    assert [(m.name, m.score, m.number, m.colour) for m in left] == [("<b>dog", None, 1, BLUE)]
    assert [(m.name, m.score, m.number, m.colour) for m in right] == [
        ("<b>dog", 0.4, 1, BLUE),
        ("cat", 0.9, 0, ORANGE),  # the surest on top
    ]


def test_names_are_text_and_the_words_above_use_the_colours_of_the_boxes(page):
    assert "<b>dog" not in page
    assert f'style="color:rgb{BLUE}">Blue</b>' in page
    assert f'style="color:rgb{ORANGE}">orange</b>' in page

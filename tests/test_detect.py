"""Many objects a picture: places and boxes, the loss, and the road from fit to report."""

import json
import math

import numpy as np
import pytest
import torch
import torchvision
from commands import loaded, ran
from fakes import MemoryStore
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import hubel
from hubel.data.augment import Augment
from hubel.data.boxes import Boxes
from hubel.data.targets import BoxTargets
from hubel.errors import UserError
from hubel.maps import map_shapes, without_head
from hubel.models import MODELS, Model, ModelSpec, build
from hubel.tasks import TASKS
from hubel.tasks.detect import Detector, assigned

SETTINGS = {"threads": 1, "engine": "fp32", "seed": 1, "img_size": 32}
DETECT = TASKS["detect"]


def detector(name="simple", size=(32, 48), num_classes=3):
    torch.manual_seed(0)
    return Detector(build(ModelSpec(name, 3, num_classes, size)), num_classes, (3, *size))


def places(*grids):
    """The place columns of maps of (height, width)."""
    rows = [
        [(x + 0.5) / w, (y + 0.5) / h, 1 / w, 1 / h]
        for h, w in grids
        for y in range(h)
        for x in range(w)
    ]
    return torch.tensor(rows)


@pytest.mark.parametrize("name", ["simple", "resnet18", "vit_tiny", "swift_s", "densenet121"])
def test_outputs_have_a_row_for_every_place(name):
    model = detector(name, (64, 96)).eval()
    output = model(torch.randn(2, 3, 64, 96))
    n, rows, columns = output.shape
    assert (n, columns) == (2, 9 + 3)
    assert (output[..., 5:8].sigmoid() < 0.05).all()  # hardly any class, before training
    where = output[0, :, -4:]
    assert rows == len(where) > 1
    assert ((where > 0) & (where <= 1)).all()
    left, top, right, bottom = output[..., :4].unbind(-1)
    assert (left < where[:, 0]).all()
    assert (where[:, 0] < right).all()
    assert (top < where[:, 1]).all()
    assert (where[:, 1] < bottom).all()


def test_a_head_that_detects_nothing_is_left_out():
    whole = build(ModelSpec("alexnet", 3, 3, (96, 96)))
    size = sum(p.numel() for p in whole.parameters())
    model = Detector(whole, 3, (3, 96, 96))
    assert sum(p.numel() for p in model.parameters()) < 0.2 * size


def test_every_parameter_learns():
    model = detector("resnet18", (64, 64)).train()
    target = torch.full((2, 3, 5), -1.0)
    target[0, 0] = torch.tensor([1.0, 0.1, 0.2, 0.3, 0.4])
    target[0, 1] = torch.tensor([2.0, 0.0, 0.0, 0.95, 0.9])
    target[1, 0] = torch.tensor([0.0, 0.4, 0.4, 0.9, 0.8])
    DETECT.loss(model(torch.randn(2, 3, 64, 64)), target).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert without == []


def test_places_near_the_centre_of_a_box_of_their_size_are_to_find_it():
    target = torch.tensor([[[4.0, 0.25, 0.25, 0.5, 0.5]]])  # 4 × 4 places of the finest map
    classes, boxes, centre = assigned(places((16, 16), (8, 8), (4, 4)), target)
    fine = classes[0, :256].view(16, 16)
    assert (classes[0, 256:] == -1).all()  # coarser maps have larger boxes to find
    assert (fine[5:7, 5:7] == 4).all()  # half a stride off; the next are one and a half
    assert int((fine == 4).sum()) == 4
    found = classes[0] >= 0
    assert (boxes[0][found] == target[0, 0, 1:]).all()
    best = centre[0, :256].view(16, 16)
    # (min/max of left and right) · (of top and bottom), the root of it: FCOS, equation 3.
    assert best[5, 5] == pytest.approx(math.sqrt((1.5 / 2.5) * (1.5 / 2.5)), abs=1e-4)
    assert best.max() == best[6, 6] == best[5, 6]


def test_a_large_box_is_for_a_coarse_map_and_of_two_the_smaller_counts():
    target = torch.tensor([[[1.0, 0.0, 0.0, 1.0, 1.0], [2.0, 0.4, 0.4, 0.6, 0.6]]])
    classes, _, _ = assigned(places((16, 16), (8, 8), (4, 4)), target)
    fine, middle, coarse = classes[0].split((256, 64, 16))
    assert set(fine.tolist()) == {-1, 2}
    assert set(middle.tolist()) == {-1, 1}  # its sides are 4.5 strides of 1/8 away
    assert set(coarse.tolist()) == {-1}  # and 2.5 of 1/4


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            *[st.floats(0.0, 0.98) for _ in range(2)], *[st.floats(0.002, 1) for _ in range(2)]
        ),
        min_size=1,
        max_size=1,
    )
)
def test_no_box_is_lost(boxes):
    rows = [[0.0, x, y, min(x + w, 1.0), min(y + h, 1.0)] for x, y, w, h in boxes]
    classes, _, _ = assigned(places((16, 20), (8, 10), (4, 5)), torch.tensor([rows]))
    assert (classes == 0).any()


def perfect(target, grids=((16, 16), (8, 8), (4, 4)), num_classes=3):
    """Outputs that say just what `target` (n, most, 5) asks for."""
    where = places(*grids)
    classes, boxes, centre = assigned(where, target)
    n, rows = classes.shape
    sure = torch.logit(centre.clamp(1e-4, 1 - 1e-4))
    logits = torch.full((n, rows, num_classes), -12.0)
    found = classes >= 0
    logits[found, classes[found]] = 12.0
    blank = torch.tensor([0.4, 0.4, 0.6, 0.6]).expand(n, rows, 4)
    boxes = torch.where(found[..., None], boxes, blank)
    return torch.cat([boxes, sure[..., None], logits, where.expand(n, -1, -1)], dim=-1)


TARGET = torch.tensor(
    [
        [[1.0, 0.25, 0.25, 0.5, 0.5], [2.0, 0.55, 0.1, 0.8, 0.4], [-1.0, 0.0, 0.0, 0.0, 0.0]],
        [[0.0, 0.1, 0.1, 0.9, 0.95], [1.0, 0.0, 0.6, 0.2, 0.9], [1.0, 0.7, 0.7, 0.9, 0.9]],
    ]
)


def test_the_parts_of_the_loss():
    output = perfect(TARGET)
    classes, boxes, centre = assigned(output[0, :, -4:], TARGET)
    found = classes >= 0
    # What is left is the entropy of the centre-ness.
    c = centre[found].clamp(1e-4, 1 - 1e-4)
    entropy = -(c * c.log() + (1 - c) * (1 - c).log()).mean()
    assert DETECT.loss(output, TARGET) == pytest.approx(float(entropy), abs=2e-3)

    moved = output.clone()
    moved[..., :4] += 0.05
    overlap = torchvision.ops.generalized_box_iou(boxes[found] + 0.05, boxes[found]).diagonal()
    expected = ((1 - overlap) * centre[found]).sum() / centre[found].sum()
    assert DETECT.loss(moved, TARGET) - DETECT.loss(output, TARGET) == pytest.approx(
        float(expected), abs=1e-4
    )

    unsure = output.clone()
    unsure[..., 5:-4] = 0.0
    positive, negative = int(found.sum()), output[..., 5:-4].numel() - int(found.sum())
    focal = 0.25 * math.log(2) * (0.25 * positive + 0.75 * negative) / positive
    assert DETECT.loss(unsure, TARGET) - DETECT.loss(output, TARGET) == pytest.approx(
        focal, rel=1e-3
    )


def test_pictures_without_objects_teach_too():
    output = perfect(TARGET).requires_grad_()
    loss = DETECT.loss(output, torch.full_like(TARGET, -1.0))
    loss.backward()
    assert loss.isfinite()
    assert output.grad.isfinite().all()
    assert output.grad[..., 5:-4].abs().sum() > 0  # a class that is said and not there
    assert output.grad[..., :5].abs().sum() == 0  # nothing to put a box around


def test_what_is_said_perfectly_is_read_perfectly():
    output = perfect(TARGET)
    found = DETECT.boxes(output)
    for rows, truth in zip(found, TARGET, strict=True):
        truth = truth[truth[:, 0] >= 0]
        sure = rows[rows[:, 1] > 0.5]
        assert len(sure) == len(truth)  # the other places of an object are suppressed
        order = [int((sure[:, 2:] - t[1:]).abs().sum(1).argmin()) for t in truth]
        torch.testing.assert_close(sure[order][:, 2:], truth[:, 1:])
        assert sure[order][:, 0].tolist() == truth[:, 0].tolist()
        assert (rows[:, 1].diff() <= 0).all()
    metrics = DETECT.metrics(*DETECT.kept(output, TARGET))
    assert metrics["map50"] == metrics["map50_95"] == pytest.approx(1.0)
    assert 0 < metrics["min_score"] <= 1
    assert metrics["n"] == 2
    assert DETECT.num_right(output, TARGET) == 2
    wrong = output.clone()
    wrong[..., 5:-4] = wrong[..., 5:-4].roll(1, -1)
    assert DETECT.metrics(*DETECT.kept(wrong, TARGET))["map50"] == 0
    assert DETECT.num_right(wrong, TARGET) == 0


def test_a_split_without_any_box_has_figures():
    nothing = torch.full_like(TARGET, -1.0)
    metrics = DETECT.metrics(*DETECT.kept(perfect(nothing), nothing))
    assert metrics["map50"] == 0.0
    assert metrics["min_score"] is None
    json.dumps(metrics)


def test_from_generated_pictures_to_a_report(tmp_path):
    run = hubel.fit(
        "shapes-boxes:160", output=tmp_path / "run", model="simple", epochs=12, **SETTINGS
    )
    assert run.result["task"] == "detect"
    log = run.folder.log()
    assert log[-1]["val_loss"] < 0.8 * run.folder.read_json("untrained.json")["loss"]
    assert {"train_placed", "val_map50"} <= set(log[-1])
    judged = run.evaluate()
    assert judged.evaluation.split == "test"
    page = judged.report.read_text()
    assert "mAP50-95" in page
    assert "Errors by kind" in page
    assert page.count('class="photo"') == len(judged.evaluation.worst)
    document = json.loads((tmp_path / "run/evaluation/test/evaluation.json").read_text())
    assert document["metrics"]["map50"] == judged.evaluation.metrics.map50
    again = type(judged.evaluation).from_json(judged.evaluation.to_json())
    assert again == judged.evaluation


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detect") / "run"
    return hubel.fit("shapes-boxes:60", output=folder, epochs=1, **SETTINGS)


def test_boxes_are_told_in_pixels_of_the_file(run, tmp_path, monkeypatch):
    rows = torch.tensor([[1, 0.9, 0.25, 0.5, 0.75, 1.0], [0, 0.2, 0.0, 0.0, 0.5, 0.5]])
    monkeypatch.setattr(type(DETECT), "boxes", lambda self, output: [rows] * len(output))
    Image.new("RGB", (32, 32)).save(tmp_path / "small.png")
    Image.new("RGB", (64, 128)).save(tmp_path / "large.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    files = [tmp_path / f"{name}.png" for name in ("small", "broken", "large")]
    small, broken, large = run.predict(*files, min_score=0.5)
    assert (small.size, large.size) == ((32, 32), (128, 64))
    assert [o.label for o in large.objects] == ["cross"]
    assert small.objects[0].box == (8, 16, 24, 32)
    assert large.objects[0].box == (16, 64, 48, 128)
    assert broken.objects is None
    assert len(run.predict(files[0], min_score=0.1)[0].objects) == 2


def test_the_commands(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = ran(["evaluate", run.path], capsys, monkeypatch).stdout
    assert "mAP50" in said
    assert "errors:" in said
    assert max(map(len, said.splitlines()[:-1])) <= 80
    document = loaded(ran(["evaluate", run.path, "--json"], capsys, monkeypatch))
    assert set(document["errors"]) >= {"localization", "missed", "background"}
    Image.new("RGB", (40, 30)).save("grey.png")
    assert "grey.png" in ran(["predict", run.path, "grey.png"], capsys, monkeypatch).stdout
    words = ["predict", run.path, "grey.png", "--min-score", "0", "--json"]
    found = loaded(ran(words, capsys, monkeypatch))["predictions"][0]["objects"]
    assert all(0 <= side <= 40 for row in found for side in row["box"])
    lines = ran([*words[:-1], "--csv"], capsys, monkeypatch).stdout.splitlines()
    assert len(lines) == 1 + max(len(found), 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixup": 0.2}, r"--mixup mixes classes, and --task detect"),
        ({"class_weights": True}, r"--class-weights .* --task detect"),
        ({"task": "classify"}, r"--task classify cannot be learned .* whose labels are boxes"),
    ],
)
def test_what_does_not_go_together_is_told(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        hubel.fit("shapes-boxes:60", output=tmp_path / "run", epochs=1, **settings, **SETTINGS)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS.names())
def test_every_network_can_be_the_backbone(name):
    side = max(64, MODELS[name].smallest)
    model = detector(name, (side, side)).eval()
    assert model(torch.randn(1, 3, side, side)).shape[2] == 12


def test_a_lone_object_that_leaves_the_picture_is_none_any_more():
    augment = Augment(translate=0.5)
    rows = torch.tensor([[[1.0, 0.0, 0.0, 0.2, 0.2]]] * 64)
    pixels = torch.zeros(64, 20, 20, 3, dtype=torch.uint8)
    draws = augment.draws(64, 0, 0)
    _, many = augment.both(pixels, rows, "boxes", draws)
    _, one = augment.both(pixels, rows, "box", draws)
    gone = many[:, 0, 0] < 0
    assert 0 < int(gone.sum()) < 64
    assert (one[:, 0, 0] == 1).all()


def test_difficult_boxes_are_not_learned_from():
    boxes = Boxes.of([[(0, (0, 0, 8, 8), True), (1, (8, 8, 16, 16), False)], []], 2)
    store = MemoryStore(np.zeros((2, 16, 16, 3), np.uint8))
    assert BoxTargets.of(boxes, store).values.tolist() == [[[1, 0.5, 0.5, 1, 1]], [[-1] * 5]]
    assert BoxTargets.of(boxes, store, "box").values.shape == (2, 2, 5)


def test_a_run_is_loaded_where_nothing_is_recorded(run, tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    wanted = run.predict(tmp_path / "a.png", min_score=0.0)
    with torch.no_grad():
        assert hubel.load(run.path).predict(tmp_path / "a.png", min_score=0.0) == wanted


def test_frozen_parts_stay_where_maps_come_from():
    model = build(ModelSpec("resnet18", 3, 3, (64, 64)))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    kept = without_head(model, (3, 64, 64))
    assert len(map_shapes(kept, (3, 64, 64))) == 4
    assert not any(p.requires_grad for p in kept.parameters())


class _OnePlace(Model):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward_features(self, input):
        return [input.mean((2, 3), keepdim=True) * self.weight]


def test_a_network_without_places_is_told():
    with pytest.raises(UserError, match=r"no map of more than one place for an input of 8×8"):
        map_shapes(_OnePlace(), (3, 8, 8))


@pytest.mark.parametrize("views", ["all", "unsure"])
def test_places_are_not_averaged_over_shifted_views(run, tmp_path, views):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=rf"--tta {views} averages .* --task detect"):
        run.predict(tmp_path / "a.png", tta=views)
    with pytest.raises(UserError, match=rf"--tta {views} averages .* --task detect"):
        run.evaluate(tta=views)


def test_boxes_of_other_classes_are_told(run, tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(12):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        rows += [f"{i}.png,circle,1,1,20,20", f"{i}.png,zebra,5,5,25,25"]
    table = tmp_path / "boxes.csv"
    table.write_text("path,class,xmin,ymin,xmax,ymax\n" + "\n".join(rows) + "\n")
    judged = run.evaluate(table)
    assert judged.evaluation.num_truth == 12
    assert any("12 boxes of 'zebra', which the network does not know" in n for n in judged.notes)
    table.write_text(table.read_text().replace("circle", "lion"))
    with pytest.raises(UserError, match=r"has none of the run's classes \(circle, cross"):
        run.evaluate(table)


def test_many_boxes_and_places_are_compared_in_parts(monkeypatch):
    where, target = places((16, 16), (8, 8), (4, 4)), TARGET.repeat(5, 1, 1)
    whole = assigned(where, target)
    monkeypatch.setattr("hubel.tasks.detect._MOST_PAIRS", 3 * len(where))
    for one, other in zip(whole, assigned(where, target), strict=True):
        assert torch.equal(one, other)


def box_table(folder, rows, n=12):
    """Pictures of noise and a CSV of `rows`: (picture, class, four corners)."""
    rng = np.random.default_rng(0)
    for i in range(n):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    table = folder / "boxes.csv"
    lines = [",".join(map(str, (f"{i}.png", *row))) for i, *row in rows]
    table.write_text("\n".join(["path,class,xmin,ymin,xmax,ymax", *lines]) + "\n")
    return table


def test_one_class_is_enough(tmp_path):
    rows = [(i, "cell", 2 + k, 2, 14 + k, 14) for i in range(12) for k in (0, 12)]
    table = box_table(tmp_path, rows)
    run = hubel.fit(table, output=tmp_path / "run", epochs=1, model="simple", **SETTINGS)
    assert run.folder.read_json("classes.json") == ["cell"]
    assert run.predict(tmp_path / "0.png", min_score=0.0)[0].objects[0].label == "cell"
    assert run.evaluate().evaluation.num_truth > 0


def test_a_classifier_is_not_judged_by_pictures_without_one_class(tmp_path):
    one = box_table(tmp_path, [(i, "ab"[i % 2], 2, 2, 14, 14) for i in range(12)])
    settings = {**SETTINGS, "task": "classify", "model": "simple", "epochs": 1}
    run = hubel.fit(one, output=tmp_path / "run", **settings)
    assert run.evaluate().evaluation.n > 0
    rows = [(i, "a", 2 + k, 2, 14 + k, 14) for i in range(6) for k in (0, 12)]
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"none or several boxes a picture, and --task classify"):
        run.evaluate(box_table(tmp_path / "other", rows))
    with pytest.raises(UserError, match=r"has a class for every pixel, and --task classify"):
        run.evaluate("shapes-masks:20")


def test_a_validation_split_without_boxes_is_told(run):
    nothing = torch.full_like(TARGET, -1.0)
    metrics = DETECT.metrics(*DETECT.kept(perfect(nothing), nothing))
    assert DETECT.headline(metrics) == "nothing to judge by: none of 2 validation samples has a box"
    assert DETECT.headline(run.result["metrics"]).startswith("mAP50 0.")

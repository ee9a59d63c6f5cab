"""One class and one box a picture: the head, the loss, and the road from fit to report."""

import json
import math

import pytest
import torch
from commands import loaded, ran
from PIL import Image

import hubel
from hubel.data.formats.shapes import ShapesSource
from hubel.errors import UserError
from hubel.maps import map_shapes, nearest_stride
from hubel.models import ModelSpec, build
from hubel.tasks import TASKS
from hubel.tasks.localize import Localizer

SETTINGS = {"threads": 1, "engine": "fp32", "seed": 1}


def localizer(name="simple", size=(32, 48)):
    torch.manual_seed(0)
    return Localizer(build(ModelSpec(name, 3, 4, size)), (3, *size))


def test_a_head_chooses_a_map_by_its_stride():
    model = build(ModelSpec("resnet18", 3, 4, (64, 64))).train()
    shapes = map_shapes(model, (3, 64, 64))
    assert [s.stride for s in shapes] == [1.0, 2.0, 4.0, 8.0]  # the small stem's
    assert [s.channels for s in shapes] == [64, 128, 256, 512]
    assert nearest_stride(shapes, 7.0).index == 3
    assert nearest_stride(shapes, 2.0).size == (32, 32)
    assert all(m.training for m in model.modules())
    # A transformer's class token is no map.
    assert {
        s.size for s in map_shapes(build(ModelSpec("vit_tiny", 3, 4, (32, 32))), (3, 32, 32))
    } == {(8, 8)}


@pytest.mark.parametrize("name", ["simple", "resnet18", "vit_tiny", "swift_s"])
def test_untrained_it_points_at_the_middle_of_every_picture(name):
    model = localizer(name).eval()
    output = model(torch.randn(3, 3, 32, 48))
    assert output.shape == (3, 8)
    torch.testing.assert_close(output[:, 4:], torch.tensor([[0.25, 0.25, 0.75, 0.75]] * 3))


def test_every_parameter_learns():
    model = localizer("resnet18").train()
    target = torch.tensor([[[1.0, 0.1, 0.2, 0.5, 0.6]], [[3.0, 0.4, 0.4, 0.9, 0.8]]])
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    loss = TASKS["localize"].loss
    pictures = torch.randn(2, 3, 32, 48)
    for _ in range(2):  # the box's last layer starts at zero
        optimizer.zero_grad()
        loss(model(pictures), target).backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_loss_is_cross_entropy_and_generalized_iou():
    task = TASKS["localize"]
    target = torch.tensor([[[1.0, 0.0, 0.0, 0.5, 0.5]]])
    right = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.5, 0.5]])
    assert task.loss(right, target) == pytest.approx(math.log(2), abs=1e-5)
    beside = torch.tensor([[0.0, 0.0, 0.5, 0.0, 1.0, 0.5]])  # touches: IoU 0, hull all used
    assert task.loss(beside, target) == pytest.approx(math.log(2) + 2.0, abs=1e-5)
    apart = torch.tensor([[0.0, 0.0, 0.75, 0.0, 1.0, 0.5]])  # a quarter of the hull is empty
    assert task.loss(apart, target) == pytest.approx(math.log(2) + 2 * 1.25, abs=1e-5)


def test_the_metrics_of_four_pictures():
    task = TASKS["localize"]
    box = [0.0, 0.0, 0.5, 0.5]
    output = torch.tensor([
        [9.0, 0.0, *box], [0.0, 9.0, *box], [9.0, 0.0, 0.0, 0.0, 0.5, 0.25],
        [9.0, 0.0, 0.0, 0.0, 0.5, 0.2],
    ])  # fmt: skip
    target = torch.tensor([[[0.0, *box]]] * 4)
    found = task.metrics(output, target)
    assert found["top1"] == 0.75
    assert found["located"] == 0.5  # the third has an IoU of exactly one half, the fourth less
    assert found["mean_iou"] == pytest.approx((1 + 1 + 0.5 + 0.4) / 4)
    assert task.num_right(output, target) == 2


def test_from_generated_pictures_to_a_report(tmp_path):
    run = hubel.fit("shapes-box:240", output=tmp_path / "run", epochs=6, **SETTINGS)
    assert run.result["task"] == "localize"
    metrics = run.result["metrics"]
    assert metrics["mean_iou"] > 0.45  # the untrained box has less
    assert metrics["located_interval"][0] <= metrics["located"] <= metrics["located_interval"][1]
    row = run.folder.log()[-1]
    assert {"train_located", "val_located"} <= set(row)
    judged = run.evaluate()
    assert judged.evaluation.split == "test"
    assert judged.evaluation.n == 24
    source = ShapesSource(240, 32, name="shapes-box")
    worst = judged.evaluation.worst[0]
    i = source.ids.index(worst.id)
    assert worst.true_box == tuple(source.boxes.corners[source.boxes.of_sample(i)][0].tolist())
    page = judged.report.read_text()
    assert page.count("data:image/") >= 24
    assert "Mean IoU" in page
    document = json.loads((tmp_path / "run/evaluation/test/evaluation.json").read_text())
    assert document["metrics"]["mean_iou"] == judged.evaluation.metrics.mean_iou


def test_a_box_is_told_in_pixels_of_the_file(tmp_path):
    run = hubel.fit("shapes-box:60", output=tmp_path / "run", epochs=1, **SETTINGS)
    picture = ShapesSource(60, 32, name="shapes-box")[0].input
    Image.fromarray(picture).save(tmp_path / "small.png")
    Image.fromarray(picture.repeat(4, 0).repeat(2, 1)).save(tmp_path / "large.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    files = [tmp_path / f"{name}.png" for name in ("small", "large", "broken")]
    small, large, broken = run.predict(*files)
    wanted = [side * factor for side, factor in zip(small.box, (2, 4, 2, 4), strict=True)]
    assert large.box == pytest.approx(wanted, rel=0.05, abs=1.0)
    assert broken.box is None


def test_the_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["fit", "shapes-box:60", "--epochs", 1, "--threads", 1, "--output", "run"]
    said = ran(words, capsys, monkeypatch).stdout
    assert "validation samples have the right class and an IoU of at least 0.5" in said
    said = ran(["evaluate", "run"], capsys, monkeypatch).stdout
    assert "mean IoU" in said
    assert max(map(len, said.splitlines()[:-1])) <= 80
    document = loaded(ran(["evaluate", "run", "--json"], capsys, monkeypatch))
    assert 0.0 <= document["metrics"]["top1"] <= 1.0
    Image.new("RGB", (40, 30)).save("grey.png")
    said = ran(["predict", "run", "grey.png"], capsys, monkeypatch).stdout
    assert "left, top, right, bottom" in said
    head, row = ran(["predict", "run", "grey.png", "--csv"], capsys, monkeypatch).stdout.split()
    assert head == "path,class,probability,error,left,top,right,bottom"
    assert all(0 <= float(side) <= 40 for side in row.split(",")[4:])


def test_the_class_alone_can_be_learned_too(tmp_path):
    run = hubel.fit("shapes-box:60", output=tmp_path / "run", task="classify", epochs=1, **SETTINGS)
    assert run.result["task"] == "classify"
    assert "mean_iou" not in run.result["metrics"]


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        ("shapes:60", {"task": "localize"}, r"--task localize cannot be learned from DATA "
         r"'shapes:60', whose labels are one class a sample; give --task classify"),
        ("shapes-box:60", {"task": "localise"}, r"did you mean 'localize'"),
        ("shapes-box:60", {"mixup": 0.2}, r"--mixup mixes classes, and --task localize"),
        ("shapes-box:60", {"balanced_sampling": True}, r"--balanced-sampling .* --task localize"),
        ("shapes-box:60", {"tta": "all"}, r"--tta all .* --task localize"),
        ("shapes-box:60", {"hard_share": 0.7}, r"--hard-share .* --task localize"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_told(tmp_path, data, settings, message):
    with pytest.raises(UserError, match=message):
        hubel.fit(data, output=tmp_path / "run", epochs=1, **settings, **SETTINGS)
    assert not (tmp_path / "run").exists()

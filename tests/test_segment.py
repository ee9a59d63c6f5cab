"""A class a pixel: the decoder on every network, the loss, and the figures of a split."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hubel.data.formats.solids import SolidsSource
from hubel.errors import UserError
from hubel.evaluate.segmentation import evaluate_label_maps
from hubel.models import MODELS, Model, ModelSpec, build
from hubel.tasks import TASKS
from hubel.tasks.segment import Segmenter, _folded

TASK = TASKS["segment"]
IGNORED = 255
SIDE = 64
NAMES = [
    name
    for name, a in ((name, MODELS[name]) for name in MODELS.names())
    if (a.smallest if a.smallest_small is None else a.smallest_small) <= SIDE
]


def segmenter(name="simple", size=(32, 48), num_classes=5, in_channels=3):
    torch.manual_seed(0)
    model = build(ModelSpec(name, in_channels, num_classes, size))
    return Segmenter(model, num_classes, (in_channels, *size))


def drawn(seed, n=3, num_classes=4, size=(6, 7), ignored=0.2):
    """Logits, and masks some of whose pixels are ignored."""
    stream = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, num_classes, *size, generator=stream)
    masks = torch.randint(num_classes, (n, *size), generator=stream, dtype=torch.uint8)
    masks[torch.rand(n, *size, generator=stream) < ignored] = IGNORED
    return logits, masks


@pytest.mark.parametrize("name", NAMES)
def test_every_network_gives_a_logit_a_class_at_every_pixel(name):
    with torch.device("meta"):  # shapes alone: no weight is drawn, nothing is computed
        model = segmenter(name, (SIDE, SIDE)).eval()
        output = model(torch.empty(2, 3, SIDE, SIDE))
    assert output.shape == (2, 5, SIDE, SIDE)
    assert output.dtype == torch.float32


@pytest.mark.parametrize("name", ["resnet50", "vit_tiny", "swift_s"])
def test_knowing_nothing_it_says_so(name):
    model = segmenter(name, (SIDE, SIDE)).eval()
    with torch.no_grad():
        output = model(torch.randn(1, 3, SIDE, SIDE))
    even = torch.arange(SIDE * SIDE).remainder(5).view(1, SIDE, SIDE).to(torch.uint8)
    assert TASK.loss(output, even) == pytest.approx(TASK.untrained_loss(5), abs=0.01)


@pytest.mark.parametrize("name", ["simple", "resnet18", "googlenet", "vit_tiny", "swift_s"])
def test_every_parameter_learns_and_none_is_a_classifiers(name):
    model = segmenter(name, (32, 32)).train()
    TASK.loss(model(torch.randn(2, 3, 32, 32)), drawn(0, 2, 5, (32, 32))[1]).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize("size", [(61, 45), (96, 130), (97, 113)])
def test_odd_sizes(size):
    model = segmenter("resnet18", size).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, *size)).shape == (1, 5, *size)
        # Of another size than it was made for, as progressive resizing gives it.
        assert model(torch.randn(1, 3, 64, 80)).shape == (1, 5, 64, 80)


@pytest.mark.parametrize("name", ["simple", "swift_s", "vit_tiny/8"])
def test_volumes_by_the_same_code(name):
    source = SolidsSource(20, 32, name="solids-masks")
    volumes = torch.from_numpy(np.stack([source[i].input for i in range(2)])).float()
    masks = torch.from_numpy(np.stack([source.masks[i].input[..., 0] for i in range(2)]))
    num_classes = len(source.info.classes)
    model = segmenter(name, (32, 32, 32), num_classes, 1).train()
    output = model(volumes.movedim(-1, 1) / 255)
    assert output.shape == (2, num_classes, 32, 32, 32)
    loss = TASK.loss(output, masks)
    loss.backward()
    assert math.isfinite(loss.detach())
    assert TASK.kept(output, masks)[0].shape == (2, 1 + num_classes**2)


def test_a_fine_detail_of_the_picture_can_be_seen():
    # The network's finest map has a stride of 2, the detail is of single pixels.
    model = segmenter("simple", (32, 32)).eval()
    nn.init.normal_(model.classes.weight)
    picture = torch.randn(1, 3, 32, 32, requires_grad=True)
    differ = model(picture)[0, 0, 10, 10] - model(picture)[0, 0, 10, 11]
    assert differ.abs() > 1e-6


class _Odd(Model):
    """One map of a single place, and a part that nothing uses."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 8)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(4, 5))

    def forward_features(self, input):
        return [self.body(input)]

    def forward_head(self, features):
        return self.head(features[0])


def test_a_network_without_maps_is_told():
    with pytest.raises(
        UserError, match=r"--task segment needs maps with more than one place, .* 8×8"
    ):
        Segmenter(_Odd(), 5, (3, 8, 8))


def test_levels_go_by_the_size_of_the_maps():
    whole = segmenter("resnet18", (96, 128))
    assert whole.finest == 1
    assert whole.places == {1: 0, 2: 1, 3: 2, 4: 3, 5: 4}
    # Small pictures are seen whole; the last map of a single place is added at the coarsest step.
    vgg = segmenter("vgg11", (32, 32))
    assert (vgg.finest, vgg.octaves, vgg.whole) == (0, [4, 3, 2, 1, 0], {4: 512})
    # A transformer has one map (and its class token); the steps after it go without.
    vit = segmenter("vit_tiny/8", (64, 64))
    assert (vit.places, vit.octaves, vit.whole) == ({3: 0}, [3, 2, 1, 0], {1: 192})


def the_loss(logits, masks, smoothing=0.0, weights=None):
    """By the definitions: torch's cross-entropy of the pixels that count; Dice in numpy."""
    counted = (masks != IGNORED).numpy()
    picked = logits.movedim(1, -1)[torch.from_numpy(counted)]
    entropy = F.cross_entropy(
        picked, masks[torch.from_numpy(counted)].long(), weights, label_smoothing=smoothing,
        reduction="sum",
    )  # fmt: skip
    p, t = logits.softmax(1).double().numpy(), masks.numpy()
    dices = []
    for c in np.unique(t[counted]):
        pc, tc = p[:, c][counted], t[counted] == c
        dices.append(2 * (pc * tc).sum() / ((pc**2).sum() + (tc**2).sum()))
    return float(entropy) / counted.sum() + 1 - np.mean(dices)


@given(
    st.integers(0, 10_000),
    st.sampled_from([(6, 7), (5,), (3, 4, 5)]),
    st.sampled_from([0.0, 0.1]),
    st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_the_loss_is_cross_entropy_and_dice(seed, size, smoothing, weighted):
    logits, masks = drawn(seed, size=size)
    masks.view(-1)[0] = 0  # one pixel counts at least
    weights = torch.tensor([0.5, 1.0, 2.0, 0.1]) if weighted else None
    loss = TASK.loss(logits, masks, label_smoothing=smoothing, class_weights=weights)
    assert loss == pytest.approx(the_loss(logits, masks, smoothing, weights), rel=1e-4)


def test_dice_by_hand():
    # Two pixels, two classes; p of the right class is 3/4 in the first and 1/2 in the second.
    logits = torch.tensor([[[math.log(3), 0.0], [0.0, 0.0]]])
    masks = torch.tensor([[0, 1]], dtype=torch.uint8)
    entropy = -(math.log(3 / 4) + math.log(1 / 2)) / 2
    zero = 2 * 0.75 / (0.75**2 + 0.5**2 + 1)
    one = 2 * 0.5 / (0.25**2 + 0.5**2 + 1)
    assert TASK.loss(logits, masks) == pytest.approx(entropy + 1 - (zero + one) / 2)


def test_knowing_nothing_costs_what_is_said():
    for k in (2, 11):
        masks = torch.arange(k, dtype=torch.uint8)[None]
        found = TASK.loss(torch.zeros(1, k, k), masks)
        assert found == pytest.approx(TASK.untrained_loss(k), rel=1e-5)


def test_ignored_pixels_have_no_gradient():
    logits, masks = drawn(3)
    logits.requires_grad_()
    TASK.loss(logits, masks, label_smoothing=0.1).backward()
    touched = logits.grad.abs().sum(1) > 0
    assert torch.equal(touched, masks != IGNORED)
    # And so nothing that is said there changes the loss.
    said = logits.detach()
    other = torch.where((masks == IGNORED)[:, None], 9.0 * torch.randn_like(said), said)
    assert TASK.loss(other, masks) == pytest.approx(float(TASK.loss(said, masks)), rel=1e-5)


def test_a_batch_in_which_nothing_counts():
    logits, masks = drawn(4)
    logits.requires_grad_()
    loss = TASK.loss(logits, torch.full_like(masks, IGNORED), label_smoothing=0.1)
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))
    kept = TASK.kept(logits.detach(), torch.full_like(masks, IGNORED))
    assert TASK.metrics(*kept) == {
        "miou": 0.0, "miou_interval": [0.0, 0.0], "dice": 0.0, "pixel_accuracy": 0.0,
        "loss": 0.0, "judged": 0, "n": 3, "predicted_classes": 0,
    }  # fmt: skip
    assert TASK.num_right(logits, torch.full_like(masks, IGNORED)) == 0


def test_that_one_class_is_all_that_is_predicted_is_said():
    logits, masks = drawn(4)
    logits[:, 0] = 100.0
    everywhere = TASK.metrics(*TASK.kept(logits, masks))
    assert TASK.headline(everywhere).endswith("one class is predicted everywhere")
    logits[0, 1, 0, 0] = 200.0
    masks[0, 0, 0] = 1
    assert "everywhere" not in TASK.headline(TASK.metrics(*TASK.kept(logits, masks)))


@pytest.mark.parametrize("size", [(3, 5), (2, 3, 2)])
def test_a_place_stands_for_the_pixels_that_lie_in_it(size):
    logits, _ = drawn(5, size=size)
    masks = drawn(6, size=tuple(2 * side for side in size))[1]
    whole = logits
    for axis in range(2, logits.ndim):
        whole = whole.repeat_interleave(2, axis)
    assert TASK.num_right(logits, masks) == pytest.approx(float(TASK.num_right(whole, masks)))
    for options in ({}, {"label_smoothing": 0.1}):
        loss = TASK.loss(logits, masks, **options)
        assert loss == pytest.approx(the_loss(whole, masks, options.get("label_smoothing", 0)))
    kept, other = TASK.kept(logits, masks)[0], TASK.kept(whole, masks)[0]
    torch.testing.assert_close(kept, other, rtol=1e-5, atol=1e-5)


def test_training_is_at_the_size_of_the_finest_step():
    model = segmenter("simple", (96, 130))
    assert model.train()(torch.randn(2, 3, 96, 130)).shape == (2, 5, 48, 65)
    assert model.eval()(torch.randn(2, 3, 96, 130)).shape == (2, 5, 96, 130)


@pytest.mark.parametrize(
    ("side", "places", "pixels"),
    [
        (4, 4, [0, 1, 2, 3]),
        (4, 3, [0, 2, 3]),
        (8, 3, [0, 2, 3, 4, 6, 7]),
        (9, 5, [0, 1, 2, 3, 4, 4, 5, 6, 7, 8]),
    ],
)
def test_smaller_pictures_have_fewer_pixels_of_their_masks(side, places, pixels):
    target = torch.arange(side, dtype=torch.uint8)[None]
    folded = _folded(target, torch.zeros(1, 10, places))
    assert folded.shape == (1, len(pixels) // places, places)
    assert folded[0].T.flatten().tolist() == pixels


def test_parts_of_pictures_are_right():
    masks = torch.tensor([[[0, 1, 255, 255]], [[0, 0, 0, 1]]], dtype=torch.uint8)
    logits = torch.zeros(2, 2, 1, 4)
    logits[:, 0] = 1.0  # class 0 everywhere
    assert TASK.num_right(logits, masks) == 0.5 + 0.75


def test_figures_are_those_of_an_evaluation():
    parts = [drawn(seed, num_classes=4) for seed in range(5)]
    kept = [TASK.kept(*part) for part in parts]
    found = TASK.metrics(torch.cat([o for o, _ in kept]), torch.cat([t for _, t in kept]))
    truths = [mask.numpy() for _, masks in parts for mask in masks]
    predictions = [p for logits, _ in parts for p in logits.argmax(1).numpy()]
    ids = [str(i) for i in range(len(truths))]
    pictures = zip(ids, truths, predictions, strict=True)
    e = evaluate_label_maps(pictures, ["a", "b", "c", "d"], split="val").evaluation.metrics
    assert found["n"] == 15
    assert found["miou"] == pytest.approx(e.miou)
    assert found["miou_interval"] == pytest.approx(e.miou_interval)
    assert found["dice"] == pytest.approx(e.mean_dice)
    assert found["pixel_accuracy"] == pytest.approx(e.pixel_accuracy)
    assert found["loss"] == pytest.approx(np.mean([float(TASK.loss(*p)) for p in parts]))
    assert "mIoU 0." in TASK.headline(found)


def test_a_batch_is_learned_by_heart():
    torch.manual_seed(0)
    masks = torch.zeros(2, 32, 32, dtype=torch.uint8)
    masks[0, 8:20, 5:25] = 1
    masks[1, 3:9, 20:30] = 2
    masks[:, :2] = IGNORED
    pictures = 0.2 * torch.randn(2, 3, 32, 32) + masks[:, None].float() % IGNORED
    model = segmenter("simple", (32, 32), 3).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        loss = TASK.loss(model(pictures), masks)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        output = model(pictures)
    assert TASK.num_right(output, masks) > 1.98
    assert TASK.maps(output).sum(1) == pytest.approx(1.0, abs=1e-5)

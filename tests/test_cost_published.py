"""MACs against tables of fvcore's, whose unit "flop" is one multiply-add like our MAC.

The numbers are those that their documentation prints; the networks are built here from the
sizes that the tables give. fvcore also counts what hubel gives no MACs, because it is bound by
memory: a batch norm as 5 for each element in training mode (2 in evaluation), a pooling to one
place as 1 for each. A test adds exactly these and gets fvcore's total.
"""

import math

import pytest
import torch
from torch import nn
from torchvision import models

from hubel.cost.trace import trace
from hubel.models import ModelSpec, build


def macs_by_name(found):
    return {layer.name: layer.macs for layer in found.layers if layer.macs}


class Tutorial(nn.Module):
    """The network of PyTorch's tutorial, on 1×32×32."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 16, 3)
        self.fc1, self.fc2, self.fc3 = nn.Linear(576, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, input):
        maps = torch.max_pool2d(self.conv1(input).relu(), 2)
        maps = torch.max_pool2d(self.conv2(maps).relu(), 2)
        return self.fc3(self.fc2(self.fc1(maps.flatten(1)).relu()).relu())


def test_the_example_of_fvcores_documentation():
    """fvcore, docs/flop_count.md, section "Our Work": 274656 in all."""
    with torch.device("meta"):
        found = trace(Tutorial(), (1, 1, 32, 32))
    assert macs_by_name(found) == {
        "conv1": 48600, "conv2": 146016, "fc1": 69120, "fc2": 10080, "fc3": 840,
    }  # fmt: skip
    assert found.macs == 274656


# fvcore, fvcore/nn/print_model_statistics.py, docstring of flop_count_table: rows of a SlowFast
# network for video, (in, out, kernel, stride, input), parameters and flops as printed there. It
# does not say the input: 8 frames for one path and 32 for the other, of 256×256, is the only one
# with these counts.
VIDEO = [
    ("s1.pathway0_stem.conv", 3, 64, (1, 7, 7), (1, 2, 2), (8, 256, 256), 9.41e3, 1.23e9),
    ("s1.pathway1_stem.conv", 3, 8, (5, 7, 7), (1, 2, 2), (32, 256, 256), 5.88e3, 3.08e9),
    ("s1_fuse.conv_f2s", 8, 16, (7, 1, 1), (4, 1, 1), (32, 64, 64), 0.896e3, 29.4e6),
    ("s2.pathway0_res0.branch1", 80, 256, (1, 1, 1), (1, 1, 1), (8, 64, 64), 20.5e3, 0.671e9),
    ("s2.pathway0_res1.branch2.a", 256, 64, (1, 1, 1), (1, 1, 1), (8, 64, 64), 16.4e3, 0.537e9),
    ("s2.pathway0_res1.branch2.b", 64, 64, (1, 3, 3), (1, 1, 1), (8, 64, 64), 36.9e3, 1.21e9),
    ("s2.pathway0_res1.branch2.c", 64, 256, (1, 1, 1), (1, 1, 1), (8, 64, 64), 16.4e3, 0.537e9),
]


@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "stride", "size", "params", "flops"),
    [row[1:] for row in VIDEO],
    ids=[row[0] for row in VIDEO],
)
def test_convolutions_over_time_of_fvcores_table(
    inputs, outputs, kernel, stride, size, params, flops
):
    padding = tuple(k // 2 for k in kernel)
    with torch.device("meta"):
        conv = nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False)
        found = trace(nn.Sequential(conv), (1, inputs, *size))
    assert found.params == pytest.approx(params, rel=6e-3)  # three digits are printed
    assert found.macs == pytest.approx(flops, rel=6e-3)


# torchvision's ResNet-50 on 3×224×224. OpenMMLab's mmengine, docs/en/common_usage/
# model_analysis.md, whose counter is fvcore's: the rows of its table, as printed.
RESNET50 = {
    "conv1": 0.118e9, "layer1": 0.69e9, "layer2": 1.043e9, "layer3": 1.475e9, "layer4": 0.812e9,
    "fc": 2.048e6, "layer1.0": 0.241e9, "layer2.0": 0.379e9, "layer3.1": 0.22e9,
    "layer4.2": 0.219e9, "layer1.0.conv1": 12.845e6, "layer1.0.conv3": 51.38e6,
    "layer1.0.downsample": 55.394e6, "layer2.0.conv1": 0.103e9, "layer3.0.conv2": 0.116e9,
    "bn1": 4.014e6, "layer1.0.bn1": 1.004e6, "layer4.2.bn3": 0.502e6, "avgpool": 0.1e6,
}  # fmt: skip
RESNET50_TOTAL = 4.145e9


def fvcores_extra(layer, training):
    """What fvcore counts for a layer without products: norms and the pooling before the head."""
    if layer.type == "BatchNorm2d":
        return (5 if training else 2) * math.prod(layer.output_shape)
    if layer.type == "AdaptiveAvgPool2d":
        return 7 * 7 * math.prod(layer.output_shape)
    return 0


def test_every_row_of_resnet50_is_fvcores():
    with torch.device("meta"):
        found = trace(models.resnet50(weights=None), (1, 3, 224, 224), training=True)
    for name, flops in RESNET50.items():
        inside = [x for x in found.layers if x.name == name or x.name.startswith(name + ".")]
        counted = sum(layer.macs + fvcores_extra(layer, True) for layer in inside)
        digits = 0.5e6 if flops >= 1e8 else 0.5e3  # of what is printed, "0.118G" and "4.014M"
        if name == "avgpool":
            digits = 1e3
        assert counted == pytest.approx(flops, abs=digits), name
    extra = sum(fvcores_extra(layer, True) for layer in found.layers)
    assert found.macs + extra == pytest.approx(RESNET50_TOTAL, abs=0.5e6)
    assert extra / found.macs < 0.014  # all that the two ways of counting differ by


def test_hubels_resnet50_is_fvcores_less_its_norms():
    """4.09 G by fvcore with 53 batch norms and the poolings skipped, as its versions before 2021
    did (facts from issue 94 of sovrasov/flops-counter.pytorch)."""
    with torch.device("meta"):
        model = build(ModelSpec("resnet50", 3, 1000, (224, 224), stem="paper"))
        found = trace(model, (1, 3, 224, 224))
    assert found.macs == pytest.approx(4.09e9, abs=5e6)
    assert sum(layer.type == "BatchNorm2d" for layer in found.layers) == 53

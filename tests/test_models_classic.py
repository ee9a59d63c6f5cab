"""What is special to simple, LeNet-5, AlexNet and VGG."""

import pytest
import torch

from hubel.models import ModelSpec, build


@pytest.mark.parametrize(
    ("name", "shape", "classes", "params"),
    [
        # C1 156, C3 2,416, C5 48,120, F6 10,164, output 850
        ("lenet5", (1, 32, 32), 10, 61_706),
        # 448 + 4,640 + 18,496 + 1024·512 + 512 + 5,130
        ("simple", (3, 32, 32), 10, 553_514),
        # 3-D: 16(27+1) + 32(16·27+1) + 64(32·27+1) + 64·3³·512 + 512 + 5,130
        ("simple", (1, 24, 24, 24), 10, 448 + 13_856 + 55_360 + 884_736 + 512 + 5_130),
    ],
)
def test_parameter_counts(name, shape, classes, params):
    model = build(ModelSpec(name, shape[0], classes, shape[1:]))
    assert sum(p.numel() for p in model.parameters()) == params


def test_simple_pools_before_relu_and_equals_relu_before_pool():
    torch.manual_seed(0)
    model = build(ModelSpec("simple", 3, 10, (32, 32))).eval()
    input = torch.randn(4, 3, 32, 32)
    value = input
    for stage in model.stages:
        value = torch.nn.functional.max_pool2d(torch.relu(stage[0](value)), 2)
    torch.testing.assert_close(model.forward_features(input)[-1], value, rtol=0, atol=0)

"""gnina's networks: the published weights, and scores that others computed with them."""

import csv
import os
from pathlib import Path

import pytest
import torch
from test_molecules_grid import published

from hubel.models import MODELS, ModelSpec, build
from hubel.models.gnina import published_weights
from hubel.molecules.grid import densities

SMALL = (16, 16, 16)


def network(name, size=SMALL):
    return build(ModelSpec(name, 28, 3, size))


def as_published(model):
    """The state of `model` as the published files have it: two dense layers, names of their own."""
    state = model.state_dict()
    weight, bias = state.pop("head.weight"), state.pop("head.bias")
    other = {f"unit{i}": tensor for i, tensor in enumerate(state.values())}
    return other | {
        "affinity_output.weight": weight[2:], "affinity_output.bias": bias[2:],
        "pose_output.weight": weight[:2], "pose_output.bias": bias[:2],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["gnina_default2017", "gnina_default2018", "gnina_dense"])
def test_published_weights_go_where_they_belong(name):
    torch.manual_seed(0)
    there, here = network(name).eval(), network(name).eval()
    here.load_state_dict(published_weights(as_published(there), here))
    input = torch.randn(2, 28, *SMALL)
    assert torch.equal(there(input), here(input))
    assert [tuple(m.shape[2:]) for m in here.forward_features(input)] == [
        (8,) * 3,
        (4,) * 3,
        (2,) * 3,
    ]


def test_weights_of_another_network_are_refused():
    dense, default = network("gnina_dense"), network("gnina_default2018")
    with pytest.raises(ValueError, match="tensors before its outputs, the network"):
        published_weights(as_published(dense), default)
    with pytest.raises(ValueError, match=r"its head.weight is \(3, 1024\), the network's"):
        published_weights(as_published(default), network("gnina_default2018", (24, 24, 24)))
    without = as_published(default)
    del without["pose_output.bias"]
    with pytest.raises(ValueError, match=r"has no 'pose_output\.bias'"):
        published_weights(without, default)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "file", "column"),
    [
        ("gnina_default2018", "crossdock_default2018.pt", "default2018"),
        ("gnina_dense", "dense.pt", "dense"),
    ],
)
def test_scores_are_those_of_gnina(name, file, column):
    if not os.environ.get("HUBEL_DATA"):
        pytest.skip("HUBEL_DATA does not name a folder of real data sets")
    root = Path(os.environ["HUBEL_DATA"]) / "gnina_oracle"
    model = build(ModelSpec(name, *MODELS[name].input_shape[:1], 3, (48, 48, 48))).eval()
    model.load_state_dict(published_weights(torch.load(root / file, weights_only=True), model))
    with (root / "golden.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    for row in rows:
        with torch.no_grad():
            output = model(densities(*published(row["pose"]), 28))[0]
        good, affinity = float(output[:2].log_softmax(0)[1]), float(output[2])
        assert good == pytest.approx(float(row[f"{column}_logp_good"]), abs=1e-4)
        assert affinity == pytest.approx(float(row[f"{column}_affinity"]), abs=1e-4)

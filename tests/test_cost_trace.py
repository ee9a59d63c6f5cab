"""What a traced network is said to compute and keep, against torch's own count and real runs."""

import contextlib
import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from hubel.cost.records import Gemm
from hubel.cost.trace import trace
from hubel.models import ModelSpec, build


def vit(**changes):
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 4}
    return models.VisionTransformer(hidden_dim=32, mlp_dim=64, num_classes=10, **sizes, **changes)


def dense_net(**changes):
    return models.DenseNet(4, (2, 3), 8, num_classes=5, **changes)


def torchvision_net(name, **arguments):
    with torch.device("meta"):
        return models.get_model(name, weights=None, **arguments)


def torchs_macs(model, shape, training):
    """(forward, backward) as FlopCounterMode has them; nothing is computed.

    Attention is another operation on the meta device than on the CPU, so that a network on the
    CPU is counted there, on fake tensors.
    """
    model = copy.deepcopy(model).train(training)
    device = next(model.parameters()).device
    with (
        FakeTensorMode(allow_non_fake_inputs=True)
        if device.type == "cpu"
        else contextlib.nullcontext()
    ):
        model = model.to_empty(device=device)
        # With gradients: without, attention in evaluation mode is one operation it cannot count.
        with FlopCounterMode(display=False) as forward:
            output = model(torch.empty(shape, device=device))
        if not training:
            return forward.get_total_flops() // 2, 0
        parts = [output] if torch.is_tensor(output) else [v for v in output if v is not None]
        with FlopCounterMode(display=False) as backward:
            sum(part.sum() for part in parts).backward()
    return forward.get_total_flops() // 2, backward.get_total_flops() // 2


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (torchvision_net("resnet18"), (2, 3, 64, 64)),
        (torchvision_net("squeezenet1_1"), (1, 3, 64, 64)),
        (torchvision_net("vgg11"), (2, 3, 224, 224)),
        (dense_net(), (2, 3, 64, 64)),
        (vit(), (3, 3, 32, 32)),
        pytest.param(
            torchvision_net("googlenet", init_weights=False),
            (2, 3, 96, 96),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["resnet18", "squeezenet", "vgg11", "densenet", "vit", "googlenet"],
)
def test_macs_are_those_of_torch_s_counter_forward_and_backward(model, shape):
    trained = trace(model, shape, training=True)
    assert trained.macs > 0
    assert (trained.macs, trained.backward_macs) == torchs_macs(model, shape, True)
    assert trace(model, shape).macs == torchs_macs(model, shape, False)[0]


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_macs_of_grouped_networks_too(name):
    model = torchvision_net(name)
    assert trace(model, (2, 3, 64, 64)).macs == torchs_macs(model, (2, 3, 64, 64), False)[0]


def published():
    """Each classifier of torchvision once, with what it says of itself at the input it gives."""
    light = ("resnet50", "vgg16", "googlenet", "vit_b_16", "convnext_tiny")
    for name in models.list_models(module=models):
        if name.startswith("regnet"):  # their builder reads numbers: not without memory for them
            continue
        weights = min(models.get_model_weights(name), key=lambda w: w.meta["_ops"])
        yield pytest.param(name, weights, id=name, marks=() if name in light else pytest.mark.slow)


@pytest.mark.parametrize(("name", "weights"), list(published()))
def test_counts_are_the_published_ones(name, weights):
    """Of the classifiers that torchvision publishes: "GFLOPS" there are giga-MACs."""
    arguments = {}
    if name in ("googlenet", "inception_v3"):
        arguments = {"aux_logits": name == "inception_v3", "init_weights": False}
    (side,) = weights.transforms().crop_size
    if name.startswith("vit_"):
        arguments["image_size"] = side
    found = trace(torchvision_net(name, **arguments), (1, 3, side, side))
    assert found.params == weights.meta["num_params"]
    assert found.macs / 1e9 == pytest.approx(weights.meta["_ops"], abs=6e-4)


def test_auxiliary_heads_run_in_training_only():
    model = torchvision_net("googlenet", init_weights=False)
    inference, training = trace(model, (2, 3, 96, 96)), trace(model, (2, 3, 96, 96), training=True)
    assert inference.params == training.params == 13_004_888
    assert inference.unused_params == 13_004_888 - 6_624_904
    assert training.unused_params == 0
    more = {layer.name for layer in training.layers} - {layer.name for layer in inference.layers}
    assert {name.partition(".")[0] for name in more if "." in name} >= {"aux1", "aux2"}


def really_kept(model, shape, autocast=None):
    """Bytes that autograd holds after a real forward pass, each storage once, no state."""
    model = copy.deepcopy(model).train()
    state = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    held = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage  # alive, so that no address comes twice
        return tensor

    enabled = autocast is not None
    with (
        torch.autocast("cpu", autocast, enabled=enabled),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t),
    ):
        model(torch.randn(shape))
    return sum(s.nbytes() for pointer, s in held.items() if pointer not in state)


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (models.resnet18(num_classes=10), (2, 3, 64, 64)),
        (vit(dropout=0.1, attention_dropout=0.1), (2, 3, 32, 32)),
        (dense_net(drop_rate=0.2), (2, 3, 32, 32)),
        (models.mobilenet_v3_small(num_classes=10), (2, 3, 64, 64)),
        (build(ModelSpec("simple", 1, 3, (8, 16, 8))), (3, 1, 8, 16, 8)),
        (build(ModelSpec("lenet5", 1, 10, (32, 32))), (3, 1, 32, 32)),
    ],
    ids=["resnet18", "vit", "densenet", "mobilenet", "simple3d", "lenet5"],
)
def test_what_is_kept_for_backward_is_what_a_real_run_holds(model, shape, autocast):
    found = trace(model, shape, training=True, autocast=autocast)
    real = really_kept(model, shape, autocast)
    # Fake tensors take a batch norm's statistics under autocast for bfloat16; they are float32.
    assert found.kept_bytes == (real if autocast is None else pytest.approx(real, rel=0.01))


def test_what_is_kept_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2)
    )
    found = trace(model, (2, 3, 4, 4), training=True)
    kept = {layer.name: (layer.kept, layer.kept_bytes) for layer in found.layers}
    assert kept["input"] == (2 * 3 * 16, 4 * 2 * 3 * 16)
    assert kept["0"] == (2 * 8 * 16, 4 * 2 * 8 * 16)
    assert kept["1"] == (2 * 8 * 16 + 16, 4 * (2 * 8 * 16 + 16))  # map; mean and 1/deviation
    assert kept["2"] == (0, 0)  # in place
    assert kept["3"] == (2 * 8 * 4, 8 * 2 * 8 * 4)  # 64-bit indices, not the output
    assert trace(model, (2, 3, 4, 4)).kept == 0


def test_the_traffic_of_a_convolution_by_hand():
    found = trace(nn.Sequential(nn.Conv2d(3, 8, 3, bias=False)), (2, 3, 6, 6), training=True)
    (forward,) = found.layers[1].forward
    assert (forward.kind, forward.inputs) == ("conv", ((2, 3, 6, 6), (8, 3, 3, 3)))
    assert forward.bytes_read == 4 * (2 * 3 * 36 + 8 * 27)
    assert forward.bytes_written == 4 * 2 * 8 * 16
    assert forward.case.words == "2 × 3→8, 6×6, 3×3"
    (backward,) = found.layers[1].backward
    # The picture needs no gradient: only the weights' is computed.
    assert backward.gemms == (Gemm(27, 2 * 16, 8, 1),)
    assert backward.case == forward.case


def test_gemms_of_lowered_layers():
    model = nn.Sequential(
        nn.Conv3d(4, 6, (3, 1, 2), groups=2), nn.Flatten(), nn.Linear(6 * 2 * 4 * 3, 5)
    )
    found = trace(model, (7, 4, 4, 4, 4))
    conv, linear = found.layers[1], found.layers[3]
    assert conv.gemms == (Gemm(7 * 2 * 4 * 3, 3 * 1 * 2 * 4 // 2, 3, 2),)
    assert str(conv.gemms[0]) == "2·168×12×3"
    assert linear.gemms == (Gemm(7, 144, 5),)
    assert (linear.kind, linear.params) == ("linear", 725)


def test_gradients_of_grouped_convolutions_cost_as_much_as_they_do():
    """By definition each gradient has the products of the forward pass."""
    model = nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, groups=8))
    layer = trace(model, (2, 4, 6, 6), training=True).layers[2]
    assert layer.macs == 2 * 16 * 9 * 8
    assert layer.backward_macs == 2 * layer.macs


def test_transposed_convolutions():
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2))
    found = trace(model, (2, 4, 5, 5))
    assert found.macs == torchs_macs(model, (2, 4, 5, 5), False)[0] == 2 * 25 * 4 * 3 * 9


class Branches(nn.Module):
    """Functional calls, a layer used twice, a tied weight, one that is never used."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.tied = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.tied.weight = self.first.weight
        self.unused = nn.Linear(4, 4)

    def forward(self, x):
        y = F.relu(self.first(x))
        z = torch.cat([self.first(y), self.tied(x)], 1)
        return {"out": z.mean((2, 3)), "map": z}


def test_any_python_is_followed():
    found = trace(Branches(), (2, 3, 8, 8), training=True)
    names = [layer.name for layer in found.layers]
    assert names == ["input", "first", "relu", "first#2", "tied", "cat", "mean"]
    assert [layer.inputs for layer in found.layers] == [[], [0], [1], [2], [0], [3, 4], [5]]
    assert [layer.kind for layer in found.layers[1:]] == [
        "conv", "activation", "conv", "conv", "cat", "mean",
    ]  # fmt: skip
    assert [layer.params for layer in found.layers] == [0, 84, 0, 0, 0, 0, 0]
    assert (found.params, found.unused_params) == (84 + 20, 20)
    assert found.output_bytes == 4 * (2 * 6 + 2 * 6 * 64)


def test_residual_branches_are_edges():
    block = models.resnet.BasicBlock(8, 8)
    found = trace(nn.Sequential(nn.Conv2d(3, 8, 1), block), (1, 3, 8, 8))
    by_name = {layer.name: layer for layer in found.layers}
    assert [found.layers[i].name for i in by_name["1.add"].inputs] == ["1.bn2", "0"]


class TwoNames(nn.Module):
    """One convolution under two names, a batch norm with a buffer too."""

    def __init__(self):
        super().__init__()
        layer = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))
        self.layers = nn.ModuleList([layer, layer, layer])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def test_a_layer_with_several_names_is_counted_once_and_left_as_it_was():
    model = TwoNames()
    weight = model.layers[0][0].weight
    for training in (True, False):
        found = trace(model, (2, 3, 8, 8), training=training)
        assert (found.params, found.unused_params) == (90, 0)
        assert found.macs == 3 * 2 * 64 * 3 * 27
    assert all(layer[0].weight is weight for layer in model.layers)
    assert model.layers[1][1].num_batches_tracked == 0


class Sequence(nn.Module):
    """Rows of a picture, one after the other."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x.flatten(2).transpose(1, 2))[0]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_networks_by_their_definition(kind):
    """An LSTM is one fused operation, which torch's own counter takes for nothing."""
    gates = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}[kind]
    model = Sequence(kind(8, 16, num_layers=2, bidirectional=True, batch_first=True))
    found = trace(model, (2, 8, 4, 5), training=True)
    # Two directions; the second layer reads both of the first.
    macs = 2 * 20 * gates * 16 * (2 * (8 + 16) + 2 * (2 * 16 + 16))
    assert found.macs == trace(model, (2, 8, 4, 5)).macs == macs
    assert macs < found.backward_macs <= 2 * macs


class Vectors(nn.Module):
    """Products that are not of two matrices: rows of 48 numbers."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(48))
        self.square = nn.Parameter(torch.zeros(4, 4))
        self.bilinear = nn.Bilinear(48, 48, 5)

    def forward(self, x):
        rows = x.flatten(1)
        single = [rows @ self.weight, torch.addmv(rows[:, 0], rows, self.weight)]
        summed = torch.addbmm(self.square, x[:, 0], x[:, 1]).sum()
        return sum(single).sum() + torch.dot(rows[0], self.weight) + summed, self.bilinear(
            rows, rows
        )


def test_products_of_vectors_and_of_three():
    found = trace(Vectors(), (2, 3, 4, 4))
    assert found.macs == 2 * 48 + 2 * 48 + 48 + 2 * 4 * 4 * 4 + 2 * 48 * 48 * 5


class LeavesTorch(nn.Module):
    """It takes its numbers to numpy and back."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        return self.conv(x) + float(x.detach().numpy().max())


def test_a_network_that_leaves_torch_runs_for_real():
    assert trace(LeavesTorch(), (2, 1, 6, 6), training=True).macs == 2 * 16 * 9 * 2
    with pytest.raises(RuntimeError, match="numpy"):  # no numbers to be had
        trace(LeavesTorch().to("meta"), (2, 1, 6, 6))


class Looks(nn.Module):
    """Its Python depends on the numbers."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        y = self.conv(x)
        return y if y.sum() > 1e9 else y * 2


def test_a_network_that_looks_at_its_numbers_runs_for_real():
    model = Looks()
    found = trace(model, (2, 1, 6, 6), training=True)
    assert [layer.name for layer in found.layers][:2] == ["input", "conv"]
    assert found.macs == 2 * 16 * 9 * 2
    assert model.conv.weight.grad is None


class Makes(nn.Module):
    """It makes tensors of its own, and is on the CPU only."""

    def forward(self, x):
        return x + torch.arange(4.0) + torch.tensor(2.0)


def test_tensors_that_the_network_makes():
    found = trace(Makes(), (1, 1, 4, 4))
    assert [layer.kind for layer in found.layers] == ["input", "add", "add"]


def test_the_network_is_left_as_it_was():
    model = models.resnet18(num_classes=3)
    model.layer1.eval()
    before = copy.deepcopy(model.state_dict())
    for training in (False, True):
        trace(model, (2, 3, 32, 32), training=training)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert model.training
    assert not model.layer1.training
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
    assert torch.backends.mha.get_fastpath_enabled()


def test_frozen_layers_need_no_weight_gradients():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    found = trace(model, (1, 3, 8, 8), training=True)
    assert [layer.backward_macs for layer in found.layers] == [0, 0, 0, math.prod((4, 4, 4, 36))]


def test_the_backward_pass_of_a_convolution_is_its_own_behind_a_batch_norm() -> None:
    """A batch norm counts its batches by an addition that autograd does not see."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)
    )
    layers = {layer.name: layer for layer in trace(network, (2, 3, 8, 8), training=True).layers}
    assert layers["0"].backward_macs == layers["0"].macs  # to the weight; the picture needs none
    assert layers["3"].backward_macs == 2 * layers["3"].macs
    assert layers["1"].backward_macs == layers["4"].backward_macs == 0

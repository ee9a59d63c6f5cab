"""Layers of a network, measuring them, and `hubel conv bench`."""

import json

import pytest
import torch
import torchvision
from commands import ran
from torch import nn

from hubel.conv import measure as measuring
from hubel.conv import swap
from hubel.conv.case import ConvCase
from hubel.conv.measure import Measured, Peaks, measure, measure_peaks
from hubel.conv.networks import conv_cases
from hubel.errors import UserError


@pytest.mark.parametrize(
    ("name", "layers", "macs"),
    # MACs of the whole network less its dense layers.
    [("resnet50", 53, 4_089_184_256 - 2_048_000), ("vgg16", 13, 15_470_264_320 - 123_633_664)],
)
def test_the_convolutions_of_a_network_are_found_without_computing(name, layers, macs):
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None)
    cases = conv_cases(model, (2, 3, 224, 224))
    assert len(cases) == layers
    assert sum(case.macs for case in cases.values()) == 2 * macs


def test_a_live_model_is_left_as_it_was():
    model = nn.Sequential(nn.Conv1d(2, 4, 3, padding="same"), nn.Dropout(), nn.Conv1d(4, 4, 1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert [case.words for case in conv_cases(model.train(), (1, 2, 9)).values()] == [
        "1 × 2→4, 9, 3, padding 1",
        "1 × 4→4, 9, 1",
    ]
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())
    for name, value in model.state_dict().items():
        assert value.equal(before[name])
    with pytest.raises(UserError, match=r"Sequential does not take an input of shape \(1, 3, 9\)"):
        conv_cases(model, (1, 3, 9))


def test_the_ceiling_is_the_lower_of_the_two():
    peaks = Peaks(flops_per_s=100e9, bytes_per_s=10e9)
    wide = ConvCase.of(1, 512, 512, (14, 14), 3, padding=1)
    assert peaks.ceiling(wide, 4) == 100e9
    depthwise = ConvCase.of(1, 64, 64, (8, 8), 1, groups=64)
    # 64·64 MACs; 64·64 numbers in, as many out, 64 weights
    assert peaks.ceiling(depthwise, 4) == pytest.approx(10e9 * 2 * 4096 / ((2 * 4096 + 64) * 4))


def test_methods_are_measured_in_turn_or_say_why_not():
    case = ConvCase.of(2, 3, 4, (8, 8), 5, padding=2)
    found = {m.method: m for m in measure(case, ["torch", "implicit", "winograd"], rounds=2)}
    assert len(found["torch"].rounds_s) == len(found["implicit"].rounds_s) == 2
    assert min(found["torch"].rounds_s) > 0
    assert found["implicit"].extra_bytes > 0
    assert found["winograd"].refused == "takes kernel_size 3 in every dimension, got (5, 5)"
    slow = measure(case, ["torch", "direct"], limit_s=0.0)
    assert "would take about" in slow[1].refused
    assert slow[1].rounds_s == ()


def test_ratios_are_round_against_round():
    baseline, one = Measured("torch", (1.0, 2.0, 4.0)), Measured("fft", (0.5, 2.0, 1.0))
    assert one.times_faster(baseline) == (2.0, 1.0, 4.0)


def test_the_machines_peaks_are_positive(monkeypatch):
    monkeypatch.setattr(measuring, "_COPY_BYTES", 1 << 20)
    peaks = measure_peaks()
    assert peaks.flops_per_s > 1e8
    assert peaks.bytes_per_s > 1e7


@pytest.fixture
def bench(capsys, monkeypatch):
    monkeypatch.setattr(measuring, "_COPY_BYTES", 1 << 20)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words):
        found = ran(("conv", "bench", "--repeats", "1", *words), capsys, monkeypatch)
        return found.returncode, found.stdout, found.stderr

    return run


def test_bench_prints_a_table_of_every_method(bench):
    code, out, err = bench("--layer", "3,8x8,4,3,1,1", "--layer", "2,9,4,3", "--batch-size", "2")
    assert (code, err) == (0, "")
    assert "2 × 3→4, 8×8, 3×3, padding 1" in out
    for name in ("torch", "implicit", "im2col", "direct", "fft", "winograd4", "tensor_core"):
        assert name in out
    assert max(map(len, out.splitlines())) <= 80
    assert "times torch's speed (above 1 is faster), geometric means" in out


def test_auto_can_be_measured_and_swapped_networks_have_layers(bench):
    code, out, _ = bench("--layer", "3,8x8,4,3", "--method", "auto", "--json")
    methods = [row["method"] for row in json.loads(out)["layers"][0]["methods"]]
    assert (code, methods) == (0, ["torch", "auto"])
    model = swap(nn.Sequential(nn.Conv2d(3, 4, 3)), "implicit")
    assert list(conv_cases(model, (1, 3, 8, 8))) == ["0"]
    assert model[0].method == "implicit"


def test_sixteen_bits_do_not_stall_the_ceiling(bench):
    assert bench("--layer", "3,8x8,4,3", "--method", "torch", "--dtype", "float16")[0] == 0


def test_bench_of_a_network_in_json(bench, monkeypatch):
    # On a machine that is busy enough any method may seem too slow.
    monkeypatch.setattr("hubel.conv.measure._too_slow", lambda *case: None)
    words = ("--model", "lenet5", "--img-size", "32", "--batch-size", "2", "--method", "implicit")
    code, out, _ = bench(*words, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["layers"][0]["layers"] == ["c1"]
    first = found["layers"][0]
    assert [row["method"] for row in first["methods"]] == ["torch", "implicit"]
    assert first["flops"] == 2 * first["macs"]
    assert first["methods"][0]["times_faster_than_torch"] == 1.0
    assert found["times_faster_than_torch"]["implicit"]["layers"] == len(found["layers"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "resnet5"), "--model 'resnet5' is not known; did you mean 'resnet"),
        (("--method", "gemm"), "method 'gemm' is not known"),
        (("--layer", "3,8x8"), "--layer takes 4 to 8 values apart by commas"),
        (("--layer", "3,8x8,4,9"), "kernel_size 9 spans 9 pixels"),
        (("--layer", "3,8x8,4,3", "--model", "lenet5"), "--model or --layer, not both"),
        (("--dtype", "int8"), "--dtype 'int8' is not known"),
        (("--device", "tpu"), "--device takes cpu, or cuda where torch sees a GPU, got 'tpu'"),
        (("--model", "vgg16", "--img-size", "4"), "'vgg16' needs an input of at least 17×17"),
        (
            ("--model", "torchvision:vit_b_16", "--img-size", "100"),
            "takes squares of a multiple of 16 pixels",
        ),
        (("--layer", "1,1000000x1000000,1,3"), "at most 2,147,483,648 numbers"),
    ],
)
def test_bench_refuses_in_one_line(bench, words, message):
    code, out, err = bench(*words)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1

"""Rows of layers and blocks: they add up, and they fit a terminal."""

import pytest
import torch
from torch import nn
from torchvision import models

from hubel.cost.summary import blocks, count
from hubel.cost.table import shown_rows, table_lines
from hubel.cost.words import bytes_words, short
from hubel.models import ModelSpec, build

COLUMNS = ("layers", "params", "macs", "flops", "step_macs", "activations", "activation_bytes")


@pytest.fixture(scope="module")
def googlenet():
    with torch.device("meta"):
        network = models.GoogLeNet(num_classes=10, init_weights=False)
    return count(network, (3, 64, 64), batch_size=2)


def totals(rows):
    return {name: sum(getattr(row, name) for row in rows) for name in COLUMNS}


def test_columns_sum_to_the_totals(googlenet):
    found = totals(googlenet.rows)
    assert found["params"] == googlenet.params == googlenet.training.params
    assert found["macs"] == googlenet.macs
    assert found["flops"] == 2 * googlenet.macs
    assert found["step_macs"] == googlenet.step_macs
    assert found["activations"] == googlenet.training.kept
    assert found["activation_bytes"] == googlenet.training.kept_bytes
    assert found["layers"] == len(googlenet.rows)
    assert all(value > 0 for value in found.values())


def test_blocks_sum_to_the_same_at_every_depth(googlenet):
    for depth in (1, 2, 3, 9):
        rows = blocks(googlenet.rows, depth)
        assert totals(rows) == totals(googlenet.rows)
        assert len({row.name for row in rows}) == len(rows) <= len(googlenet.rows)
    assert [row.name for row in blocks(googlenet.rows, 1)][:4] == [
        "input", "conv1", "maxpool1", "conv2",
    ]  # fmt: skip


def test_auxiliary_heads_have_no_macs_in_inference(googlenet):
    heads = [row for row in blocks(googlenet.rows, 1) if row.name.startswith("aux")]
    assert len(heads) == 2
    for head in heads:
        assert head.training_only
        assert head.macs == 0
        assert head.step_macs > 0
        assert head.params > 0


def test_work_is_of_one_picture_and_memory_of_the_batch():
    network = build(ModelSpec("simple", 3, 10, (32, 32)))
    one, four = (count(network, (3, 32, 32), batch_size=n) for n in (1, 4))
    assert one.macs == four.macs == 3_331_072
    assert four.step_macs == 4 * one.step_macs
    assert four.training.kept_bytes == 4 * one.training.kept_bytes
    assert [g.m for row in four.rows for g in row.gemms] == [
        4 * g.m for row in one.rows for g in row.gemms
    ]


def test_unused_parameters_have_a_row():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used = nn.Linear(4, 2)
            self.idle = nn.Linear(4, 3)

        def forward(self, x):
            return self.used(x.flatten(1))

    found = count(Idle(), (1, 2, 2))
    assert [(row.name, row.params) for row in found.rows if row.params] == [
        ("used", 10), ("(not used)", 15),
    ]  # fmt: skip
    assert totals(found.rows)["params"] == found.params == 25


@pytest.mark.parametrize("depth", [None, 1, 2])
def test_the_table_fits_80_columns_and_shows_the_totals(googlenet, depth):
    lines = table_lines(googlenet, depth)
    assert max(map(len, lines)) <= 80
    assert not any(line != line.rstrip() for line in lines)
    text = "\n".join(lines)
    assert f"{googlenet.macs:,} MACs = {2 * googlenet.macs:,} FLOPs a picture" in text
    (total,) = (line for line in lines if line.startswith("total"))
    assert total.split()[1:3] == short(googlenet.params).split()
    assert "* runs in training only" in text


def test_long_names_are_cut_in_the_middle():
    network = nn.Sequential()
    network.add_module("a_very_long_name_indeed_for_a_stage", nn.Sequential(nn.Linear(4, 4)))
    lines = table_lines(count(network, (1, 3, 4)), None)
    assert any(line.startswith("a_very_…") for line in lines)
    assert max(map(len, lines)) <= 80


def test_more_than_40_rows_become_blocks(googlenet):
    rows, depth = shown_rows(googlenet.rows, None)
    assert depth == 1
    assert len(rows) <= 40 < len(googlenet.rows)
    assert shown_rows(googlenet.rows[:40], None) == (googlenet.rows[:40], None)


def test_short_numbers():
    assert [short(n) for n in (0, 999, 1_000, 9_408, 999_499, 999_500, 4_089_184_256)] == [
        "0", "999", "1.00 k", "9.41 k", "999 k", "1.00 M", "4.09 G",
    ]  # fmt: skip
    assert [bytes_words(n) for n in (12, 2_750_000_000)] == ["12 B", "2.75 GB"]


def test_autocast_halves_what_convolutions_keep():
    network = build(ModelSpec("simple", 3, 10, (32, 32)))
    full = count(network, (3, 32, 32), batch_size=2)
    half = count(network, (3, 32, 32), batch_size=2, autocast=torch.bfloat16)
    by_name = {row.name: row.activation_bytes for row in full.rows}
    lowered = {row.name: row.activation_bytes for row in half.rows}
    assert by_name["stages.1.0"] == 2 * 32 * 16 * 16 * 4
    # The map at half the bytes, and a lowered copy of the weights, which autocast holds.
    assert lowered["stages.1.0"] == 2 * 32 * 16 * 16 * 2 + 32 * 16 * 9 * 2

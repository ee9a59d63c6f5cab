"""Class tables and paths: what every format relies on; and the examples in docstrings."""

import doctest
import importlib
from pathlib import Path

import numpy as np
import pytest

from hubel.data.labels import class_table
from hubel.data.paths import exists, expanded, is_file, is_folder
from hubel.data.source import FORMATS
from hubel.errors import UserError


def table(labels, splits):
    return class_table(np.array(labels), np.array(splits, np.str_), "'x'", "see {name} in {split}")


def test_the_training_split_fixes_the_classes():
    classes, targets, notes = table(["b", "a", "a", "b"], ["train", "train", "val", "test"])
    assert classes.tolist() == ["a", "b"]
    assert targets.tolist() == [1, 0, 0, 1]
    assert targets.dtype == np.int64
    assert notes == ["class 'b' has no sample in val", "class 'a' has no sample in test"]
    with pytest.raises(
        UserError, match=r"^'x': class 'c' is in test but not in train, .* see c in t"
    ):
        table(["b", "a", "a", "c"], ["train", "train", "val", "test"])


def test_without_train_every_sample_counts():
    assert table(["b", "a"], ["test", "test"])[0].tolist() == ["a", "b"]
    assert table(["b", "a"], ["", ""])[0].tolist() == ["a", "b"]


def test_numbers_are_sorted_by_value_and_text_as_text():
    assert table([10, 9], ["", ""])[0].tolist() == [9, 10]
    assert table(["10", "9"], ["", ""])[0].tolist() == ["10", "9"]


def test_many_missing_classes_are_counted():
    names = [f"c{k}" for k in range(8)]
    splits = ["train"] * 8 + ["val"]
    note = table([*names, "c0"], splits)[2]
    assert note == ["classes 'c1', 'c2', 'c3' and 4 more have no sample in val"]


def test_a_class_name_with_braces_in_a_message():
    with pytest.raises(UserError, match=r"class '\{x\}' is in val .* see \{x\} in val"):
        table(["a", "b", "{x}"], ["train", "train", "val"])


@pytest.mark.parametrize("name", ["a" * 5000, "x\0y", "~nobody-has-this-name/x", ""])
def test_no_path_makes_the_questions_raise(name):
    path = expanded(name)
    assert isinstance(path, Path)
    assert not is_file(path)
    if name:
        assert not exists(path)
        assert not is_folder(path)
    for format in FORMATS.names():
        if name:
            assert not FORMATS[format].matches(name)


def test_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/x") == tmp_path / "x"


def test_every_format_describes_itself():
    for name in FORMATS.names():
        assert "\n" not in FORMATS[name].describe()


@pytest.mark.parametrize("module", ["filesource", "labels", "magic", "pictures"])
def test_examples_in_docstrings(module):
    results = doctest.testmod(importlib.import_module(f"hubel.data.{module}"))
    assert results.attempted
    assert not results.failed

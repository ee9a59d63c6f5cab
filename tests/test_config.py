"""Settings: one home of defaults, checked once, with one clear message each."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubel.config import FitConfig, parse_duration, parse_size
from hubel.errors import UserError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1}, r"--lr must be between 1e-08 and 1000, got -1.0"),
        ({"lr": float("nan")}, r"--lr must be between .* got nan"),
        ({"optimizer": "adan"}, r"--optimizer 'adan' is not known; did you mean 'adam'"),
        ({"budget": "5x"}, r"--budget: write a time such as 90s, 5m or 1h30m, got '5x'"),
        ({"budget": "0s"}, r"--budget: a budget must be longer than zero, got '0s'"),
        ({"epochs": 2.5}, r"--epochs must be a whole number, got 2.5"),
        ({"epochs": 0}, r"--epochs must be between 1 and 1e\+06, got 0"),
        ({"epochs": True}, r"--epochs must be a whole number, got True"),
        ({"img_size": "axb"}, r"--img-size: write a size such as 32, 48x64"),
        ({"img_size": "0"}, r"--img-size: every side must be at least 1 pixel, got '0'"),
        ({"img_size": 5000}, r"--img-size: every side must be at most 4096 pixels, got '5000'"),
        ({"cache": "yes"}, r"--cache must be true or false, got 'yes'"),
        ({"model": 3}, r"--model must be text, got 3"),
        ({"learning_rate": 1}, r"setting 'learning_rate' is not known; "),
        ({"epoch": 1}, r"setting 'epoch' is not known; did you mean 'epochs'"),
    ],
)
def test_wrong_values_get_one_message(settings, message):
    with pytest.raises(UserError, match=message):
        FitConfig.from_settings(settings)


def test_values_are_brought_to_their_type():
    config = FitConfig(budget="1h30m", img_size=48, lr=1, model="simple")
    assert config.budget == 5400.0
    assert config.img_size == (48,)
    assert isinstance(config.lr, float)
    assert FitConfig(img_size=[8, 9]).img_size == (8, 9)
    assert FitConfig(budget=300).budget == 300.0


def test_json_round_trip_and_changes():
    config = FitConfig(data="x", img_size="32x48", budget="90s", seed=7)
    assert FitConfig.from_settings(config.to_json()) == config
    assert config.changed_from_default() == {
        "data": "x",
        "img_size": (32, 48),
        "budget": 90.0,
        "seed": 7,
    }


def test_every_setting_has_a_help_text():
    for field in dataclasses.fields(FitConfig):
        assert field.metadata["rule"].help


@given(st.integers(0, 99), st.integers(0, 59), st.integers(1, 59))
def test_durations_add_up(hours, minutes, seconds):
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == 3600 * hours + 60 * minutes + seconds


@given(st.lists(st.integers(1, 4096), min_size=1, max_size=3))
def test_sizes_are_read_back(size):
    assert parse_size("x".join(map(str, size))) == tuple(size)

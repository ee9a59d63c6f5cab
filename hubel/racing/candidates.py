"""Who runs: networks and variants of them, named as a person writes them.

`resnet18`, `resnet18@img_size=64`, `swift_m@recipe=plain@dropout=0.2`: a network and settings of
its own, which are those of `hubel fit`. A preset is a list of such names that suits the data.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hubel.config import FitConfig
from hubel.errors import UserError, suggestion
from hubel.randomness import stream_seed

__all__ = ["PRESETS", "TUNED", "Candidate", "from_names", "preset", "tuned"]

PRESETS = {
    "small": ("simple", "swift_s", "swift_m", "resnet18", "mobilenet_v3", "densenet121"),
    "wide": (
        "simple", "swift_s", "swift_m", "swift_l", "resnet18", "resnet34", "resnet50",
        "mobilenet_v3", "efficientnet_b0", "densenet121", "googlenet", "vgg11_bn", "vit_tiny",
        "convnext_tiny",
    ),
}  # fmt: skip
"""Of pictures and volumes: from 50 thousand to 130 million parameters."""

_POSES = ("contacts", "gnina_default2017", "gnina_default2018", "gnina_dense")
_OF_POSES = {"small": _POSES, "wide": _POSES}

_SHARED = ("data", "task", "budget", "epochs", "seed", "fold", "val_fraction", "same_protein")
"""What all candidates have in common: else they would not be compared on one thing."""


@dataclass(frozen=True)
class Candidate:
    """One that takes part.

    Attributes
    ----------
    name: as it is shown and as its runs are called; its own in a race.
    settings: of `FitConfig`, beside those that all candidates share.
    """

    name: str
    settings: dict[str, Any]


def from_names(names: Sequence[str]) -> list[Candidate]:
    """Candidates by their names. Raises `UserError` for one that is not to be understood, and for
    the same one twice.
    """
    found = [_from_name(name) for name in names if name.strip()]
    if not found:
        raise UserError("--models names no network; write some, as resnet18,swift_m")
    seen: dict[str, str] = {}
    for candidate, name in zip(found, names, strict=False):
        if candidate.name in seen:
            raise UserError(f"--models has '{name}' twice; leave one out, --seeds trains it again")
        seen[candidate.name] = name
    return found


def _from_name(text: str) -> Candidate:
    model, *variants = text.strip().split("@")
    settings: dict[str, Any] = {"model": model}
    for variant in variants:
        option, equals, value = variant.partition("=")
        option = option.strip().replace("-", "_")
        if not equals or not option or not value.strip():
            raise UserError(
                f"--models '{text}': after each @ stands a setting and its value, as "
                f"{model}@img_size=64"
            )
        if option in _SHARED or option == "model":
            raise UserError(
                f"--models '{text}': --{option.replace('_', '-')} is the same for all candidates; "
                f"leave it out there"
            )
        settings[option] = _read(option, value.strip(), text)
    FitConfig.from_settings(settings)  # a wrong value is told before anything runs
    return Candidate(_file_name(text.strip()), settings)


def _read(option: str, value: str, text: str) -> Any:
    """The text of a setting's value in the setting's own type."""
    fields = {f.name: f for f in FitConfig.__dataclass_fields__.values()}
    if option not in fields:
        fix = suggestion(option, fields)
        raise UserError(f"--models '{text}': '{option}' is no setting; {fix}")
    if fields[option].metadata["rule"].parse is not None:
        return value
    kind: Any = fields[option].type
    if kind is bool:
        if value.lower() not in ("true", "false", "yes", "no"):
            raise UserError(f"--models '{text}': {option} is true or false, got '{value}'")
        return value.lower() in ("true", "yes")
    if kind is str:
        return value
    try:
        return int(value) if kind is int else float(value)
    except ValueError:
        raise UserError(f"--models '{text}': {option} takes a number, got '{value}'") from None


def _file_name(name: str) -> str:
    """`torchvision:resnet18` and `nets/mine.py:Net` as names of folders."""
    stem = re.sub(r"^.*/(?=[^/]*\.py:)", "", name)
    return re.sub(r"[^\w.@=+-]+", "-", stem).strip("-.") or "model"


def preset(name: str, labels: str) -> list[Candidate]:
    """The candidates of a preset, for data of these `labels`."""
    known = _OF_POSES if labels == "pose" else PRESETS
    if name not in known:
        raise UserError(f"--preset '{name}' is not known; {suggestion(name, known)}")
    return from_names(known[name])


@dataclass(frozen=True)
class _Range:
    """What a tuned setting is drawn from: by the logarithm, as factors of where it starts."""

    low: float
    high: float


TUNED: dict[str, Any] = {
    "lr": _Range(1 / 8, 4.0),
    "weight_decay": _Range(1 / 16, 8.0),
    "label_smoothing": (0.0, 0.05, 0.1, 0.2),
    "batch_size": (16, 32, 64, 128, 256, 512),
    "dropout": (0.0, 0.1, 0.2, 0.4),
    "optimizer": ("muon", "adamw", "sgd"),
    "augment": (
        {"translate": 0.0625},
        {"translate": 0.125},
        {"translate": 0.125, "cutout": 0.25},
        {"translate": 0.125, "cutout": 0.25, "jitter": 0.2},
        {"translate": 0.0},
    ),
    "width": (0.5, 0.75, 1.0, 1.5, 2.0),
}
"""What `--tune` may name, and what each is drawn from."""


def tuned(
    base: Candidate, names: Sequence[str], count: int, starts: dict[str, float], seed: int
) -> list[Candidate]:
    """`base` as it is and `count` - 1 variants of it, evenly spread over the settings `names`.

    `starts` has the value about which lr and weight_decay are drawn. The points are Sobol's
    (Joe and Kuo 2008), which leave no corner empty as independent draws do.
    """
    for name in names:
        if name not in TUNED:
            raise UserError(f"--tune '{name}' is not known; {suggestion(name, TUNED)}")
    if len(set(names)) < len(names):
        raise UserError("--tune names a setting twice; leave one out")
    from torch.quasirandom import SobolEngine

    points = SobolEngine(len(names), scramble=True, seed=stream_seed(seed, "tune") % 2**32)
    found = [base]
    for number, row in enumerate(points.draw(count - 1).tolist(), start=1):
        settings = dict(base.settings)
        for name, share in zip(names, row, strict=True):
            settings |= _drawn(name, share, starts)
        found.append(Candidate(f"{base.name}-{number:02d}", settings))
    return found


def _drawn(name: str, share: float, starts: dict[str, float]) -> dict[str, Any]:
    """The setting(s) at `share` of the way through what `name` is drawn from."""
    space = TUNED[name]
    if isinstance(space, _Range):
        factor = space.low * (space.high / space.low) ** share
        return {name: float(f"{starts[name] * factor:.3g}")}
    chosen = space[min(int(share * len(space)), len(space) - 1)]
    return dict(chosen) if isinstance(chosen, dict) else {name: chosen}

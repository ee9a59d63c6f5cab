"""The settings of a fit: one frozen dataclass, the only home of defaults.

The command line makes its options from these fields, and Python callers give them by
name; both are checked here, so a wrong value gets the same message from either.

What a recipe decides is declared with one value for each recipe. A setting that was given
wins; one that was not (None) has the recipe's value as soon as the configuration is made, so
that whoever reads a setting, a run's config.json included, reads what holds.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hubel.errors import UserError, suggestion

__all__ = [
    "AUTO",
    "PRECISIONS",
    "WIDTHS",
    "FitConfig",
    "by_recipe",
    "parse_batch_size",
    "parse_budget",
    "parse_duration",
    "parse_engine",
    "parse_size",
    "setting",
]


AUTO = "auto"
"""As a model: chosen by the data."""

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
"""What forward and backward may compute in, the most exact first."""

WIDTHS = (0.1, 10.0)
"""The least and the largest multiple of a paper's channels."""

_LARGEST_SIDE = 4096  # a network's input, not a photograph's


@dataclass(frozen=True)
class _Rule:
    """How one setting is shown and checked."""

    help: str
    panel: str
    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    parse: Callable[[str], Any] | None = None
    recipes: Mapping[str, Any] | None = None


def setting(
    default: Any,
    help: str,
    panel: str,
    *,
    choices: tuple[str, ...] = (),
    low: float = -math.inf,
    high: float = math.inf,
    parse: Callable[[str], Any] | None = None,
) -> Any:
    """A field with its help text and its rule: allowed `choices`, or a range, or a parser."""
    rule = _Rule(help, panel, choices, low, high, parse)
    return dataclasses.field(default=default, metadata={"rule": rule})


def by_recipe(
    help: str,
    panel: str,
    *,
    fast: Any,
    plain: Any,
    tuning: Any,
    choices: tuple[str, ...] = (),
    low: float = -math.inf,
    high: float = math.inf,
    parse: Callable[[str], Any] | None = None,
) -> Any:
    """A field whose default is the recipe's: `tuning` is fast's with --pretrained weights."""
    recipes = {"fast": fast, "plain": plain, "tuning": tuning}
    rule = _Rule(help, panel, choices, low, high, parse, recipes)
    return dataclasses.field(default=None, metadata={"rule": rule})


def parse_duration(text: str) -> float:
    """Seconds in `90`, `90s`, `5m`, `1h30m`, `1.5h`.

    >>> parse_duration("1h30m"), parse_duration("45s")
    (5400.0, 45.0)
    """
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "": 1.0}
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms]?)", text.strip())
    if not parts or "".join(n + u for n, u in parts) != text.strip():
        raise ValueError("write a time such as 90s, 5m or 1h30m")
    seconds = sum(float(n) * units[u] for n, u in parts)
    if seconds <= 0:
        raise ValueError("a budget must be longer than zero")
    return seconds


def parse_budget(value: float | str, option: str = "--budget") -> float:
    """Seconds, given as such or as `parse_duration` takes them; `UserError` names `option`."""
    try:
        return parse_duration(str(value))
    except ValueError as error:
        raise UserError(f"{option}: {error}, got '{value}'") from None


def parse_size(text: str) -> tuple[int, ...]:
    """Spatial size in `32` (square or cube), `48x64`, `24x32x32`.

    >>> parse_size("32"), parse_size("48x64")
    ((32,), (48, 64))
    """
    if not re.fullmatch(r"\d{1,5}([x×]\d{1,5}){0,2}", text.strip()):
        raise ValueError("write a size such as 32, 48x64 or 24x32x32")
    size = tuple(int(n) for n in re.split("[x×]", text.strip()))
    if min(size) < 1:
        raise ValueError("every side must be at least 1 pixel")
    if max(size) > _LARGEST_SIDE:
        raise ValueError(f"every side must be at most {_LARGEST_SIDE} pixels")
    return size


def parse_engine(text: str) -> str:
    """`auto`, or a precision and words about memory order, compilation and optimizer.

    >>> parse_engine("bf16"), parse_engine("contiguous, fp32"), parse_engine("tf32+compiled")
    ('bf16,channels_last', 'fp32,contiguous', 'tf32,channels_last,compiled')
    """
    if text.strip() == "auto":
        return "auto"
    words = re.split(r"\s*[,+]\s*", text.strip())
    kinds = (PRECISIONS, ("channels_last", "contiguous"), ("compiled", "graphs"), ("unfused",))
    chosen = [[word for word in words if word in kind] for kind in kinds]
    if len(chosen[0]) != 1 or max(map(len, chosen)) > 1 or sum(map(len, chosen)) != len(words):
        raise ValueError(
            f"write auto, or one of {', '.join(PRECISIONS)} and, after commas, contiguous, "
            f"compiled, graphs, unfused"
        )
    order = chosen[1] or ["channels_last"]
    return ",".join([*chosen[0], *order, *chosen[2], *chosen[3]])


def parse_batch_size(text: str) -> int:
    """A number of samples, 0 for one by the size of the data, or `auto`, which is -1.

    >>> parse_batch_size("64"), parse_batch_size("auto")
    (64, -1)
    """
    if text.strip() in ("auto", "-1"):
        return -1
    if not re.fullmatch(r"\d{1,6}", text.strip()):
        raise ValueError("write a whole number from 0 to 999999, or auto")
    return int(text)


def parse_fold(text: str) -> str:
    """`2/3`, the second of three folds; "" for none.

    >>> parse_fold("2/3")
    '2/3'
    """
    if not text.strip():
        return ""
    found = re.fullmatch(r"([1-9]\d{0,2})/([1-9]\d{0,2})", text.strip())
    if found is None or int(found[2]) < 2 or int(found[1]) > int(found[2]):
        raise ValueError("write one of how many folds, such as 1/3")
    return text.strip()


def _parse_freeze(text: str) -> str:
    if not re.fullmatch(r"|all|backbone|\d{1,4}", text.strip()):
        raise ValueError("write all, backbone or a number of stages")
    return text.strip()


@dataclass(frozen=True)
class FitConfig:
    """Everything that decides how a network is trained on a source.

    Unknown or impossible values raise `UserError` naming the option.
    """

    data: str = setting("", "The data set: a path or an embedded set", "Data")
    model: str = setting(AUTO, "The network: one that hubel models lists, torchvision:NAME, "
                         "timm:NAME or your own file.py:NAME; auto: one that learns in minutes",
                         "Network")  # fmt: skip
    task: str = setting(AUTO, "What is learned; auto: what the data are labelled for", "Data")
    recipe: str = setting("fast", "What decides the settings that are not given: fast, or plain, "
                          "the textbook's loop", "Training", choices=("fast", "plain"))  # fmt: skip
    dropout: float | None = setting(None, "Share of features dropped before a Linear; by default "
                                    "what the network's paper says", "Network",
                                    low=0.0, high=0.95)  # fmt: skip
    stem: str = setting("auto", "First layers: the paper's, or for small pictures; auto: small "
                        "below 96 pixels where there is one", "Network",
                        choices=("auto", "paper", "small"))  # fmt: skip
    width: float = setting(1.0, "Channels of every layer, as a multiple of the paper's", "Network",
                           low=WIDTHS[0], high=WIDTHS[1])  # fmt: skip
    img_size: tuple[int, ...] | None = setting(
        None, "Size of the network's input, 32 or 48x64; by default the data's own",
        "Data", parse=parse_size)  # fmt: skip
    pretrained: str = setting("", "Begin from learned weights: torchvision (the published ones) "
                              "or a .safetensors, .pt or .pth file", "Transfer")  # fmt: skip
    freeze: str = setting("", "Stages that do not learn: the first N, backbone (all but the "
                          "head), all (but the last layer)", "Transfer",
                          parse=_parse_freeze)  # fmt: skip
    unfreeze_epochs: int = setting(0, "Let one frozen stage more learn after every so many "
                                   "epochs, from the head down (0 = never)", "Transfer",
                                   low=0, high=1e6)  # fmt: skip
    layer_decay: float = setting(1.0, "Learning rate of a stage, as a share of that of the stage "
                                 "after it", "Transfer", low=0.01, high=1.0)  # fmt: skip
    val_fraction: float = setting(0.1, "Share held out for validation where the data has none",
                                  "Data", low=0.001, high=0.4)  # fmt: skip
    split_seed: int = setting(-1, "The seed by which samples are held out; by default (-1) --seed: "
                              "give one to compare trainings on one split", "Data",
                              low=-1, high=2**53)  # fmt: skip
    fold: str = setting("", "Cross-validation: 1/3 tests on the first of three parts and trains on "
                        "the others", "Data", parse=parse_fold)  # fmt: skip
    same_protein: float = setting(1.0, "Of poses: receptors that have this share of their residues "
                                  "in common are one, which no splits share (1 = by name)",
                                  "Data", low=0.1, high=1.0)  # fmt: skip
    receptor_channels: str = setting("default", "Of poses: which types of the receptor's atoms "
                                     "share a channel: default (the published networks'), "
                                     "elements, or a file with smina's names, a channel a line",
                                     "Data")  # fmt: skip
    ligand_channels: str = setting("default", "The same of the ligand's atoms", "Data")
    grid_resolution: float | None = setting(None, "Of poses: Å between the points of their grid; "
                                            "by default 0.5, the published networks'", "Data",
                                            low=0.05, high=10.0)  # fmt: skip
    grid_edge: float | None = setting(None, "Of poses: Å along each side of their grid; by default "
                                      "23.5, the published networks'", "Data",
                                      low=1.0, high=200.0)  # fmt: skip
    cache: bool = setting(True, "Decode once into a memory-mapped cache", "Data")
    allow: str = setting("", "'corrupt': train although over 1 % of a split is unreadable",
                         "Data", choices=("", "corrupt"))  # fmt: skip
    strict: bool = setting(False, "Refuse unreadable pictures and copies across splits", "Data")

    flip: str = setting("auto", "Mirror pictures: auto looks whether classes allow it",
                        "Augmentation",
                        choices=("auto", "none", "random", "alternating"))  # fmt: skip
    flip_axes: str = setting("last", "Which axes are mirrored, unless none is: the last, or all",
                             "Augmentation", choices=("last", "all"))  # fmt: skip
    turns: str = setting("auto", "Turns by right angles: none, in the plane of the last two axes, "
                         "or all that a cube has; free: any rotation, of poses, where auto takes "
                         "it", "Augmentation",
                         choices=("auto", "none", "plane", "all", "free"))  # fmt: skip
    translate: float = by_recipe("Largest shift, as a share of the side", "Augmentation",
                                 fast=0.0625, plain=0.125, tuning=0.125,
                                 low=0.0, high=0.5)  # fmt: skip
    scale: float | None = setting(None, "Objects become up to this share larger or smaller; by "
                                  "default 0.25 for detection, else 0", "Augmentation",
                                  low=0.0, high=0.9)  # fmt: skip
    resized_crop: float = setting(1.0, "Smallest area of a random resized crop (1 = off)",
                                  "Augmentation", low=0.01, high=1.0)  # fmt: skip
    rotate: float = setting(0.0, "Largest rotation in degrees", "Augmentation",
                            low=0.0, high=180.0)  # fmt: skip
    jitter: float = setting(0.0, "Strength of brightness, contrast and saturation jitter",
                            "Augmentation", low=0.0, high=1.0)  # fmt: skip
    cutout: float = setting(0.0, "Side of the square that is cut out, as a share of the side",
                            "Augmentation", low=0.0, high=0.9)  # fmt: skip
    mixup: float = setting(0.0, "Mixup's alpha (0 = off)", "Augmentation",
                           low=0.0, high=10.0)  # fmt: skip
    mosaic: float = setting(0.0, "Share of the pictures that are made of four, for detection",
                            "Augmentation", low=0.0, high=1.0)  # fmt: skip

    epochs: int = setting(30, "Passes over the training split", "Training", low=1, high=1e6)
    budget: float | None = setting(
        None, "Train for this long instead of --epochs: 90s, 5m, 1h30m",
        "Training", parse=parse_duration)  # fmt: skip
    batch_size: int = by_recipe("Samples in one step of the optimizer: a number, 0 for one by the "
                                "size of the data (16 to 512), or auto, which measures how many "
                                "the device is quick with", "Training",
                                fast=0, plain=64, tuning=64, parse=parse_batch_size)  # fmt: skip
    accumulate: int = setting(1, "Micro-batches that one step is cut into", "Training",
                              low=1, high=4096)  # fmt: skip
    optimizer: str = by_recipe("The optimizer; muon: of filters and hidden matrices, AdamW of the "
                               "rest", "Training", fast="muon", plain="adamw", tuning="adamw",
                               choices=("sgd", "adam", "adamw", "muon"))  # fmt: skip
    lr: float | None = setting(None, "Peak learning rate; by default the optimizer's own",
                               "Training", low=1e-8, high=1e3)  # fmt: skip
    momentum: float | None = setting(None, "Nesterov momentum of sgd and muon; by default the "
                                     "optimizer's own", "Training",
                                     low=0.0, high=0.999)  # fmt: skip
    bias_rate: float = by_recipe("Learning rate of batch norm's biases, as a multiple of the "
                                 "optimizer's", "Recipe", fast=4.0, plain=1.0, tuning=1.0,
                                 low=0.0, high=1e4)  # fmt: skip
    whitening: bool = by_recipe("Begin with a first convolution that whitens the training "
                                "pictures' patches, where its shape allows", "Recipe",
                                fast=True, plain=False, tuning=False)  # fmt: skip
    identity: bool = by_recipe("Begin with convolutions that pass their input on, where nothing "
                               "else does, and residual branches that add nothing", "Recipe",
                               fast=True, plain=False, tuning=False)  # fmt: skip
    lookahead: int = by_recipe("Steps between two pulls to the slow weights (0 = off)", "Recipe",
                               fast=5, plain=0, tuning=0, low=0, high=1e4)  # fmt: skip
    progressive: float = by_recipe("Share of the side at which training starts, for pictures of "
                                   "64 pixels or more (1 = off)", "Recipe",
                                   fast=0.75, plain=1.0, tuning=1.0,
                                   low=0.25, high=1.0)  # fmt: skip
    hard_share: float = setting(1.0, "Share of the pictures seen in an epoch, the rest left out of "
                                "those that a small network finds easy (1 = off)", "Recipe",
                                low=0.5, high=1.0)  # fmt: skip
    tta: str = by_recipe("Average over mirrored and shifted views of a finished network's input: "
                         "none, all, or of unsure pictures only", "Recipe",
                         fast="unsure", plain="none", tuning="none",
                         choices=("none", "all", "unsure"))  # fmt: skip
    weight_decay: float | None = setting(
        None, "Weight decay of matrices and filters; by default the optimizer's own",
        "Training", low=0.0, high=10.0)  # fmt: skip
    schedule: str = setting("triangular", "Learning rate over time", "Training",
                            choices=("constant", "step", "cosine", "triangular"))  # fmt: skip
    warmup: float = by_recipe("Share of the training that the rate rises (triangular, cosine)",
                              "Training", fast=0.05, plain=0.2, tuning=0.2,
                              low=0.0, high=0.9)  # fmt: skip
    label_smoothing: float = setting(0.1, "Share of the target spread over all classes",
                                     "Training", low=0.0, high=0.9)  # fmt: skip
    class_weights: bool = setting(False, "Weigh the loss by inverse class frequency", "Training")
    balanced_sampling: bool = setting(False, "Draw every class equally often", "Training")
    ema: float = setting(0.0, "Decay of the averaged weights that are evaluated (0 = off)",
                         "Training", low=0.0, high=0.99999)  # fmt: skip
    patience: int = setting(0, "Stop after this many epochs without progress (0 = never)",
                            "Training", low=0, high=1e6)  # fmt: skip
    clip_grad_norm: float = setting(0.0, "Largest norm of the gradient (0 = off)", "Training",
                                    low=0.0, high=1e6)  # fmt: skip

    device: str = setting("auto", "auto, cpu, cuda, cuda:1, mps", "Machine")
    engine: str = setting("auto", "Arithmetic and memory order: auto measures; fp32, tf32, bf16 or "
                          "fp16 pins it, contiguous, compiled or graphs may follow after a comma",
                          "Machine", parse=parse_engine)  # fmt: skip
    profile: bool = setting(False, "Measure where the time goes, and keep it in the run",
                            "Machine")  # fmt: skip
    threads: int = setting(0, "CPU threads (0 = all of this process)", "Machine",
                           low=0, high=256)  # fmt: skip
    checkpoint_every: float = setting(30.0, "Seconds between checkpoints in an epoch (0 = none)",
                                      "Machine", low=0.0, high=1e6)  # fmt: skip
    seed: int = setting(0, "The seed of every random stream", "Machine", low=0, high=2**53)

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            value = self._default(f) if value is None else value
            object.__setattr__(self, f.name, _checked(f, value))

    def _default(self, f: "dataclasses.Field[Any]") -> Any:
        """The value of a setting that was not given."""
        recipes = f.metadata["rule"].recipes
        if recipes is None:
            return f.default
        return recipes["tuning" if self.pretrained and self.recipe == "fast" else self.recipe]

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "FitConfig":
        """From names and values; an unknown name raises `UserError` with the nearest one."""
        known = [f.name for f in dataclasses.fields(cls)]
        for name in settings:
            if name not in known:
                raise UserError(f"setting '{name}' is not known; {suggestion(name, known)}")
        return cls(**settings)

    @classmethod
    def from_run(cls, settings: Mapping[str, Any]) -> "FitConfig":
        """From a run's config.json; one from before there were recipes was a plain one.

        Its engine was in two settings of their own, `precision` and `channels_last`.
        """
        found = {"recipe": "plain", **settings}
        precision = str(found.pop("precision", "auto"))
        order = "channels_last" if found.pop("channels_last", True) else "contiguous"
        if precision != "auto":
            found.setdefault("engine", f"{precision},{order}")
        return cls.from_settings(found)

    @property
    def holding_out(self) -> int:
        """The seed of the held-out samples."""
        return self.seed if self.split_seed == -1 else self.split_seed

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary that `from_settings` turns back into the same settings."""
        return {
            f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v
            for f in dataclasses.fields(self)
        }

    def changed_from_default(self) -> dict[str, Any]:
        """Only the settings that differ from their (or the recipe's) defaults, in field order."""
        return {
            f.name: v
            for f in dataclasses.fields(self)
            if (v := getattr(self, f.name)) != self._default(f)
        }


def _checked(f: "dataclasses.Field[Any]", value: Any) -> Any:
    """`value` in its field's type and within its rule, or a `UserError`."""
    rule: _Rule = f.metadata["rule"]
    option = "--" + f.name.replace("_", "-")
    if value is None and f.default is None:
        return None
    if rule.parse is not None:
        text = "x".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        try:
            return rule.parse(text)
        except ValueError as error:
            raise UserError(f"{option}: {error}, got '{value}'") from None
    kind: Any = f.type if f.type in (str, bool, int) else float
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        raise UserError(f"{option} must be {_kind_name(kind)}, got {value!r}")
    if rule.choices and value not in rule.choices:
        raise UserError(
            f"{option} '{value}' is not known; {suggestion(value, (c for c in rule.choices if c))}"
        )
    if kind in (int, float) and not rule.low <= value <= rule.high:
        raise UserError(f"{option} must be between {rule.low:g} and {rule.high:g}, got {value}")
    return value


def _kind_name(kind: type) -> str:
    return {str: "text", bool: "true or false", int: "a whole number", float: "a number"}[kind]

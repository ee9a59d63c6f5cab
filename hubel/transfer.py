"""`--pretrained`: a network begins from weights that were learned elsewhere.

They are torchvision's published ones, a file, or a run. Tensors find their places **by name**:
the file has hubel's names (a run's model.safetensors) or those of the same network in
torchvision, whose n-th tensor is our n-th. What a wrapper put before every name ("model.") is
taken off. (By the order in the file alone it would go wrong unseen: older
files have a batch norm's running mean before its weight, of the same shape.)

What does not fit by nature is adapted:

- the first convolution, of up to four channels, to others: the response to a grey picture stays the
  same;
- flat filters to volumes, by repetition along the depth divided by its length (Carreira and
  Zisserman 2017, "Quo vadis, action recognition?", CVPR, arXiv 1705.07750, section 2.4): a
  volume of equal slices gives what the slice gave, but for the padding at its two ends;
- a vision transformer's positions to another grid of patches, by bicubic interpolation
  (Dosovitskiy et al. 2021, arXiv 2010.11929, section 3.2);
- the head to other classes: its last layer, or all of it where the maps before it differ,
  stays as freshly initialised.

Everything else that does not fit is refused with both shapes.
"""

import re
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hubel.data.cache_folder import default_folder
from hubel.data.download import Progress, download
from hubel.data.paths import expanded
from hubel.errors import UserError, printable
from hubel.external_models import is_external
from hubel.models import MODELS, Model, ModelSpec, build
from hubel.models.vit import ViT
from hubel.shapes import format_shape
from hubel.weight_shapes import inflated_to, resized_positions, with_channels
from hubel.weights_file import read_weights

__all__ = [
    "TORCHVISION",
    "Loaded",
    "PublishedWeights",
    "load_pretrained",
    "published_weights",
]

TORCHVISION = "torchvision"
"""The word that asks for the published weights."""

_THEIRS = "torchvision:"  # before the name of a network that torchvision builds
_COLOURS = range(
    1, 5
)  # channels; what more of them stand for (kinds of atoms, say) grey says nothing of
_SHOWN = 3  # tensors that a message about a mismatch lists
_POSITIONS = "positions.embedding"
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""The heads for training of GoogLeNet and Inception, in torchvision's names."""
# How files that torchvision published long ago spell what it calls otherwise today.
_OLD_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\."), r"\1\2."),
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)


@dataclass(frozen=True)
class PublishedWeights:
    """What torchvision publishes for one architecture.

    Attributes
    ----------
    url: where the file lies.
    sha256_prefix: the first digits of its sha256, which its name carries.
    mebibytes: its size, rounded.
    mean, std: what the input is normalised by, per colour, on the 0..1 scale.
    """

    url: str
    sha256_prefix: str
    mebibytes: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rsplit("/", 1)[1]

    @property
    def path(self) -> Path:
        """Where it is kept, and where a person may put it by hand."""
        return default_folder() / "pretrained" / self.name


@dataclass(frozen=True)
class Loaded:
    """What the network began from; goes into the run's pretrained.json.

    Attributes
    ----------
    file, sha256: of the weights.
    tensors: how many were taken over.
    adapted: sentences about those that were changed on the way.
    fresh: names of parameters that stay as freshly initialised.
    """

    file: str
    sha256: str
    tensors: int
    adapted: tuple[str, ...]
    fresh: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "file": self.file,
            "sha256": self.sha256,
            "tensors": self.tensors,
            "adapted": list(self.adapted),
            "fresh": list(self.fresh),
        }

    def sentence(self) -> str:
        """For the terminal."""
        parts = [f"{self.tensors} tensors from {Path(self.file).name}", *self.adapted]
        if self.fresh:
            parts.append("freshly initialised: " + ", ".join(self.fresh))
        return "pretrained: " + "; ".join(parts)


def published_weights(model: str) -> PublishedWeights | None:
    """torchvision's best weights for the architecture `model`; None where it has none."""
    if model.startswith(_THEIRS):
        twin: str | None = model.removeprefix(_THEIRS)
    else:
        twin = None if is_external(model) else MODELS[model].torchvision
    if twin is None:
        return None
    from torchvision import models
    from torchvision.models import get_model_weights

    classifiers = [*models.list_models(module=models), *models.list_models(module=models.video)]
    if twin not in classifiers:
        return None
    best = get_model_weights(twin).DEFAULT
    preset = best.transforms()
    mean, std = tuple(preset.mean), tuple(preset.std)
    if twin in ("googlenet", "inception_v3"):
        # Their weights are TensorFlow's: torchvision rescales the input to [-1, 1] inside of the
        # network (transform_input); here that is the normalisation.
        mean = std = (0.5, 0.5, 0.5)
    stem = best.url.rsplit("/", 1)[1].rsplit(".", 1)[0]
    return PublishedWeights(
        best.url, stem.rsplit("-", 1)[1], float(best.meta["_file_size"]), mean, std
    )


def load_pretrained(
    model: Model, spec: ModelSpec, pretrained: str, progress: Progress | None = None
) -> Loaded:
    """Fill `model`, which `spec` describes, from `pretrained`: 'torchvision', a file or a run.

    Raises `UserError` for a file that cannot be read or does not fit; `model` is then as before.
    """
    published = published_weights(spec.name)
    if pretrained == TORCHVISION:
        if published is None:
            raise UserError(
                f"--pretrained torchvision: torchvision publishes no weights for --model "
                f"'{spec.name}'; give a file, or choose a network that has some (hubel models)"
            )
        if spec.width != 1.0:
            raise UserError(
                f"--pretrained torchvision: the published weights of '{spec.name}' are of width 1, "
                f"got --width {spec.width:g}; leave one of the two out"
            )
        path = _fetched(published, progress)
    else:
        path = expanded(pretrained)
        if path.is_dir():
            path /= "model.safetensors"
            if not path.is_file():
                raise UserError(
                    f"--pretrained '{pretrained}' is a folder without a model.safetensors; give a "
                    f"file of weights or the folder of a finished run"
                )
    is_published = published is not None and path.name == published.name
    prefix = published.sha256_prefix if published is not None and is_published else ""
    weights = read_weights(path, prefix)
    placed = _placed(weights.tensors, model, spec, path)
    fitted, adapted, fresh = _fitted(placed, model, spec, path)
    state = model.state_dict()
    with torch.no_grad():
        for name, tensor in fitted.items():
            state[name].copy_(tensor)
    return Loaded(str(path.resolve()), weights.sha256, len(fitted), tuple(adapted), tuple(fresh))


def _fetched(published: PublishedWeights, progress: Progress | None) -> Path:
    """The published file, from the cache or from its server."""
    path = published.path
    if path.exists():
        return path
    by_hand = (
        f"where there is a connection, fetch {published.url} (about {published.mebibytes:.0f} "
        f"MiB) and put it at '{path}'; its sha256 must begin with {published.sha256_prefix}"
    )
    request = urllib.request.Request(published.url, method="HEAD", headers={"User-Agent": "hubel"})
    try:
        with urllib.request.urlopen(request, timeout=30.0) as answer:
            size = int(answer.headers.get("Content-Length") or 0)
    except (OSError, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        reason = getattr(error, "reason", "") or error
        raise UserError(
            f"--pretrained torchvision: '{published.name}' could not be fetched ({reason}); "
            f"{by_hand}"
        ) from None
    if abs(size / 2**20 - published.mebibytes) > 0.02 * published.mebibytes:
        raise UserError(
            f"--pretrained torchvision: the server offers {size:,} bytes as '{published.name}', "
            f"published are {published.mebibytes} MiB; {by_hand}"
        )
    return download(published.url, path, published.sha256_prefix, size, progress)


def _placed(
    tensors: Mapping[str, torch.Tensor], model: Model, spec: ModelSpec, path: Path
) -> dict[str, torch.Tensor]:
    """`tensors` by the names of `model`. Raises `UserError` if they are another network's."""
    own = list(model.state_dict())
    external = is_external(spec.name)
    names = {name.removeprefix("network.") if external else name: name for name in own}
    twin = {} if external else _twin_names(spec.name)
    found = _unwrapped(tensors, [*names, *twin])
    renamed = {_new_name(name): tensor for name, tensor in found.items()}
    if spec.name.startswith(_THEIRS):
        found = renamed
    # A few names may be in both: whose they are, the greater number says.
    elif len(twin.keys() & renamed.keys()) > len(names.keys() & found.keys()):
        names, found = twin, renamed
    # Published files have the heads for training that torchvision leaves out here, too.
    extra = tuple(h for h in _AUXILIARY if not any(name.startswith(h) for name in names))
    found = {name: tensor for name, tensor in found.items() if not name.startswith(extra)}
    head = _head(model)
    missing = [
        theirs
        for theirs, ours in names.items()
        if theirs not in found
        # Files from before torch 0.4.1 have no count of the batches.
        and not ours.endswith("num_batches_tracked")
        and not ours.startswith(head)
    ]
    foreign = [name for name in found if name not in names]
    # Leftovers of a head of another depth do no harm: it stays fresh as a whole.
    foreign = [name for name in foreign if not name.startswith(head)]
    if missing or foreign:
        raise UserError(
            f"--pretrained '{path}' is not of --model '{spec.name}': "
            + "; ".join(
                f"{len(group)} of the tensors of the {one} are not in the {other} "
                f"({_listed(group)})"
                for group, one, other in (
                    (missing, "network", "file"),
                    (foreign, "file", "network"),
                )
                if group
            )
            + "; give the weights of the same architecture, or the --model that they are of"
        )
    placed = {names[theirs]: tensor for theirs, tensor in found.items() if theirs in names}
    return {name: placed[name] for name in own if name in placed}


def _unwrapped(
    tensors: Mapping[str, torch.Tensor], names: Iterable[str]
) -> dict[str, torch.Tensor]:
    """`tensors` without what stands before every name and is not of the network's `names`."""
    known = {name.partition(".")[0] for name in names}
    found = dict(tensors)
    while all("." in name for name in found):
        first = {name.partition(".")[0] for name in found}
        if len(first) > 1 or first & known:
            break
        found = {name.partition(".")[2]: tensor for name, tensor in found.items()}
    return found


def _twin_names(model: str) -> dict[str, str]:
    """Our name for each tensor of the same network in torchvision; none where it has none."""
    architecture = MODELS[model]
    if architecture.torchvision is None:
        return {}
    from torchvision.models import get_model

    extra = {"aux_logits": False, "init_weights": False}
    with torch.device("meta"):  # names only: nothing is computed or kept
        twin = get_model(
            architecture.torchvision,
            weights=None,
            **(extra if architecture.torchvision == "googlenet" else {}),
        )
        size = architecture.input_shape[1:]
        ours = build(ModelSpec(model, 3, architecture.num_classes, size, stem="paper"))
    return dict(zip(twin.state_dict(), ours.state_dict(), strict=True))


def _new_name(name: str) -> str:
    for old, new in _OLD_NAMES:
        name = old.sub(new, name)
    return name


def _head(model: nn.Module) -> str:
    """The beginning of the names of the head's tensors: the last module that has any."""
    prefix = ""
    module = model
    while True:
        children = [(n, m) for n, m in module.named_children() if any(True for _ in m.parameters())]
        if not children:
            return prefix
        name, last = children[-1]
        prefix += name + "."
        if len(children) > 1:
            return prefix
        module = last


def _fitted(
    placed: Mapping[str, torch.Tensor], model: Model, spec: ModelSpec, path: Path
) -> tuple[dict[str, torch.Tensor], list[str], list[str]]:
    """The tensors in the shapes of `model`, what was adapted, what stays fresh."""
    state = model.state_dict()
    head = _head(model)
    last = [name for name in state if name.startswith(head)][-1].rpartition(".")[0] + "."
    first = next((n for n, m in model.named_modules() if isinstance(m, _CONVS)), "") + ".weight"
    fitted, adapted = {}, []
    wrong: list[str] = []
    inflated = 0
    for name, tensor in placed.items():
        here = state[name]
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(
                f"--pretrained '{path}': tensor '{printable(name)}' has non-finite values; give "
                f"weights of a training that went well"
            )
        before = tensor.shape
        if name == first and tensor.ndim > 2 and _other_channels(tensor, here):
            tensor = with_channels(tensor, here.shape[1])
            adapted.append(f"first layer from {before[1]} to {here.shape[1]} channels")
        if isinstance(model, ViT) and name == _POSITIONS and tensor.shape != here.shape:
            tensor = resized_positions(tensor, model.grid)
            if tensor.shape == here.shape:
                adapted.append(f"positions resized to {format_shape(*model.grid)} patches")
        if here.ndim == tensor.ndim + 1 and tensor.ndim > 2:
            tensor = inflated_to(tensor, here.shape[-3])
            inflated += 1
        if tensor.shape == here.shape:
            fitted[name] = tensor
        elif not name.startswith(head):
            wrong.append(f"'{name}' is {_shape(before)} there and {_shape(here.shape)} here")
    if wrong:
        raise UserError(
            f"--pretrained '{path}' does not fit --model '{spec.name}': {'; '.join(wrong[:_SHOWN])}"
            + (f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else "")
            + f"; {_remedy(wrong[0], first, spec, placed, state)}"
        )
    if inflated:
        adapted.append(f"{inflated} flat filters inflated to volumes")
    parameters = [name for name, _ in model.named_parameters()]
    fresh = [name for name in parameters if name not in fitted]
    # A head whose other layers do not fit either has learned to read maps that are not here.
    if any(name.startswith(head) and not name.startswith(last) for name in fresh):
        fitted = {n: t for n, t in fitted.items() if not n.startswith(head)}
        fresh = [name for name in parameters if name.startswith(head)]
    elif fresh:  # a layer is fresh as a whole
        fitted = {n: t for n, t in fitted.items() if not n.startswith(last)}
        fresh = [name for name in parameters if name.startswith(last)]
    return fitted, adapted, fresh


def _other_channels(tensor: torch.Tensor, here: torch.Tensor) -> bool:
    other = tensor.shape[1] != here.shape[1] and tensor.shape[0] == here.shape[0]
    return other and tensor.shape[1] in _COLOURS


def _remedy(
    wrong: str,
    first: str,
    spec: ModelSpec,
    placed: Mapping[str, torch.Tensor],
    state: Mapping[str, torch.Tensor],
) -> str:
    if first in wrong and (there := placed[first].shape[1]) not in (spec.in_channels, *_COLOURS):
        return (
            f"its {there} channels are no colours and cannot be made into {spec.in_channels}: give "
            f"data with the same, of poses by --receptor-channels and --ligand-channels"
        )
    if first in wrong and len(placed[first]) != len(state[first]) and not is_external(spec.name):
        return f"they are of another --width than {spec.width:g}: give theirs, or other weights"
    if first in wrong and spec.stem == "small":
        return "they have the paper's first layers: --stem paper, with --img-size 224 best"
    return "give the weights of the same architecture, --width and --img-size"


def _shape(shape: torch.Size) -> str:
    return format_shape(*shape) or "one number"


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"'{printable(name)}'" for name in names[:_SHOWN])
    return shown + (", …" if len(names) > _SHOWN else "")

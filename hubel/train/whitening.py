"""A first convolution that whitens the training pictures' patches.

Page 2019, "How to train your ResNet", part 8; frozen, and with the negatives, in Jordan 2024
(arXiv 2404.00498, section 3.2). Neighbouring pixels are nearly equal, so a patch of pixels
varies thousands of times more in brightness than in fine structure, and a network spends its
first epochs undoing that. The eigenvectors of the patches' covariance, each divided by the
square root of its eigenvalue, give outputs without correlation and of variance one. Their
negatives come too, because the activation that follows cuts one sign off.
"""

from dataclasses import dataclass

import torch
from torch import nn

from hubel.trial import CONVS, trial

__all__ = ["Whitening", "first_convolution", "patches_of", "whiten", "whitening_filters"]

_EPS = 5e-4
"""Added to each eigenvalue: what varies less than this is noise, not to be blown up."""
_LARGEST_KERNEL = 3
_MOST_PATCHES = 500_000


@dataclass(frozen=True)
class Whitening:
    """What `whiten` did: the layer's name, how many filters it set, and whether they are all.

    `refusal` says why nothing was done, else it is "".
    """

    layer: str = ""
    filters: int = 0
    frozen: bool = False
    refusal: str = ""

    def sentence(self) -> str:
        """For the terminal."""
        if self.refusal:
            return f"no whitening first convolution: {self.refusal}"
        kept = "kept as they are" if self.frozen else "to begin with"
        return f"the first convolution whitens ({self.filters} filters from the data, {kept})"


def patches_of(input: torch.Tensor, kernel_size: tuple[int, ...]) -> torch.Tensor:
    """The windows of `input` (n, c, *spatial) as rows: (m, c · taps).

    With more than 500,000 of them, those of every so manieth sample.
    """
    windows = input
    for axis, side in enumerate(kernel_size, start=2):
        windows = windows.unfold(axis, side, 1)
    # (n, c, *positions, *taps) -> (n, *positions, c, *taps) -> (m, c · taps)
    dims = len(kernel_size)
    windows = windows.movedim(1, 1 + dims)
    count = windows.shape[: 1 + dims].numel()
    every = -(-count // _MOST_PATCHES)
    rows: torch.Tensor = windows[::every].flatten(1 + dims).flatten(0, dims)
    return rows


def whitening_filters(patches: torch.Tensor, eps: float = _EPS) -> torch.Tensor:
    """Filters (d, d), most varying first, that whiten `patches` (m, d): rows w with w·patch.

    The covariance is about zero, as network input is normalised and the filters have no bias.
    """
    values = patches.double()
    covariance = values.T @ values / len(values)
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    scaled = vectors / (eigenvalues.clamp_min(0) + eps).sqrt()
    rows = scaled.T.flip(0)
    # An eigenvector's sign is the library's choice: the largest entry is made positive.
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    filters: torch.Tensor = (rows * largest.sign()).float()
    return filters


def first_convolution(model: nn.Module, input_shape: tuple[int, ...]) -> tuple[str, nn.Module]:
    """The name and the layer that `model`'s input goes into, ("", model) if no convolution."""
    found: list[tuple[str, nn.Module]] = []

    def before(name: str, module: nn.Module, args: tuple[object, ...]) -> None:
        if not found and args and args[0] is input:
            found.append((name, module))

    handles = [
        module.register_forward_pre_hook(lambda m, args, name=name: before(name, m, args))
        for name, module in model.named_modules()
        if isinstance(module, CONVS)
    ]
    try:
        with trial(model, input_shape) as input, torch.no_grad():
            model(input)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else ("", model)


def whiten(model: nn.Module, input: torch.Tensor) -> Whitening:
    """Set the first convolution of `model` to whiten `input` (n, c, *spatial), training samples.

    If the filters and their negatives are all that the layer has, they are frozen, and only
    its bias learns; if it has more, the others stay as they are and all learn. A layer whose
    shape does not allow it is left alone, and `refusal` says why.
    """
    name, layer = first_convolution(model, tuple(input.shape[1:]))
    if not isinstance(layer, CONVS):
        return Whitening(refusal="the input does not go into a convolution")
    size = "×".join(str(side) for side in layer.kernel_size)
    taps = layer.weight[0].numel()
    if layer.groups > 1 or max(layer.kernel_size) > _LARGEST_KERNEL:
        return Whitening(name, refusal=f"windows of {size} are larger than 3 a side")
    if any(side < tap for side, tap in zip(input.shape[2:], layer.kernel_size, strict=True)):
        shown = "×".join(str(side) for side in input.shape[2:])
        return Whitening(name, refusal=f"windows of {size} do not fit into an input of {shown}")
    if layer.out_channels < 2 * taps:
        return Whitening(
            name,
            refusal=f"windows of {size} with {layer.in_channels} channels need {2 * taps} "
            f"filters, it has {layer.out_channels}",
        )
    filters = whitening_filters(patches_of(input, layer.kernel_size))
    both = torch.cat([filters, -filters]).view(2 * taps, *layer.weight.shape[1:])
    with torch.no_grad():
        layer.weight[: 2 * taps] = both.to(layer.weight)
    frozen = layer.out_channels == 2 * taps
    if frozen:
        layer.weight.requires_grad_(False)
    return Whitening(name, 2 * taps, frozen)

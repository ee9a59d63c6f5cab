"""Vision Transformer (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words: Transformers
for Image Recognition at Scale", ICLR, arXiv 2010.11929, section 3.1, table 1: Base, Large).

Tiny and Small are those of DeiT (Touvron et al. 2021, ICML, arXiv 2012.12877, table 1), the
same network with fewer channels. The picture is cut into patches, each patch becomes a token
by one Linear map (a convolution whose stride is its kernel), a class token is put before
them, a learnt position is added, and what the class token has become is classified.
ViT-B/16: 86,567,656 parameters, 17.56 G multiply-accumulates at 224×224.

Differs from the paper: the head is one Linear layer, as after its fine-tuning, and starts
from a narrow normal instead of zeros (DeiT). Positions belong to the input size that the
network is built for. A side that is no multiple of the patch is continued by zeros. In three
dimensions a patch is a cube. The small stem takes patches of 4; `vit_base/32` takes those
of 32 at any size. Dropout follows appendix B.1
(after each dense layer but the query, key and value, and after the positions), 0.1 unless
asked for (table 3); Tiny and Small have DeiT's stochastic depth of 0.1 instead (its table
9). `dropout=0` leaves nothing to chance: stochastic depth is off, too.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional as F

from hubel.errors import UserError
from hubel.layers import StochasticDepth, conv
from hubel.models import MODELS, Architecture, Builder, Model, Stem
from hubel.shapes import format_shape

__all__ = ["BASE", "LARGE", "SMALL", "TINY", "Size", "ViT", "vit"]

_EPS = 1e-6


@dataclass(frozen=True)
class Size:
    """A row of table 1, and what training leaves out."""

    layers: int
    channels: int
    hidden: int
    """Channels inside of a block's MLP."""
    heads: int
    dropout: float
    stochastic_depth: float

    def times(self, width: float) -> "Size":
        """With `width` times the heads of as many channels each: as Tiny, Small and Base differ."""
        heads = max(1, round(self.heads * width))
        channels, hidden = (n * heads // self.heads for n in (self.channels, self.hidden))
        return replace(self, channels=channels, hidden=hidden, heads=heads)


TINY = Size(12, 192, 768, 3, dropout=0.0, stochastic_depth=0.1)
SMALL = Size(12, 384, 1536, 6, dropout=0.0, stochastic_depth=0.1)
BASE = Size(12, 768, 3072, 12, dropout=0.1, stochastic_depth=0.0)
LARGE = Size(24, 1024, 4096, 16, dropout=0.1, stochastic_depth=0.0)


class Positions(nn.Module):
    """Adds a learnt vector to each token (equation 1)."""

    def __init__(self, tokens: int, channels: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(1, tokens, channels).normal_(std=0.02))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, t, d), as `tokens`."""
        output: torch.Tensor = self.dropout(tokens + self.embedding)
        return output


class SelfAttention(nn.Module):
    """Every token asks all of them, in several heads (appendix A, equations 5 to 8)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.output = nn.Linear(channels, channels)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, t, d), as `tokens`."""
        n, t, d = tokens.shape
        # (n, t, 3 d) -> three of (n, heads, t, d / heads)
        split = self.query_key_value(tokens).reshape(n, t, 3, self.heads, d // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        output: torch.Tensor = self.output(mixed.transpose(1, 2).reshape(n, t, d))
        return output


class Block(nn.Module):
    """Attention, then an MLP; a norm before each and a shortcut around (equations 2 and 3)."""

    def __init__(self, size: Size, dropout: float, left_out: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(size.channels, eps=_EPS)
        self.attention = SelfAttention(size.channels, size.heads)
        self.dropout = nn.Dropout(dropout)
        self.mlp_norm = nn.LayerNorm(size.channels, eps=_EPS)
        self.mlp = nn.Sequential(
            nn.Linear(size.channels, size.hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(size.hidden, size.channels),
            nn.Dropout(dropout),
        )
        self.depth = StochasticDepth(left_out)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, t, d), as `tokens`."""
        attended = self.dropout(self.attention(self.attention_norm(tokens)))
        tokens = tokens + self.depth(attended)
        output: torch.Tensor = tokens + self.depth(self.mlp(self.mlp_norm(tokens)))
        return output


class ViT(Model):
    """See the module; input (n, in_channels, *input_size), output (n, num_classes)."""

    def __init__(
        self,
        size: Size,
        patch_size: int,
        in_channels: int,
        num_classes: int,
        input_size: tuple[int, ...],
        dropout: float,
        stochastic_depth: float,
    ) -> None:
        super().__init__()
        d = size.channels
        self.patch_size = patch_size
        self.input_size = input_size
        self.grid = tuple(-(-side // patch_size) for side in input_size)
        patches = 1
        for side in self.grid:
            patches *= side
        self.class_token = nn.Parameter(torch.zeros(1, 1, d))
        self.patches = conv(len(input_size), in_channels, d, patch_size, stride=patch_size)
        self.positions = Positions(patches + 1, d, dropout)
        last = size.layers - 1
        self.blocks = nn.Sequential(
            *(Block(size, dropout, stochastic_depth * i / last) for i in range(size.layers))
        )
        self.norm = nn.LayerNorm(d, eps=_EPS)
        self.head = nn.Linear(d, num_classes)
        self.apply(_initialise)

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """The patches' tokens as a map (n, d, *grid), and the class token as one of 1×1.

        The class token looks at the whole picture: a map with a single place, and what the
        head takes. `UserError` if the input has not the size the network was built for.
        """
        if tuple(input.shape[2:]) != self.input_size:
            raise UserError(
                f"this vision transformer was built for {format_shape(*self.input_size)}, got "
                f"{format_shape(*input.shape[2:])}; build it for that size (--img-size)"
            )
        # Zeros after the last pixel of each side, given for the last side first.
        missing = [
            pad for side in reversed(self.input_size) for pad in (0, -side % self.patch_size)
        ]
        if any(missing):
            input = F.pad(input, missing)
        # (n, c, *spatial) -> (n, d, *grid) -> (n, t, d)
        tokens = self.patches(input).flatten(2).transpose(1, 2)
        class_token = self.class_token.expand(tokens.shape[0], -1, -1)
        tokens = self.positions(torch.cat([class_token, tokens], dim=1))
        tokens = self.norm(self.blocks(tokens)).transpose(1, 2)  # (n, d, 1 + t)
        one_place = (1,) * len(self.grid)
        return [
            tokens[:, :, 1:].unflatten(2, self.grid),
            tokens[:, :, :1].unflatten(2, one_place),
        ]

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, num_classes)."""
        output: torch.Tensor = self.head(features[-1].flatten(1))
        return output


def _initialise(module: nn.Module) -> None:
    """A truncated normal of 0.02 for dense layers (DeiT); LeCun's for the patches."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d | nn.Conv3d):
        fan_in = module.weight[0].numel()
        nn.init.trunc_normal_(module.weight, std=fan_in**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def vit(size: Size, patch_size: int = 16, small_patch_size: int = 4) -> Builder:
    """A builder of the family: ViT-B/32 is `vit(BASE, patch_size=32)`.

    `small_patch_size` is that of the small stem.
    """

    def builder(
        *,
        in_channels: int,
        num_classes: int,
        input_size: tuple[int, ...],
        spatial_dims: int,
        dropout: float | None,
        stem: Stem,
        width: float,
    ) -> Model:
        return ViT(
            size.times(width),
            small_patch_size if stem == "small" else patch_size,
            in_channels,
            num_classes,
            input_size,
            size.dropout if dropout is None else dropout,
            0.0 if dropout == 0.0 else size.stochastic_depth,
        )

    return builder


def _blocks(size: Size, patch_size: int) -> str:
    return (
        f"patches of {patch_size}×{patch_size} to {size.channels} channels, class token, learnt "
        f"positions, {size.layers} blocks (attention in {size.heads} heads, MLP of "
        f"{size.hidden}), LayerNorm, one dense layer"
    )


def _counts(size: Size, patch_size: int) -> tuple[int, int]:
    """Parameters and multiply-accumulates for a picture of 3×224×224 and 1000 classes."""
    d, n = size.channels, (-(-224 // patch_size)) ** 2
    values = 3 * patch_size**2  # of a patch
    # Query, key, value and output; the two layers of the MLP; with biases and two norms.
    matrices = 4 * d * d + 2 * d * size.hidden
    params = (values + 1) * d + (n + 2) * d + 2 * d + (d + 1) * 1000
    params += size.layers * (matrices + 5 * d + size.hidden + 4 * d)
    macs = n * values * d + size.layers * (matrices * (n + 1) + 2 * (n + 1) ** 2 * d) + 1000 * d
    return params, macs


def _register(
    name: str,
    size: Size,
    num_params: int,
    macs: int,
    torchvision: dict[int, str] | None = None,
) -> None:
    """Enter ViT of `size` under `name`, with patches of 16 or any other.

    `torchvision` has its names there, by the patch.
    """
    theirs = torchvision or {}
    deit = name in ("vit_tiny", "vit_small")
    published = Architecture(
        builder=vit(size),
        title="An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
        authors="Dosovitskiy, Beyer, Kolesnikov, Weissenborn, Zhai and others",
        year=2021,
        source="ICLR 2021, arXiv 2010.11929"
        + ("; size of DeiT: Touvron et al., ICML 2021, arXiv 2012.12877" if deit else ""),
        idea=(
            "A picture is cut into patches, and a patch is treated as a word. "
            "In every layer each patch asks all others what they hold, so the whole "
            "picture is seen from the first layer on. "
            "Little about pictures is built in; enough of them must teach it."
        ),
        blocks=f"{_blocks(size, 16)}; other patches by name, {name}/32 or {name}/4.",
        introduced="the transformer without convolutions for pictures",
        num_params=num_params,
        macs=macs,
        smallest=16,
        smallest_small=4,
        torchvision=theirs.get(16),
    )

    def patched(patch_size: int) -> Architecture:
        params, work = _counts(size, patch_size)
        return replace(
            published,
            builder=vit(size, patch_size),
            blocks=f"{_blocks(size, patch_size)}.",
            num_params=params,
            macs=work,
            smallest=patch_size,
            smallest_small=None,  # the patch is what was asked for, however small the picture
            torchvision=theirs.get(patch_size),
            patched=None,
        )

    MODELS.register(name)(replace(published, patched=patched))


# Multiply-accumulates as torch's FlopCounterMode has them: the patches, the dense layers, and
# the two products of attention, 2·t²·d a layer for t = 197 tokens; softmax is not counted.
_register("vit_tiny", TINY, 5_717_416, 1_253_683_200)
_register("vit_small", SMALL, 22_050_664, 4_598_882_304)
_register("vit_base", BASE, 86_567_656, 17_563_828_224, {16: "vit_b_16", 32: "vit_b_32"})
_register("vit_large", LARGE, 304_326_632, 61_554_712_576, {16: "vit_l_16", 32: "vit_l_32"})

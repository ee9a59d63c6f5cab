# mypy: ignore-errors
"""Which blocks the tensor-core kernels try, and the tuners that choose among them by size.

Import this module, as `hubel.conv.triton_kernels`, only where Triton is wanted.
"""

import math

import triton

from hubel.conv.triton_kernels import INTERPRETED, gather_gemm, reciprocal, weight_gemm

__all__ = [
    "GATHER_CONFIGS",
    "INTERPRETED",
    "INTERPRETER_BLOCKS",
    "SHARED_BYTES",
    "WEIGHT_CONFIGS",
    "even_gather_gemm",
    "gather_fitting",
    "reciprocal",
    "shared_bytes",
    "tuned_gather_gemm",
    "tuned_weight_gemm",
    "weight_fitting",
    "weight_gemm",
]

INTERPRETER_BLOCKS = {"BLOCK_M": 32, "BLOCK_N": 16, "BLOCK_K": 16}
"""Where nothing is timed, nothing is tuned; small blocks let small cases reach every branch."""

SHARED_BYTES = 227 * 1024
"""Shared memory of one program on Hopper, at most (CUDA C++ programming guide, 9.0)."""


def _configs(tiles, **options):
    """(BLOCK_M, BLOCK_N, BLOCK_K, num_warps, num_stages) as Triton's configs."""
    return [
        triton.Config(
            {"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": k, **options},
            num_warps=num_warps,
            num_stages=num_stages,
        )
        for m, n, k, num_warps, num_stages in tiles
    ]


# From the largest tiles that registers hold down to what small maps need; 64 rows fill one of
# Hopper's wgmma, which four warps issue together.
_GATHER_TILES = [
    (128, 256, 64, 8, 3),
    (256, 128, 64, 8, 3),
    (128, 128, 64, 8, 4),
    (128, 128, 64, 4, 4),
    (128, 128, 32, 8, 5),
    (256, 64, 64, 8, 4),
    (128, 64, 64, 4, 4),
    (128, 64, 32, 4, 5),
    (128, 64, 32, 8, 4),
    (64, 256, 32, 8, 4),
    (64, 128, 64, 4, 4),
    (64, 64, 64, 4, 5),
]

# Few channels and one tap are a step or two: no pipeline to fill, but several programs on a
# multiprocessor, so that one loads while another stores.
_SHALLOW_TILES = [(128, 128, 64, 4, 2), (128, 64, 64, 4, 2), (64, 128, 64, 4, 2)]

GATHER_CONFIGS = [
    *_configs(_GATHER_TILES + _SHALLOW_TILES, CACHE=""),
    *_configs(_GATHER_TILES, CACHE=".ca"),
]
"""What is tried for forward and input gradient."""

WEIGHT_CONFIGS = _configs(
    [
        (128, 256, 64, 8, 3),
        (128, 128, 64, 8, 4),
        (128, 128, 64, 4, 3),
        (128, 128, 32, 8, 4),
        (128, 64, 64, 4, 4),
        (64, 128, 64, 4, 4),
        (64, 64, 64, 4, 5),
    ]
)
"""What is tried for the gradient to the weight."""


def shared_bytes(config: triton.Config, element_size: int) -> int:
    """Shared memory that the pipeline of both operands takes; the result's staging reuses it."""
    blocks = config.kwargs
    tiles = (blocks["BLOCK_M"] + blocks["BLOCK_N"]) * blocks["BLOCK_K"]
    return config.num_stages * tiles * element_size


def _fitting(configs, element_size: int, most: dict[str, int]):
    """Configs that fit the memory, and are not mostly beyond what is there of each dimension."""
    fitting = [c for c in configs if shared_bytes(c, element_size) <= SHARED_BYTES]
    for block, size in most.items():
        least = min(c.kwargs[block] for c in fitting)
        fitting = [c for c in fitting if c.kwargs[block] < max(2 * size, 2 * least)]
    return fitting


def gather_fitting(configs, args, **options):
    """Configs worth a trial for a launch of `gather_gemm`."""
    if options["TAPS"] != "inner" or math.prod(options["KERNEL"]) == 1:
        configs = [c for c in configs if not c.kwargs["CACHE"]]  # no tap comes back soon
    most = {"BLOCK_N": args["target_channels"]}
    return _fitting(configs, args["source"].element_size(), most)


def weight_fitting(configs, args, **options):
    """Configs worth a trial for a launch of `weight_gemm`."""
    columns = args["in_channels"]
    if options["TAPS"] == "packed":
        columns *= math.prod(options["KERNEL"])
    most = {"BLOCK_M": args["out_channels"], "BLOCK_N": columns}
    return _fitting(configs, args["source"].element_size(), most)


def _bench(call, quantiles):
    # A quarter of Triton's usual time: there are many sizes, and near ties do not matter.
    return triton.testing.do_bench(call, warmup=5, rep=25, quantiles=quantiles)


_SHAPES = ["KERNEL", "STRIDE", "DILATION", "TAPS", "PRECISION", "n", "source_size", "groups"]

even_gather_gemm = triton.heuristics(
    {
        "GROUP_M": lambda args: 8,
        "EVEN_N": lambda args: args["target_channels"] % args["BLOCK_N"] == 0,
        "EVEN_K": lambda args: args["source_channels"] % args["BLOCK_K"] == 0,
    }
)(gather_gemm)
"""`gather_gemm` with what follows from its blocks."""

tuned_gather_gemm = triton.autotune(
    GATHER_CONFIGS,
    key=[*_SHAPES, "target_size", "source_channels", "target_channels", "GRADIENT"],
    prune_configs_by={"early_config_prune": gather_fitting},
    do_bench=_bench,
)(even_gather_gemm)

tuned_weight_gemm = triton.autotune(
    WEIGHT_CONFIGS,
    key=[*_SHAPES, "grad_size", "in_channels", "out_channels"],
    prune_configs_by={"early_config_prune": weight_fitting},
    do_bench=_bench,
)(weight_gemm)

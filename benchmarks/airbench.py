"""The published CIFAR-10 record recipe, run from its author's own file: a baseline.

    python benchmarks/airbench.py SCRIPT WORK [--device cpu] [--seed 0] [--runs 1]

SCRIPT is airbench94_muon.py out of your checkout of github.com/KellerJordan/cifar10-airbench;
nothing of it is in this repository. It is imported as a module, and its `main` is called as it
stands: network, initialisation, whitening, Muon and SGD, schedule, 8 epochs of batches of 2,000,
alternating flip, translation, six views at the end. WORK holds cifar10/{train,test}.pt, as the
script keeps them (`write_arrays` makes them). Two things are put in its place:

  print_training_details   keeps the figures instead of printing them
  on a CPU, what it needs to run there:
    torch.load             to the CPU instead of to "cuda"
    torch.cuda.Event, torch.cuda.synchronize   the CPU's clock
    torch.compile          off: compiling made this network slower on the CPUs that we have
    weights and pictures   the script's are float16, which CPUs are slow in: weights are
                           float32 and forward runs in bfloat16 by autocast, channels last as in
                           the script; pictures are kept in float16 as there, and the logits
                           reach the loss as float32

On a CUDA device all that stays as it is, with compile(mode="max-autotune") and the warm-up run
on random labels, as at the end of the script.

`seconds` is the script's own clock: whitening, training and the last evaluation with six views.
Imports, reading, compiling and the evaluation after each epoch are left out, so it is
less than a person waits. `wall_s` is all of `main`. The script looks at the test split after each
epoch, and chooses nothing by it.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["airbench", "script_at", "write_arrays"]

NAME = "airbench94_muon"


def script_at(path: Path) -> Path:
    """The script of a checkout, or the file itself."""
    file = path / f"{NAME}.py" if path.is_dir() else path
    if not file.is_file():
        raise SystemExit(f"--airbench '{path}': there is no {NAME}.py; name a checkout or the file")
    return file.resolve()


def airbench(script: Path, work: Path, device: str, seed: int, runs: int = 1) -> list[dict]:
    """Seconds and accuracies of `runs` runs, in a process of their own."""
    words = [sys.executable, __file__, str(script), str(work), "--device", device]
    done = subprocess.run(
        [*words, "--seed", str(seed), "--runs", str(runs)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    rows: list[dict] = json.loads(done.stdout.splitlines()[-1])
    return rows


def write_arrays(data: Path, work: Path) -> None:
    """Every picture of `data`, decoded by hubel, as the arrays that the script reads.

    In a random order, since it whitens by the first 5,000: in a folder they are of one class.
    """
    import numpy as np
    import torch

    from hubel.data.cache import open_store
    from hubel.data.source import open_source

    source = open_source(data)
    store = open_store(source, cache_dir=work / "cache")
    if (*store.size, store.in_channels) != (32, 32, 3):
        raise SystemExit(f"'{data}': the baseline takes pictures of 32×32 in colour")
    folder = work / "cifar10"
    folder.mkdir()
    for split in ("train", "test"):
        indices = np.flatnonzero((source.splits == split) & store.readable)
        indices = np.random.default_rng(0).permutation(indices)
        content = {
            "images": store.gather(torch.from_numpy(indices)).clone(),
            "labels": torch.from_numpy(source.targets[indices]),
            "classes": list(source.info.classes),
        }
        torch.save(content, folder / f"{split}.pt")


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("script", type=Path)
    options.add_argument("work", type=Path)
    options.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options.add_argument("--seed", type=int, default=0, help="of the first run")
    options.add_argument("--runs", type=int, default=1)
    args = options.parse_args()
    print(json.dumps(run(args.script, args.work, args.device, args.seed, args.runs)))


def run(path: Path, work: Path, device: str, seed: int, runs: int) -> list[dict]:
    """One row a run, as `airbench` gives them."""
    import contextlib

    import torch

    script = imported(path)
    figures: dict[str, Any] = {}

    def keep(variables: dict[str, Any], is_final_entry: bool) -> None:
        figures.update({key: variables.get(key) for key in ("val_acc", "time_seconds")})

    script.print_training_details = keep  # type: ignore[attr-defined]
    if device == "cpu":
        on_the_cpu(torch)
    torch.manual_seed(seed)
    model = script.CifarNet()
    if device == "cpu":
        model = model.float().to(memory_format=torch.channels_last)
        forward = model.forward

        def in_bfloat16(x: torch.Tensor, whiten_bias_grad: bool = True) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                logits: torch.Tensor = forward(x, whiten_bias_grad).float()
            return logits

        model.forward = in_bfloat16
    else:
        model = model.cuda().to(memory_format=torch.channels_last)
        model.compile(mode="max-autotune")
    rows = []
    with contextlib.chdir(work):
        if device == "cuda":
            script.main("warmup", model)
        for number in range(seed, seed + runs):
            torch.manual_seed(number)
            started = time.perf_counter()
            accuracy = script.main(number, model)
            rows.append(
                {
                    "seed": number,
                    "test_top1": accuracy,
                    "without_views": figures["val_acc"],
                    "seconds": figures["time_seconds"],
                    "wall_s": time.perf_counter() - started,
                }
            )
    return rows


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def on_the_cpu(torch: Any) -> None:
    """Let what the script asks of CUDA be answered by the CPU; this process does nothing else."""

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            self.at_s = 0.0

        def record(self) -> None:
            self.at_s = time.perf_counter()

        def elapsed_time(self, later: "Event") -> float:
            """Milliseconds."""
            return 1e3 * (later.at_s - self.at_s)

    load = torch.load
    torch.load = lambda file, map_location: load(file, map_location="cpu")
    torch.cuda.Event = Event
    torch.cuda.synchronize = lambda: None
    torch.compiler.set_stance("force_eager")


if __name__ == "__main__":
    main()

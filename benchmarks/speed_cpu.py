"""Images per second of training on a CPU: hubel against the loop that everybody copies.

    python benchmarks/speed_cpu.py FOLDER [--model resnet18] [--num-images 9600] [--batches 40]
        [--repeats R] [--json FILE]

FOLDER holds {train,test}/CLASS/* of 32×32 JPEGs, of which an even spread is taken. Both train the
same network of hubel's zoo (resnet18 has its small stem at this size) on the same pictures. Each
round is a process of its own: hubel tunes its process's allocator, and the baseline must not
profit from that. A round is one epoch for hubel, whole, its warm-up included, as its log has
it; for the tutorial --batches batches from the fourth on, when its workers have started.

Cases, in turn:
  tutorial        Pillow, ToTensor and Normalize for each sample in a DataLoader with two
                  workers; float32, NCHW; batch 64, Adam as it comes
  hubel           the same training by hubel fit (plain recipe, Adam, batch 64, no augmentation),
                  in the engine that it measures to be the fastest
  hubel fp32      the same, pinned to float32
  hubel defaults  hubel's own recipe (Muon, whitening, shifts and flips, lookahead) at the batch
                  that it takes for the whole of CIFAR-10, 512
"""

import argparse
import contextlib
import io
import subprocess
import sys
import tempfile
from pathlib import Path

from cache import some_of
from common import alternate, machine, parser, table, write_json

BASELINE = "tutorial"
WARM_UP = 3
SAME = {
    "recipe": "plain", "batch_size": 64, "optimizer": "adam", "lr": 0.001,
    "schedule": "constant", "label_smoothing": 0.0, "flip": "none", "translate": 0.0,
}  # fmt: skip
CASES = {
    "hubel": SAME,
    "hubel fp32": {**SAME, "engine": "fp32"},
    "hubel defaults": {"batch_size": 512},
}


def main() -> None:
    args = arguments()
    if args.case:
        case = tutorial if args.case == BASELINE else hubel
        print(case(args))
        return
    print(f"{args.model}; " + ", ".join(f"{key} {value}" for key, value in machine().items()))
    with tempfile.TemporaryDirectory(prefix="hubel-bench-") as temporary:
        folder = some_of(args.folder, Path(temporary, "pictures"), args.num_images)

        def in_process(case: str) -> float:
            """Seconds for 1,000 images."""
            words = [sys.executable, __file__, str(folder), "--model", args.model]
            words += ["--batches", str(args.batches), "--case", case]
            out = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
            return 1000 / float(out)

        times = alternate(
            {name: lambda name=name: in_process(name) for name in (BASELINE, *CASES)},
            args.repeats,
            warm_up=False,
        )
    print(table(times, BASELINE, 1000, "images"))
    extra = {"model": args.model, "num_images": args.num_images, "batches": args.batches}
    write_json(args.json, "speed_cpu", times, BASELINE, 1000, extra)


def arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--model", default="resnet18")
    options.add_argument("--num-images", type=int, default=9_600)
    options.add_argument("--batches", type=int, default=40, help="that the tutorial is timed over")
    options.add_argument("--case", help="run one round of this case and print its images/s")
    return options.parse_args()


def tutorial(args: argparse.Namespace) -> float:
    """Images/s of the loop around a network of the zoo."""
    from torch import nn
    from tutorial import tutorial_images_per_s

    from hubel.models import ModelSpec, build, resolve

    def zoo_network(shape: tuple[int, ...], num_classes: int) -> nn.Module:
        return build(resolve(ModelSpec(args.model, shape[0], num_classes, shape[1:])))

    return tutorial_images_per_s(
        args.folder / "train",
        zoo_network,
        nn.CrossEntropyLoss(),
        lr=0.001,
        warm_up=WARM_UP,
        batches=args.batches,
    )


def hubel(args: argparse.Namespace) -> float:
    """Images/s of one epoch of hubel's fit."""
    import hubel as package

    with tempfile.TemporaryDirectory() as temporary, contextlib.redirect_stdout(io.StringIO()):
        run = package.fit(
            args.folder,
            output=Path(temporary, "run"),
            model=args.model,
            epochs=1,
            val_fraction=0.02,  # validation is not what is measured
            tta="none",
            **CASES[args.case],
        )
        return float(run.folder.log()[-1]["images_per_s"])


if __name__ == "__main__":
    main()

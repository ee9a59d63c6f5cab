"""The lab's network, batch 64: hubel's training against the loop of a tutorial.

    python benchmarks/lab.py [FOLDER] [--repeats R] [--json FILE]

FOLDER holds train/CLASS/*; without it, $HUBEL_DATA/cifar10; without that, 5,000 small JPEGs
that are made here. Both train the same network on the same pictures with Adam 0.003 and no
augmentation. Each round is a process of its own: hubel tunes its process's allocator, and
the baseline must not profit from that. A round is one epoch for hubel, whole, its warm-up
included; for the tutorial it is 300 batches from the eleventh on, its workers have started.

Cases, in turn:
  tutorial        Pillow, ToTensor and Normalize for each sample in a DataLoader with two
                  workers; float32, NCHW; ReLU before pooling; Adam as it comes
  hubel           the same training by hubel fit: bfloat16 where the CPU has it
  hubel fp32      the same in float32
  hubel defaults  hubel's own defaults: shifts, flips, dropout, label smoothing, AdamW
"""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cache import some_pictures
from common import Times, alternate, machine, parser, table, write_json

BASELINE = "tutorial"
LAB = {
    "model": "simple", "dropout": 0.0, "epochs": 1, "batch_size": 64, "optimizer": "adam",
    "lr": 0.003, "schedule": "constant", "label_smoothing": 0.0, "flip": "none",
    "translate": 0.0,
}  # fmt: skip
CASES = {
    "hubel": LAB,
    "hubel fp32": {**LAB, "engine": "fp32"},
    "hubel defaults": {"model": "simple", "epochs": 1, "batch_size": 64},
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("folder", nargs="?", type=Path)
    options.add_argument("--case", help="run one round of this case and print its images/s")
    args = options.parse_args()
    if args.case:
        speed = tutorial(args.folder) if args.case == BASELINE else hubel(args.folder, args.case)
        print(speed)
        return
    with tempfile.TemporaryDirectory(prefix="hubel-bench-") as temporary:
        folder = args.folder
        if folder is None and "HUBEL_DATA" in os.environ:
            folder = Path(os.environ["HUBEL_DATA"], "cifar10")
        if folder is None:
            folder = some_pictures(Path(temporary, "pictures"), 5_000)
        print(f"{folder}; " + ", ".join(f"{key} {value}" for key, value in machine().items()))

        def in_process(case: str) -> float:
            """Seconds for 1,000 images."""
            words = [sys.executable, __file__, str(folder), "--case", case]
            out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            return 1000 / float(out)

        names = (BASELINE, *CASES)
        times: dict[str, Times] = alternate(
            {name: lambda name=name: in_process(name) for name in names},
            args.repeats,
            warm_up=False,
        )
        print(table(times, BASELINE, 1000, "images"))
        write_json(args.json, "lab", times, BASELINE, 1000)


def tutorial(folder: Path) -> float:
    """Images/s of the loop that everybody copies."""
    from torch import nn
    from tutorial import tutorial_images_per_s

    def lab_network(shape: tuple[int, ...], num_classes: int) -> nn.Module:
        side = shape[-1] // 8
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(64 * side * side, 512), nn.ReLU(),
            nn.Linear(512, num_classes), nn.LogSoftmax(dim=1),
        )  # fmt: skip

    root = folder / "train" if (folder / "train").is_dir() else folder
    return tutorial_images_per_s(root, lab_network, nn.NLLLoss(), lr=0.003, warm_up=10, batches=300)


def hubel(folder: Path, case: str) -> float:
    """Images/s of one epoch of hubel's fit."""
    import hubel as package

    with tempfile.TemporaryDirectory() as temporary, contextlib.redirect_stdout(io.StringIO()):
        run = package.fit(folder, output=Path(temporary, "run"), **CASES[case])
        return float(run.folder.log()[-1]["images_per_s"])


if __name__ == "__main__":
    main()

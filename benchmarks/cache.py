"""Decode once: building and opening the cache of a folder of pictures.

    python benchmarks/cache.py [FOLDER] [--num-images N] [--repeats R] [--json FILE]

FOLDER holds one folder a class; without it, $HUBEL_DATA/cifar10; without that, 5,000 small
JPEGs that are made here. Every build goes into a new temporary cache. The files have been
read once before, so that no case pays for the disk.

Cases, in turn:
  plain loop    Pillow in one thread: open, convert to RGB, to an array; nothing is kept
  hubel build   open the source, hash and decode every file, write the cache, flush it
  hubel check   the files were touched: hash every file, reuse the pixels
  hubel open    nothing has changed: the second start
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import alternate, machine, parser, table, write_json
from PIL import Image

from hubel.data.cache import open_store
from hubel.data.source import Source, open_source

BASELINE = "plain loop"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("folder", nargs="?", type=Path)
    options.add_argument("--num-images", type=int, help="an even spread of this many")
    args = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="hubel-bench-") as temporary:
        folder = args.folder
        if folder is None and "HUBEL_DATA" in os.environ:
            folder = Path(os.environ["HUBEL_DATA"], "cifar10")
        if folder is None:
            folder = some_pictures(Path(temporary, "pictures"), args.num_images or 5_000)
        elif args.num_images:
            folder = some_of(folder, Path(temporary, "subset"), args.num_images)
        run(folder, Path(temporary), args.repeats, args.json)


def run(folder: Path, temporary: Path, repeats: int, json_file: Path | None) -> None:
    files = files_of(open_source(folder))
    num_bytes = sum(len(file.read_bytes()) for file in files)
    print(f"{len(files):,} files, {num_bytes / 1e6:,.0f} MB, {folder}")
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    before_mb = peak_mb()
    caches = [temporary / f"cache{number}" for number in range(-1, repeats)]
    builds = iter(caches)
    filled = temporary / "filled"
    open_store(open_source(folder), cache_dir=filled)

    def plain() -> None:
        for file in files:
            with Image.open(file) as image:
                np.asarray(image.convert("RGB"))

    def build() -> None:
        open_store(open_source(folder), cache_dir=next(builds))

    def check() -> float:
        for index in (filled / "index").iterdir():
            index.unlink()  # as after touching every file, without touching them
        start_s = time.perf_counter()
        open_store(open_source(folder), cache_dir=filled)
        return time.perf_counter() - start_s

    def again() -> None:
        open_store(open_source(folder), cache_dir=filled)

    cases = {BASELINE: plain, "hubel build": build, "hubel check": check, "hubel open": again}
    times = alternate(cases, repeats)
    print(table(times, BASELINE, len(files), "images"))
    grown_mb = peak_mb() - before_mb
    print(f"peak memory of the building process grew by {grown_mb:.0f} MB over all rounds")
    extra = {"bytes": num_bytes, "peak_growth_mb": round(grown_mb, 1)}
    write_json(json_file, "cache", times, BASELINE, len(files), extra)


def files_of(source: Source) -> list[Path]:
    if source.path is None:
        raise SystemExit("this benchmark reads a folder of pictures")
    return [source.path / name for name in source.ids]


def some_of(folder: Path, target: Path, num_images: int) -> Path:
    """Links to an even spread of a folder's pictures, in the same classes and splits."""
    files = files_of(open_source(folder))
    for k in np.linspace(0, len(files) - 1, min(num_images, len(files))).astype(int):
        link = target / files[k].relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(files[k].resolve())
    return target


def some_pictures(folder: Path, num_images: int) -> Path:
    """Smooth random JPEGs of 32×32, about a kilobyte each, in ten classes."""
    rng = np.random.default_rng(0)
    for k in range(num_images):
        path = folder / f"class{k % 10}" / f"{k:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        coarse.resize((32, 32), Image.Resampling.BICUBIC).save(path, quality=90)
    return folder


def peak_mb() -> float:
    """Peak resident memory of this process so far, shared libraries and maps included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


if __name__ == "__main__":
    main()

"""How long the command line takes to say something, and how much memory a fit adds to torch.

    python benchmarks/start.py [FOLDER] [--repeats R] [--json FILE]

With FOLDER the peak memory of a one-epoch fit on it is measured too.

Cases, in turn, each a process of its own:
  import torch    what every command would cost if it imported torch first
  hubel --help    the help page
  usage error     an option that does not exist
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from common import alternate, machine, parser, table, write_json

BASELINE = "import torch"
COMMANDS = {
    BASELINE: ["-c", "import torch"],
    "hubel --help": ["-m", "hubel", "--help"],
    "usage error": ["-m", "hubel", "fit", "--bogus"],
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("folder", nargs="?", type=Path)
    args = options.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()))

    def start(words: list[str]) -> None:
        subprocess.run([sys.executable, *words], capture_output=True)

    times = alternate(
        {name: lambda words=words: start(words) for name, words in COMMANDS.items()}, args.repeats
    )
    print(table(times, BASELINE))
    extra = {}
    if args.folder:
        with tempfile.TemporaryDirectory(prefix="hubel-bench-") as temporary:
            fit = ["-m", "hubel", "fit", str(args.folder), "--epochs", "1", "--output"]
            extra["import_torch_mb"] = peak_mb(COMMANDS[BASELINE])
            extra["fit_mb"] = peak_mb([*fit, str(Path(temporary, "run"))])
        print(f"peak memory: {extra['fit_mb']:.0f} MB, of torch {extra['import_torch_mb']:.0f} MB")
    write_json(args.json, "start", times, BASELINE, extra=extra)


def peak_mb(words: list[str]) -> float:
    """Peak resident memory of one python process (asked for by a child, so it is its own)."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, *sys.argv[1:]], check=True, capture_output=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], check=True, capture_output=True, text=True
    )
    return int(done.stdout) / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()

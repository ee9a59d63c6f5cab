"""The package as others get it: a wheel, built and tried outside the tree."""

import re
import subprocess
import sys
from pathlib import Path

import hubel

ROOT = Path(__file__).parents[1]


def test_public_names_exist_and_the_list_is_complete():
    assert all(hasattr(hubel, name) for name in hubel.__all__)
    assert hubel.__all__ == sorted(hubel.__all__, key=str.lower) or hubel.__all__ == sorted(
        hubel.__all__
    )


def test_importing_hubel_does_not_import_torch():
    code = "import sys, hubel; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_wheel_works_outside_the_tree(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "hubel"):
        subprocess.run(["cp", "-r", ROOT / name, source / name], check=True)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", tmp_path, source]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("hubel-*.whl")
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel]
    subprocess.run(install, check=True, capture_output=True)
    # -P and -S would hide the dependencies; a path in front hides the tree's own package.
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import hubel; assert hubel.__file__.startswith(sys.argv[1]), hubel.__file__\n"
        "run = hubel.fit('digits', epochs=1, threads=1, output='run')\n"
        "page = run.evaluate().report\n"
        "assert page.stat().st_size > 100_000\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, target], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_links_between_the_documents_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"

"""Mirroring: which classes allow it, asked alike of every format."""

import numpy as np
import pytest
from data_makers import encoded, png
from PIL import Image

from hubel.data.mirroring import flip_safe
from hubel.data.source import open_source


@pytest.mark.parametrize(
    "names",
    [
        ("background", "left_kidney", "right_kidney"),
        ("Left Lung", "RIGHT LUNG", "heart"),
        ("kidney-left", "kidney.right"),
        ("turnLeft", "turnRight", "straight"),
        ("L femur", "R femur"),
        ("hip_L", "hip_R", "spine"),
        ("LKidney", "RKidney"),
        ("L1", "R1", "C7"),
        ("left", "right", "none"),
        ("left of the right lung", "right of the left lung"),
    ],
)
def test_left_and_right_of_one_thing_forbid_mirroring(names):
    assert not flip_safe(names)
    assert not flip_safe(names[::-1])


@pytest.mark.parametrize(
    "names",
    [
        ("cat", "dog"),
        ("left_kidney", "liver"),  # without the other side no label turns into another
        ("left_kidney", "right_lung"),
        ("bright lamp", "bleft lamp"),  # no whole words
        ("leftover", "rightover"),
        ("lamp", "ramp"),
        ("links oben", "rechts oben"),
        ("class 0", "class 1"),
    ],
)
def test_other_names_allow_it(names):
    assert flip_safe(names)


def _boxes(root, names):
    rows = ["path,class,xmin,ymin,xmax,ymax"]
    rows += [f"{k}.png,{name},2,3,12,13" for k, name in enumerate(names)]
    for k in range(len(names)):
        (root / f"{k}.png").write_bytes(png((k, 9, 9), size=(20, 20)))
    (root / "boxes.csv").write_text("\n".join(rows))
    return root / "boxes.csv"


def _masks(root, names):
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    values = np.arange(4, dtype=np.uint8).reshape(2, 2) % len(names)
    for k in range(2):
        (root / f"images/{k}.png").write_bytes(png((k, 9, 9), size=(2, 2)))
        (root / f"masks/{k}.png").write_bytes(encoded(Image.fromarray(values), "PNG"))
    (root / "classes.txt").write_text("\n".join(names))
    return root


def _mask_arrays(root, names):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    labels = pixels % np.uint8(len(names))
    np.savez(root / "set.npz", x=pixels, y=labels, classes=np.array(names))
    return root / "set.npz"


def _nifti(root, names):
    nibabel = pytest.importorskip("nibabel")
    for folder in ("images", "masks"):
        (root / folder).mkdir()
        for k in range(2):
            values = (np.arange(8).reshape(2, 2, 2) % len(names)).astype(np.uint8)
            content = nibabel.Nifti1Image(values, np.eye(4)).to_bytes()
            (root / f"{folder}/{k}.nii").write_bytes(content)
    (root / "classes.txt").write_text("\n".join(names))
    return root


@pytest.mark.parametrize("made", [_boxes, _masks, _mask_arrays, _nifti])
@pytest.mark.parametrize(("other", "safe"), [("right hand", False), ("foot", True)])
def test_every_format_is_asked(tmp_path, made, other, safe):
    source = open_source(made(tmp_path, ["body", "left hand", other]))
    assert set(source.info.classes) == {"body", "left hand", other}
    assert source.info.flip_safe is safe

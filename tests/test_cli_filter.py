"""`hubel conv filter`: the sheet, the numbers, the files it never touches, the messages."""

import base64
import io
import json
from xml.etree import ElementTree

import numpy as np
import pytest
import scipy.ndimage as ndi
from commands import ran
from PIL import Image

from hubel.conv.filter_kernels import make_filter
from hubel.conv.filters import filter_picture
from hubel.data.pictures import decode_picture
from hubel.draw.filter_sheet import PNG_SCALE, filter_sheet, sheet_file, written

SVG = "{http://www.w3.org/2000/svg}"
GREY = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with one grey and one coloured picture."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(GREY).save("grey.png")
    Image.fromarray(COLOUR).save("colour.png")
    return tmp_path


@pytest.fixture
def hubel(folder, capsys, monkeypatch):
    """The command in this process: (exit code, stdout, stderr)."""

    def run(*words):
        found = ran(("conv", "filter", *words), capsys, monkeypatch)
        return found.returncode, found.stdout, found.stderr

    return run


def pictures(svg):
    """The pictures embedded in an SVG sheet, as arrays."""
    found = ElementTree.fromstring(svg).iter(f"{SVG}image")
    uris = [image.get("href").removeprefix("data:image/png;base64,") for image in found]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(uri)))) for uri in uris]


def words_of(svg):
    """Every text of an SVG sheet."""
    return [t.text for t in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_json_raw_and_sheet_hold_scipys_numbers(hubel, folder):
    code, out, err = hubel(
        "grey.png", "--kernel", "sobel", "--direction", "vertical", "--border", "mirror",
        "--output", "sheet.svg", "--raw", "raw.npy", "--json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    told = json.loads(out)
    expected = ndi.sobel(GREY.astype(np.float64), axis=0, mode="mirror")
    np.testing.assert_allclose(np.load("raw.npy"), expected, rtol=0, atol=1e-10)
    assert told["size"] == [20, 30]
    assert told["kernel"]["kernels"] == [
        {"label": "vertical", "size": [3, 3], "values": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]}
    ]
    assert (told["border"], told["show"], told["flip"]) == ("mirror", "signed", False)
    assert told["result"]["min"] == pytest.approx(expected.min())
    assert told["result"]["max"] == pytest.approx(expected.max())
    assert told["result"]["mean"] == pytest.approx(expected.mean())
    assert (told["output"], told["raw"]) == ("sheet.svg", "raw.npy")

    svg = (folder / "sheet.svg").read_text("utf-8")
    original, result = pictures(svg)
    step = original.shape[0] // 20
    assert original.shape == (20 * step, 30 * step)
    assert step == int(340 * PNG_SCALE) // 30
    np.testing.assert_array_equal(original[::step, ::step], GREY)
    levels = np.rint(127.5 + 127.5 * expected / abs(expected).max())
    np.testing.assert_array_equal(result[step - 1 :: step, step - 1 :: step], levels)
    words = words_of(svg)
    assert {"original", "kernel 3×3", "result", "−2", "2"} <= set(words)
    assert "Sobel, vertical: the change from top to bottom" in words
    top = f"{abs(expected).max():.4g}"
    assert f"black −{top}, grey 0, white {top}" in words


def test_the_default_name_is_free_and_nothing_is_replaced(hubel, folder):
    before = (folder / "grey.png").read_bytes()
    for name in ("grey-box.png", "grey-box-2.png", "grey-box-3.png"):
        code, out, _ = hubel("grey.png", "--kernel", "box")
        assert code == 0
        assert f"sheet: {name}" in out
        assert decode_picture((folder / name).read_bytes()).shape[1] > 2000
    assert (folder / "grey.png").read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == [
        "colour.png", "grey-box-2.png", "grey-box-3.png", "grey-box.png", "grey.png",
    ]  # fmt: skip


def test_force_replaces_but_never_the_picture(hubel, folder):
    (folder / "old.png").write_text("mine")
    code, _, err = hubel("grey.png", "--output", "old.png")
    assert code == 1
    assert "--output 'old.png' exists; choose another name, or replace it with --force" in err
    assert (folder / "old.png").read_text() == "mine"
    assert hubel("grey.png", "--output", "old.png", "--force")[0] == 0
    assert decode_picture((folder / "old.png").read_bytes()).shape[2] == 3
    before = (folder / "grey.png").read_bytes()
    (folder / "link.png").symlink_to("grey.png")
    for name in ("grey.png", "link.png"):
        code, _, err = hubel("grey.png", "--output", name, "--force")
        assert code == 1
        assert f"--output '{name}' is a file that is read; choose another name" in err
    assert (folder / "grey.png").read_bytes() == before


def test_the_terminal_shows_the_kernel_in_80_columns(hubel):
    code, out, _ = hubel("colour.png", "--kernel", "1 0 −1; 2 0 −2; 1 0 −1", "--flip")
    assert code == 0
    assert "    1  0 −1\n     2  0 −2\n     1  0 −1\n" in out
    assert "border reflect, by luminance, kernel flipped (convolution)" in out
    assert "sheet: colour-numbers.png" in out
    for kernel in ("gabor", "gaussian"):
        code, out, _ = hubel("colour.png", "--kernel", kernel, "--sigma", "3")
        assert max(map(len, out.splitlines())) <= 80
    assert "25×25 numbers, the largest 0.0177" in out


def test_a_kernel_file_and_channels(hubel, folder):
    (folder / "k.csv").write_text("\ufeff1/9,1/9,1/9\r\n1/9,1/9,1/9\r\n1/9,1/9,1/9\r\n", "utf-8")
    assert hubel("colour.png", "--kernel-values", "k.csv", "--raw", "r.npy")[0] == 0
    expected = ndi.uniform_filter(COLOUR.astype(np.float64), (3, 3, 1))
    np.testing.assert_allclose(np.load("r.npy"), expected, rtol=0, atol=1e-10)


def test_volumes_show_their_middle_slice(hubel, folder):
    volume = np.random.default_rng(2).normal(size=(7, 9, 8))
    np.save("v.npy", volume)
    options = ("--raw", "r.npy", "--output", "v.svg", "--json")
    code, out, err = hubel("v.npy", "--kernel", "laplacian", *options)
    assert (code, err) == (0, "")
    assert json.loads(out)["size"] == [7, 9, 8]
    expected = ndi.laplace(volume)
    np.testing.assert_allclose(np.load("r.npy"), expected, rtol=0, atol=1e-10)
    svg = (folder / "v.svg").read_text("utf-8")
    result = pictures(svg)[1]
    step = result.shape[0] // 9
    levels = np.rint(127.5 + 127.5 * expected[3] / abs(expected).max())
    np.testing.assert_array_equal(result[::step, ::step], levels)
    assert "kernel 3×3×3, slice by slice" in words_of(svg)


def test_a_bank_shows_each_response_on_one_scale():
    made = filter_picture(GREY[..., None], "sobel")
    svg = sheet_file(filter_sheet(GREY[..., None], made, name="a"), ".svg").decode()
    _, result, *responses = pictures(svg)
    assert result.min() >= 0
    assert len(responses) == 2
    top = max(abs(r).max() for r in made.responses)
    for shown, response in zip(responses, made.responses, strict=True):
        step = shown.shape[0] // 20
        levels = np.rint(127.5 + 127.5 * response[..., 0] / top)
        np.testing.assert_array_equal(shown[::step, ::step], levels)
    assert {"horizontal", "vertical", "2 kernels 3×3"} <= set(words_of(svg))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3000, 3), (900, 2, 1), (1200, 1600, 3)])
def test_pictures_of_any_size_fit_the_sheet(shape):
    pixels = np.zeros(shape, np.uint8)
    pixels[0, 0] = 255
    svg = filter_sheet(pixels, filter_picture(pixels, "sharpen"), name="x")
    sheet = sheet_file(svg, ".svg").decode()
    for shown in pictures(sheet):
        assert max(shown.shape[:2]) <= 340 * PNG_SCALE
    for image in svg.iter("image"):
        assert max(float(image.get("width")), float(image.get("height"))) <= 340


@pytest.mark.parametrize("orientations", [1, 5, 8, 30])
def test_banks_of_any_number_stay_inside_the_drawing(orientations):
    bank = make_filter("gabor", orientations=orientations)
    svg = filter_sheet(COLOUR, filter_picture(COLOUR, bank), name="x")
    for image in svg.iter("image"):
        place = {k: float(image.get(k)) for k in ("x", "y", "width", "height")}
        assert place["x"] + place["width"] <= float(svg.get("width"))
        assert place["y"] + place["height"] <= float(svg.get("height"))


def test_names_from_disk_are_text(hubel, folder):
    name = "<b>&\x1b[31m.png"
    Image.fromarray(GREY).save(folder / name)
    code, out, _ = hubel(name, "--kernel", "box", "--output", "s.svg")
    assert code == 0
    assert "\x1b" not in out
    words = words_of((folder / "s.svg").read_text("utf-8"))
    assert any(w.startswith("<b>&\\x1b[31m.png, 20×30 pixels") for w in words)


def test_numbers_in_cells():
    gaussian = written(make_filter("gaussian", sigma=0.5).kernels[0])
    assert gaussian[2].tolist() == ["0.000", "0.084", "0.619", "0.084", "0.000"]
    assert written(np.array([1e-7, -2e-9])).tolist() == ["1.00e−07", "−2.00e−09"]
    assert written(np.zeros(2)).tolist() == ["0", "0"]
    assert written(np.array([0.5, -0.25])).tolist() == ["1/2", "−1/4"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.png"], "PICTURE 'none.png' does not exist; check the spelling"),
        (["."], "PICTURE '.' is not a regular file; name one picture"),
        (["text.png"], "PICTURE 'text.png' could not be read: "),
        (["half.png"], "PICTURE 'half.png' could not be read: truncated"),
        (["text.npy"], "'text.npy' is not a whole .npy file"),
        (["flat.npy"], "PICTURE 'flat.npy' has shape (5,); a .npy must be (h, w), (d, h, w)"),
        (["nan.npy"], "pixels hold values that are not finite"),
        (["grey.png", "--kernel", "sobell"], "kernel 'sobell' is not known; did you mean 'sobel'?"),
        (["grey.png", "--kernel", "1 2; 3"], "--kernel must be rectangular: row 1 has 2 numbers"),
        (["grey.png", "--kernel", "1 nan"], "--kernel takes finite numbers, got 'nan'"),
        (["grey.png", "--kernel", ""], "--kernel holds no numbers"),
        (["grey.png", "--kernel-values", "no.csv"], "--kernel-values 'no.csv' is not a file"),
        (["grey.png", "--kernel-values", "grey.png"], "--kernel-values 'grey.png' is not text"),
        (
            ["grey.png", "--kernel", "box", "--kernel-values", "k"],
            "--kernel and --kernel-values cannot both be given, got 'box' and 'k'",
        ),
        (
            ["grey.png", "--kernel", "1 2", "--sigma", "2"],
            "--sigma is for named kernels, got 2.0 with numbers; leave it out",
        ),
        (["grey.png", "--kernel", "gaussian", "--sigma", "0"], "sigma takes pixels, above 0"),
        (["grey.png", "--border", "edge"], "border 'edge' is not known; choose from 'constant'"),
        (["grey.png", "--colour", "red"], "colour 'red' is not known"),
        (["grey.png", "--show", "all"], "show 'all' is not known"),
        (["grey.png", "--output", "a.jpg"], "--output must end in .png or .svg, got 'a.jpg'"),
        (["grey.png", "--raw", "a.txt"], "--raw must end in .npy, got 'a.txt'"),
        (["grey.png", "--output", "no/a.png"], "the folder 'no' does not exist; make it"),
        (["grey.png", "--output", "d.png"], "--output 'd.png' is a folder; name a file in it"),
        (["grey.png", "--raw", "nan.npy"], "--raw 'nan.npy' exists; choose another name"),
        (["grey.png", "--output", f"{'x' * 300}.png"], "could not be written: File name too long"),
    ],
)
def test_messages(hubel, folder, words, message):
    (folder / "text.png").write_text("not a picture")
    (folder / "half.png").write_bytes((folder / "colour.png").read_bytes()[:700])
    (folder / "text.npy").write_text("not an array")
    (folder / "d.png").mkdir()
    np.save("flat.npy", np.zeros(5))
    np.save("nan.npy", np.full((5, 5), np.nan))
    before = {p.name for p in folder.iterdir()}
    code, out, err = hubel(*words)
    assert (code, out) == (1, "")
    assert err.startswith("hubel: ")
    assert message in err
    assert "Traceback" not in err
    assert {p.name for p in folder.iterdir()} == before

"""`hubel conv arithmetic`, `lower` and `parameters`: what they print, draw and refuse."""

import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from commands import loaded, ran, refusal

from hubel.cli.conv.options import matrix_lines, read_numbers, sizes, written_padding
from hubel.conv.method import METHODS
from hubel.errors import UserError


@pytest.fixture
def conv(capsys, monkeypatch):
    """`hubel conv WORDS` in this process."""

    def run(*words, check=True):
        found = ran(("conv", *words), capsys, monkeypatch)
        assert found.returncode == 0 or not check, found.stderr
        return found

    return run


@pytest.fixture
def refused(conv):
    """The one line that it says when it refuses."""
    return lambda *words: refusal(conv(*words, check=False))


def tidy(done):
    """No line of what was printed is wider than a terminal or ends in a space."""
    for line in done.stdout.splitlines():
        assert len(line) <= 80, line
        assert line == line.rstrip()
    return done.stdout


def test_the_lecture_s_convolution_is_the_default(conv):
    said = tidy(conv("arithmetic"))
    assert "convolution of a 5×5 input with a 3×3 kernel, stride 2, padding 1\n" in said
    assert "⌊(7 − 3) / 2⌋ + 1 = 3, remainder 0" in said
    assert said.endswith("output\n   6 17  3\n   8 17 13\n   6  4  4\n")


def test_the_lecture_s_pooling(conv):
    assert tidy(conv("arithmetic", "--pool", "max")).endswith("output\n  3 3 3\n  3 3 3\n  3 2 3\n")
    assert tidy(conv("arithmetic", "--pool", "average")).endswith(
        "output\n  1.7 1.7 1.7\n  1.0 1.2 1.8\n  1.1 0.8 1.3\n"
    )


def test_arithmetic_starts_without_torch():
    code = (
        "import sys; sys.argv = ['hubel', 'conv', 'arithmetic', '--json']\n"
        "from hubel.cli.main import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules, 'heavy import'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_arithmetic_on_numbers_of_a_file(conv, tmp_path):
    picture = tmp_path / "picture.csv"
    picture.write_text("# a remark\n1,2,3,4\n5,6,7,8\n\n")
    kernel = tmp_path / "kernel.txt"
    kernel.write_text("0.5 -1  # one row is 1×2 here\n")
    files = ("--values", picture, "--kernel-values", kernel)
    found = loaded(conv("arithmetic", *files, "--json"))
    assert found["input_size"] == [2, 4]
    assert found["kernel_size"] == [1, 2]
    assert found["numbers"]["output"] == [[-1.5, -2, -2.5], [-3.5, -4, -4.5]]
    window = found["numbers"]["windows"][1]
    assert window == {
        "output_index": [0, 1], "grid_start": [0, 1], "values": [[2, 3]],
        "products": [[1, -3]], "result": -2,
    }  # fmt: skip
    assert "  −1.50 −2.00 −2.50\n" in tidy(conv("arithmetic", *files))


def test_arithmetic_names_the_pixels_that_are_dropped(conv):
    words = ("arithmetic", "--input", "6x7", "--kernel", "2", "--stride", "3")
    said = tidy(conv(*words))
    assert "dropped at the end row 6; columns 6, 7\n" in said
    assert "between windows    row 3; column 3\n" in said
    found = loaded(conv(*words, "--json"))
    assert found["dropped"] == [1, 2]
    assert found["steps"][1]["kernel_spans"] == "1·(2 − 1) + 1 = 2"
    assert found["steps"][1]["remainder"] == 2
    assert found["unseen"] == [[2, 5], [2, 5, 6]]


@pytest.mark.parametrize("size", ["7", "5x6", "4×4×5", "3,4"])
@pytest.mark.parametrize("transposed", [False, True])
def test_arithmetic_in_every_dimension_agrees_with_torch(conv, size, transposed):
    more = ["--transposed", "--output-padding", "1"] if transposed else []
    found = loaded(
        conv("arithmetic", "--input", size, "--kernel", "2", "--stride", "2", "--padding", "1",
             "--seed", "5", *more, "--json")
    )  # fmt: skip
    numbers = found["numbers"]
    image, kernel = (
        torch.tensor(numbers[name], dtype=torch.float64)[None, None] for name in ("input", "kernel")
    )
    dims = image.dim() - 2
    if transposed:
        theirs = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1](
            image, kernel, stride=2, padding=1, output_padding=1
        )
    else:
        theirs = (F.conv1d, F.conv2d, F.conv3d)[dims - 1](image, kernel, stride=2, padding=1)
    assert numbers["output"] == theirs[0, 0].tolist()
    assert found["output_size"] == list(theirs.shape[2:])


def test_the_seed_decides_the_numbers(conv):
    first, again, other = (
        loaded(conv("arithmetic", "--input", "6x6", "--seed", seed, "--json"))["numbers"]
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_sizes_of_a_large_picture_without_its_numbers(conv):
    words = ("arithmetic", "--input", "224x224", "--kernel", "7", "--stride", "2", "--padding", "3")
    said = tidy(conv(*words))
    assert "112×112 = 12,544 numbers" in said
    assert "No numbers: they are worked out for at most 10,000 padded pixels" in said
    assert loaded(conv(*words, "--json"))["numbers"] is None
    tidy(conv("arithmetic", "--input", "1000000x1000000", "--kernel", "500000"))


def test_an_empty_window_of_a_maximum_is_null_not_infinity(conv):
    found = loaded(
        conv("arithmetic", "--pool", "max", "--input", "2", "--kernel", "2", "--padding", "1",
             "--dilation", "3", "--json")
    )  # fmt: skip
    assert found["numbers"]["output"] == [None]


def test_arithmetic_draws_both_pictures(conv, tmp_path):
    sheet, moving = tmp_path / "a.svg", tmp_path / "b.svg"
    done = conv("arithmetic", "--svg", sheet, "--animated", moving)
    assert done.stdout.endswith(f"svg: {sheet}\nanimated: {moving}\n")
    for path in (sheet, moving):
        sums = [
            e.text
            for e in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
            if "sum" in e.get("class", "").split()
        ]
        assert [s.rpartition(" = ")[2] for s in sums] == "6 17 3 8 17 13 6 4 4".split()
    assert (
        "exists; choose another name, or replace"
        in conv("arithmetic", "--svg", sheet, check=False).stderr
    )
    found = loaded(conv("arithmetic", "--svg", sheet, "--force", "--json"))
    assert found["files"] == {"svg": str(sheet)}


def test_lower_shows_the_matrix_and_its_gemm(conv):
    said = tidy(conv("lower"))
    assert "  M = N·P·Q        9\n" in said
    assert "324 B, 3.24× the input's 100 B\n" in said
    assert "  1 2 1 2 1\n  2 4 2 4 2\n" in said
    assert "  0 1 3 1 2 2 0 0 2\n" in said
    assert "  · · · · 3 3 · 0 0\n" in said
    assert "3,2        3,2              2×2        3×3\n" in said
    for name in METHODS.names():
        assert f"\n{name} " in said


def test_lower_s_numbers_agree_with_torch(conv):
    found = loaded(
        conv("lower", "--input", "5x4", "--kernel", "3x2", "--channels", "4", "--out-channels", "6",
             "--batch", "2", "--groups", "2", "--padding", "1", "--dtype", "bfloat16", "--json")
    )  # fmt: skip
    numbers = {k: torch.tensor(v, dtype=torch.float64) for k, v in found["numbers"].items()}
    columns = F.unfold(numbers["input"], (3, 2), padding=1)  # (n, c·taps, P·Q)
    theirs = columns.unflatten(1, (4, 6)).permute(0, 3, 2, 1).reshape(50, 24)
    assert numbers["matrix"].tolist() == theirs.tolist()
    weight = numbers["weights"].T.reshape(6, 3, 2, 2).movedim(-1, 1)
    output = F.conv2d(numbers["input"], weight, padding=1, groups=2)
    assert numbers["output"].tolist() == output.tolist()
    assert found["gemm"] == {"M": 50, "K": 12, "N": 3, "num_gemms": 2}
    assert found["matrix_bytes"] == 50 * 24 * 2
    assert found["cells_of_pixels"] == int(numbers["counts"].sum())
    assert (found["least_copies"], found["most_copies"]) == (4, 6)
    assert len(found["taps"]) == 6
    assert found["taps"][3] == {"tap": [1, 1], "start": [1, 1], "step": [1, 1], "size": [5, 5]}
    for row in found["methods"]:
        assert (row["extra_elements"] is None) == (row["cannot"] is not None)


def test_lower_takes_numbers_of_files(conv, tmp_path):
    np.save(tmp_path / "x.npy", np.arange(18, dtype=np.uint8).reshape(2, 3, 3))
    (tmp_path / "k.txt").write_text("1 0\n0 0\n\n0 0\n0 2\n")
    found = loaded(
        conv("lower", "--input", "3x3", "--channels", "2", "--kernel", "2",
             "--values", tmp_path / "x.npy", "--kernel-values", tmp_path / "k.txt", "--json")
    )  # fmt: skip
    # Pixel (i, j) of channel 1 and twice pixel (i + 1, j + 1) of channel 2.
    expected = [[i + 2 * (9 + i + 4) for i in row] for row in ((0, 1), (3, 4))]
    assert found["numbers"]["output"] == [[expected]]


def test_lower_of_a_layer_too_large_for_numbers(conv):
    words = ("lower", "--input", "56x56", "--channels", "64", "--out-channels", "64")
    found = loaded(conv(*words, "--padding", "1", "--batch", "32", "--json"))
    assert found["numbers"] is None
    assert found["matrix_elements"] == 32 * 56 * 56 * 9 * 64
    # Of each tap's 56·56 pixels those of the border are padding: 9·56² - 6·2·56 + 4 inside.
    assert found["cells_of_pixels"] == 32 * 64 * (3 * 56 - 2) ** 2
    assert "filled in up to 200,000 cells" in tidy(conv(*words))


def test_lower_of_a_huge_layer_is_counted_at_once(conv):
    found = loaded(conv("lower", "--input", "90000x90000", "--kernel", "300", "--json"))
    assert (found["least_copies"], found["most_copies"]) == (1, 90_000)
    assert found["cells_of_padding"] == 0
    assert found["taps"] is None


def test_lower_draws_its_sheet(conv, tmp_path):
    conv("lower", "--svg", tmp_path / "a.svg")
    said = [e.text for e in ElementTree.parse(tmp_path / "a.svg").iter()]
    assert "im2col of 1×1×5×5 numbers: matrix 9×9" in said


def test_the_lecture_s_numbers_of_parameters(conv):
    said = tidy(conv("parameters"))
    assert "  weights        10,000,000 = 10000·1000\n" in said
    assert "  parameters     10,001,000\n" in said
    assert "  parameters     15,200\n" in said
    found = loaded(conv("parameters", "--no-bias", "--json"))
    assert found["dense"]["num_parameters"] == 10_000_000
    assert found["conv"]["num_parameters"] == 15_000


def test_parameters_agree_with_torch_s_layers(conv):
    found = loaded(
        conv("parameters", "--in-features", "7", "--out-features", "5", "--in-channels", "4",
             "--out-channels", "6", "--kernel", "3x2", "--groups", "2", "--input", "8x9",
             "--stride", "2", "--padding", "1", "--json")
    )  # fmt: skip
    dense = torch.nn.Linear(7, 5)
    layer = torch.nn.Conv2d(4, 6, (3, 2), groups=2, stride=2, padding=1)
    assert found["dense"]["num_parameters"] == sum(p.numel() for p in dense.parameters())
    assert found["conv"]["num_parameters"] == sum(p.numel() for p in layer.parameters())
    output = layer(torch.zeros(1, 4, 8, 9))
    on_input = found["on_input"]
    assert on_input["output_shape"] == list(output.shape[1:])
    assert on_input["macs"] == layer.weight.numel() * output[0, 0].numel()
    assert on_input["flops"] == 2 * on_input["macs"]
    same = torch.nn.Linear(4 * 8 * 9, output.numel())
    assert on_input["same_as_dense"]["num_parameters"] == sum(p.numel() for p in same.parameters())
    tidy(conv("parameters", "--input", "100x100"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("arithmetic --input 2x2 --kernel 3", "kernel_size 3 spans 3 pixels, more than the input"),
        ("arithmetic --input 5x5 --stride 0", "--stride takes numbers from 1 to 1,000,000, got 0"),
        ("arithmetic --input 5x5 --kernel 3x3x3", "--kernel takes one size or 2 of them (as many"),
        ("arithmetic --input 5x5x5x5", "--input takes 1, 2 or 3 sizes, got 4: '5x5x5x5'"),
        ("arithmetic --input 5xa", "--input takes whole numbers such as 5 or 5x5, got 'a'"),
        ("arithmetic --input -5", "--input takes whole numbers such as 5 or 5x5, got '-5'"),
        ("arithmetic --input 9999999", "--input takes numbers from 1 to 1,000,000, got 9999999"),
        ("arithmetic --padding 1x1x1", "--padding takes 'same', 'valid', one size or 2 of them"),
        ("arithmetic --padding same", "padding 'same' needs stride 1"),
        ("arithmetic --pool median", "--pool takes max or average, got 'median'"),
        ("arithmetic --pool max --transposed", "--transposed and --pool do not go together"),
        ("arithmetic --output-padding 1", "output_padding 1×1 is of a transposed convolution only"),
        ("arithmetic --values nowhere.txt", "--values 'nowhere.txt' is not a file"),
        ("arithmetic --input 200x200 --svg a.svg", "numbers are worked out for at most 10,000"),
        ("arithmetic --input 80x80 --svg a.svg", "--svg draws grids of at most 5,000 cells"),
        ("arithmetic --input 50x50 --animated a.svg", "--animated shows grids of at most 1,600"),
        ("arithmetic --svg /proc/a.svg", "--svg '/proc/a.svg' could not be written: "),
        ("arithmetic --svg nowhere/a.svg", "--svg 'nowhere/a.svg': the folder 'nowhere' does not"),
        ("arithmetic --svg a.svg --animated a.svg", "--svg and --animated both name 'a.svg'"),
        ("lower --channels 3 --groups 2", "in_channels must be divisible by groups, got"),
        ("lower --dtype float31", "--dtype 'float31' is not known; did you mean 'float32'"),
        ("lower --input 99x99 --channels 9 --svg a.svg", "matrices are filled in up to 200,000"),
        ("lower --input 1000000x1000000", "a layer of at most 10,000,000,000 padded input numbers"),
        ("lower --input 2x2", "kernel_size 3 spans 3 pixels"),
        ("parameters --stride 2", "--stride, --padding and --dilation change no number of weights"),
        ("parameters --groups 2", "in_channels must be divisible by groups, got in_channels 3"),
        ("parameters --input 3x3", "kernel_size 5 spans 5 pixels"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_clear_line(refused, monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(*words.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 2\n3 x\n", "line 2: '3 x' is not a row of numbers"),
        ("1 2\n3\n", "line 2 has 1 numbers, the first row 2"),
        ("1 2\n\n3 4\n5 6\n", "empty lines part it into slices of 1, 2 rows"),
        ("1 nan\n", "must hold finite numbers, got NaN or infinity"),
        ("# nothing\n", "must hold finite numbers, got none"),
        ("1e300\n", "must hold numbers up to 1e+12, got 1e+300"),
        ("1 2\n3 4\n5 6\n", "holds 3×2 numbers, 2×2 are needed"),
    ],
)
def test_a_file_of_numbers_that_is_wrong(refused, tmp_path, content, message):
    path = tmp_path / "v.txt"
    path.write_text(content)
    said = refused("arithmetic", "--input", "2x2", "--kernel", "1", "--values", path)
    assert message in said
    assert f"--values '{path}'" in said


def test_binary_files_of_numbers_that_are_wrong(refused, tmp_path):
    path = tmp_path / "v.npy"
    for numbers, message in (
        (np.zeros((2, 2), complex), "holds complex128, not real numbers"),
        (np.zeros((1, 1, 2, 2)), "must have 1, 2 or 3 dimensions"),
        (np.zeros((200, 200)), "holds 40,000 numbers, at most 10,000"),
    ):
        np.save(path, numbers)
        assert message in refused("arithmetic", "--values", path)
    path.write_bytes(b"no array")
    assert f"'{path}' is not a whole .npy file" in refused("arithmetic", "--values", path)
    path.rename(tmp_path / "v.txt")
    (tmp_path / "v.txt").write_bytes(b"\xff\xfe1")
    assert "is not UTF-8 text" in refused("arithmetic", "--values", tmp_path / "v.txt")


def test_a_drawing_never_takes_the_place_of_its_numbers(refused, tmp_path):
    path = tmp_path / "v.svg"
    path.write_text("1 2\n3 4\n")
    said = refused("arithmetic", "--values", path, "--kernel", "1", "--svg", path, "--force")
    assert "is a file that is read; choose another name" in said
    assert path.read_text() == "1 2\n3 4\n"


def test_sizes_and_paddings_as_people_write_them():
    assert sizes("--input", "5X4") == sizes("--input", "5×4") == sizes("--input", "5, 4") == (5, 4)
    assert written_padding("--padding", "0:1", 2) == ((0, 1), (0, 1))
    assert written_padding("--padding", "valid", 2) == "valid"
    with pytest.raises(UserError, match="--padding takes whole numbers such as 5 or 5x5, got ''"):
        written_padding("--padding", "1:", 2)


def test_volumes_are_slices_apart_by_empty_lines(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("1\t2\n3;4\n\n# second slice\n5 6\n7 8\n")
    assert read_numbers("--values", str(path)).tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    assert matrix_lines(np.array([[[1.0]], [[-22.5]]]), 1) == ["    1.0", "", "  −22.5"]


def test_groups_of_a_prime_number_of_channels_are_refused_at_once(refused):
    said = refused("parameters", "--in-channels", "999999937", "--groups", "2")
    assert "in_channels must be divisible by groups, got in_channels 999999937 and groups 2" in said


def test_names_of_files_are_written_out_safely(conv, tmp_path):
    done = conv("arithmetic", "--svg", tmp_path / "e\x1b[31m.svg")
    assert "\x1b" not in done.stdout
    assert "e\\x1b[31m.svg" in done.stdout


def test_windows_are_worked_out_in_the_terminal(conv):
    said = tidy(conv("arithmetic"))
    assert "  1,1  0·0 + 0·1 + 0·2 + 0·2 + 3·2 + 3·0 + 0·0 + 0·1 + 0·2 = 6\n" in said
    assert "drawn with seed" not in said
    assert "kernel (drawn with seed 0; give yours: --kernel-values)" in tidy(
        conv("arithmetic", "--kernel", "2")
    )

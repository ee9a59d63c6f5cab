"""Boxes and masks drawn onto copies of pictures."""

from pathlib import Path

import numpy as np
import pytest
from data_makers import encoded
from PIL import Image

from hubel.annotate import WRITERS, Annotated
from hubel.annotate import drawing as d
from hubel.colours import GROUND, class_colour, ink_on

CLASSES = ["background", "cat", "dog"]
GREY = 128


def picture(h=400, w=600, channels=3):
    return np.full((h, w, channels), GREY, np.uint8)


def boxed(rows, size=(400, 600)):
    return Annotated(Path("a.png"), size, boxes=np.array(rows, np.float64).reshape(-1, 6))


def masked(mask):
    return Annotated(Path("a.png"), mask.shape, mask=mask)


def pixels(image):
    return np.asarray(image).astype(int)


def near(pixel, colour, by=2):
    return np.abs(np.asarray(pixel, int) - colour).max() <= by


def test_a_box_has_its_lines_at_its_corners_and_nothing_inside():
    shown = pixels(d.drawn(picture(), boxed([[1, 0.5, 100, 150, 300, 350]]), CLASSES))
    colour = class_colour(1)
    for y, x in ((250, 100), (250, 299), (349, 200), (349, 299)):
        assert near(shown[y, x], colour), (y, x)
    # Below the line's ends the edge contrasts with it, and further on the picture is untouched.
    assert near(shown[250, 99], ink_on(colour))
    assert near(shown[250, 300], ink_on(colour))
    assert (shown[160:340, 110:290] == GREY).all()
    assert (shown[:100] == GREY).all()
    assert (shown[360:] == GREY).all()


def test_the_words_stand_above_the_box_on_a_patch_of_its_colour():
    shown = pixels(d.drawn(picture(), boxed([[1, 0.5, 100, 150, 300, 350]]), CLASSES))
    patch = shown[135:147, 100:170]
    colours = [tuple(c) for c in patch.reshape(-1, 3).tolist()]
    assert colours.count(class_colour(1)) > len(colours) / 3
    assert min(np.abs(np.array(c) - ink_on(class_colour(1))).max() for c in colours) < 60


def test_words_stay_inside_the_picture_and_off_each_other():
    rows = [[1, 0.9, 590, 0, 600, 10], [2, 0.8, 590, 0, 600, 12], [1, 0.7, 585, 390, 600, 400]]
    taken, words = [], []
    label = d._label

    def noted(*arguments):
        label(*arguments)
        taken[:] = arguments[-1]
        words.append(arguments[3])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(d, "_label", noted)
        d.drawn(picture(), boxed(rows), CLASSES)
    assert len(taken) == 3
    for left, top, right, bottom in taken:
        assert 0 <= left < right <= 600
        assert 0 <= top < bottom <= 400
    assert not d._meet(taken[0], taken[1])
    assert words == ["cat 0.90", "dog 0.80", "cat 0.70"]  # the surest has the first choice


def test_the_surest_box_is_on_top():
    rows = [[1, 0.9, 100, 150, 300, 350], [2, 0.3, 100, 150, 300, 350]]
    shown = pixels(d.drawn(picture(), boxed(rows), CLASSES))
    assert near(shown[250, 100], class_colour(1))


def test_small_pictures_are_enlarged_in_squares_and_large_ones_keep_their_size():
    image, scale = d.canvas(np.arange(12, dtype=np.uint8).reshape(3, 4, 1) * 20)
    assert (image.size, scale) == ((320, 240), 80.0)
    assert pixels(image)[79, 79].tolist() == [0, 0, 0]
    assert pixels(image)[80, 80].tolist() == [100, 100, 100]
    assert d.canvas(picture(2000, 10))[0].size == (10, 2000)
    image, scale = d.canvas(picture(2000, 100), most=500)
    assert (image.size, scale) == ((25, 500), 0.25)
    with pytest.raises(ValueError, match="picture must be uint8"):
        d.canvas(np.zeros((3, 4, 3), np.float32))
    with pytest.raises(ValueError, match="picture must be uint8"):
        d.canvas(np.zeros((3, 4, 2), np.uint8))


def test_lines_and_words_grow_with_the_picture():
    def thickness(side):
        row = [[1, np.nan, side / 4, side / 4, side / 2, side / 2]]
        shown = pixels(d.drawn(picture(side, side), boxed(row, (side, side)), ["a", "b"]))
        return int((np.abs(shown[side * 3 // 8] - class_colour(1)).max(axis=-1) < 3).sum())

    assert thickness(3000) == pytest.approx(5 * thickness(600), rel=0.2)


@pytest.mark.parametrize("spatial", [(20, 30), (8, 9, 10)])
def test_a_mask_tints_its_classes_and_leaves_the_background(spatial):
    mask = np.zeros(spatial, np.uint8)
    mask[..., 3:] = 2
    mask[..., 6:] = 255
    shown = d.painted(np.full((*spatial, 1), GREY, np.uint8), mask, CLASSES).astype(int)
    colour = np.array(class_colour(2))
    assert (shown[..., :2, :] == GREY).all()
    assert (shown[..., 2, :] == 255).all()  # the edge on the side that is not painted
    assert (shown[..., 3, :] == colour).all()
    assert near(shown[..., 4, :], (GREY + colour) / 2)
    assert (shown[..., 5, :] == colour).all()
    assert (shown[..., 6, :] == 255).all()
    assert (shown[..., 7:, :] == round(0.3 * GREY)).all()  # what is of no class is dark


def test_a_tint_is_the_colour_of_the_class_whatever_lies_under_it():
    mask = np.zeros((4, 8), np.uint8)
    mask[:, 4:] = 1
    red = np.full((4, 8, 3), (240, 30, 0), np.uint8)
    shown = d.painted(red, mask, CLASSES).astype(int)
    assert (shown[:, :3] == (240, 30, 0)).all()
    assert near(shown[:, 5:], (90 + np.array(class_colour(1))) / 2)


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"mask must be \(400, 600\), as its picture"):
        d.painted(picture(), np.zeros((600, 400), np.uint8), CLASSES)


def test_a_mask_has_a_legend_of_the_classes_that_occur_below_the_picture():
    mask = np.zeros((400, 600), np.uint8)
    mask[100:200] = 2
    image = d.drawn(picture(), masked(mask), CLASSES)
    assert image.width == 600
    assert 400 < image.height < 500
    legend = pixels(image)[400:].reshape(-1, 3)
    has = [(np.abs(legend - class_colour(k)).max(axis=1) < 3).sum() > 50 for k in (1, 2)]
    assert has == [False, True]


def test_a_long_legend_takes_more_rows():
    few, many = (d._legend(range(n), [f"class {k}" for k in range(40)], 400, 16) for n in (3, 40))
    assert few.width == many.width == 400
    assert many.height > 3 * few.height


def test_marks_have_their_own_colours_words_and_widths():
    red, blue = (200, 0, 0), (0, 0, 200)
    marks = [
        d.Mark((100, 150, 300, 350), red, width=4.0),
        d.Mark((100, 150, 300, 350), blue, "cat", 0.5),
        d.Mark((400, 150, 500, 350), blue),
    ]
    shown = pixels(d.marked(picture(), marks))
    assert near(shown[250, 100:102], blue)  # the last is on top, and narrower
    assert near(shown[250, 103:108], red)
    patch = shown[135:147, 100:170].reshape(-1, 3)
    assert (np.abs(patch - blue).max(axis=1) < 3).mean() > 1 / 3
    assert near(shown[250, 400], blue)
    assert (shown[100:140, 400:500] == GREY).all()  # no words where there is no name


def test_marks_grow_with_a_picture_that_is_enlarged_and_shrink_with_one_that_is_reduced():
    small = d.marked(picture(4, 8), [d.Mark((2, 1, 6, 3), (200, 0, 0))], least=80)
    assert small.size == (80, 40)
    assert near(pixels(small)[20, 20], (200, 0, 0))
    assert near(pixels(small)[29, 40], (200, 0, 0))
    large = d.marked(picture(2000, 3000), [d.Mark((500, 750, 1500, 1750), (200, 0, 0))], most=800)
    assert large.size == (800, 533)
    assert near(pixels(large)[300, 133], (200, 0, 0))


def test_a_mask_is_painted_after_its_picture_is_enlarged():
    mask = np.array([[0, 1]] * 2, np.uint8)
    shown = pixels(d.masked(picture(2, 2), mask, CLASSES, least=20))
    assert shown.shape == (20, 20, 3)
    assert (shown[:, :9] == GREY).all()
    assert near(shown[:, 10], class_colour(1))  # outlines keep to one pixel of the page
    assert near(shown[:, 11:], (GREY + np.array(class_colour(1))) / 2)


def test_panels_lie_beside_and_below_each_other():
    panels = [
        Image.new("RGB", size, (shade,) * 3) for size, shade in (((60, 40), 1), ((50, 30), 2))
    ]
    across = pixels(d.beside(panels))[..., 0]
    assert across.shape == (40, 60 + 4 + 50)
    assert (across[:, :60] == 1).all()
    assert (across[:, 60:64] == 255).all()
    assert (across[:30, 64:] == 2).all()
    down = pixels(d.beside(panels, down=True))[..., 0]
    assert down.shape == (40 + 4 + 30, 60)
    assert (down[44:, :50] == 2).all()


def test_names_that_no_font_has_are_drawn_as_numbers(monkeypatch):
    d._fonts.cache_clear()
    d._words.cache_clear()
    monkeypatch.setattr(d, "_SYSTEM_FONTS", ())
    assert [d._words(name, 7, 14)[0] for name in ("cat", "Käfer", "中国", "a\x1b")] == [
        "cat",
        "Kafer",
        "class 7",
        "class 7",
    ]
    assert d._words("x" * 50, 0, 14)[0] == "x" * 25 + "..."
    d._fonts.cache_clear()
    d._words.cache_clear()


def test_copies_are_drawn_and_photographs_stay_photographs(tmp_path):
    root = tmp_path / "mine"
    root.mkdir()
    plain = Image.new("RGB", (600, 400), (GREY,) * 3)
    for name, kind in (("a.jpg", "JPEG"), ("b.png", "PNG"), ("c.tif", "TIFF")):
        (root / name).write_bytes(encoded(plain, kind))
    annotated = [
        Annotated(root / n, (400, 600), boxes=np.array([[1, 0.5, 100, 150, 300, 350.0]]))
        for n in ("a.jpg", "b.png", "c.tif")
    ]
    paths = WRITERS["pictures"].write(annotated, CLASSES, tmp_path / "out", root)
    assert [p.name for p in paths] == ["a.jpg", "b.png", "c.png"]
    for path in paths:
        with Image.open(path) as image:
            assert image.size == (600, 400)
            assert near(np.asarray(image)[250, 100], class_colour(1), by=40)


def test_the_first_colours_differ_and_all_are_colours():
    first = {class_colour(k) for k in range(21)}
    assert len(first) == 21
    assert all(0 <= c <= 255 for k in range(300) for c in class_colour(k))
    with pytest.raises(ValueError, match="number must be 0 or more"):
        class_colour(-1)


@pytest.mark.parametrize("name", ["background", " Background ", "BG"])
def test_a_background_is_grey_and_the_others_keep_their_colours(name):
    classes = ["cat", name, "dog"]
    assert [class_colour(k, classes) for k in range(4)] == [
        class_colour(0), GROUND, class_colour(2), class_colour(3),
    ]  # fmt: skip
    assert class_colour(1, ["cat", "backgrounds"]) == class_colour(1)


def contrast(a, b):
    """WCAG 2's ratio, from the definition."""

    def luminance(colour):
        linear = [
            c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
            for c in (x / 255 for x in colour)
        ]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_words_on_every_colour_have_the_contrast_that_wcag_asks_for():
    assert all(contrast(class_colour(k), ink_on(class_colour(k))) >= 4.5 for k in range(255))

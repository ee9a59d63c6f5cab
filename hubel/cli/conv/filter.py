"""`hubel conv filter PICTURE`: original, kernel and result on one sheet."""

import io
import itertools
import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hubel.cli.output import destination, write_file
from hubel.errors import UserError, printable

if TYPE_CHECKING:
    from hubel.conv.filter_kernels import Array, Filter
    from hubel.conv.filters import Filtered

__all__ = ["filter"]

_LARGEST_PICTURE = 1 << 30
_LARGEST_KERNEL = 1 << 20


def filter(
    picture: str = typer.Argument(
        ...,
        help="A picture, or a .npy of (h, w), (h, w, 3) or a volume (d, h, w).",
        metavar="PICTURE",
    ),
    kernel: str | None = typer.Option(
        None,
        help="sobel (default), prewitt, scharr, laplacian, laplacian8, gaussian, box, sharpen, "
        'emboss, identity, gabor; or numbers: "1 0 -1; 2 0 -2; 1 0 -1" (fractions too: 1/9).',
    ),
    kernel_values: str | None = typer.Option(
        None, help="CSV file with the kernel's numbers, one row a line; in place of --kernel."
    ),
    direction: str | None = typer.Option(
        None,
        help="Of sobel, prewitt, scharr: horizontal (change from left to right), vertical, "
        "depth (volumes) or magnitude (default).",
    ),
    sigma: float | None = typer.Option(
        None, help="Of gaussian (default 1) and gabor (default 0.56 wavelengths), in pixels."
    ),
    size: int | None = typer.Option(None, help="Side of box in pixels (default 3)."),
    orientations: int | None = typer.Option(
        None, help="Kernels of the gabor bank (default 4); the result is their largest response."
    ),
    wavelength: float | None = typer.Option(None, help="Of gabor, in pixels (default 6)."),
    border: str = typer.Option(
        "reflect", help="Beyond the edge, as scipy.ndimage: reflect|constant|nearest|mirror|wrap."
    ),
    colour: str | None = typer.Option(
        None,
        help="channel or luminance (Rec. 601). Default: luminance for kernels that sum to 0, "
        "which find change, else channel.",
    ),
    show: str | None = typer.Option(
        None,
        help="How values become grey levels: signed (0 is grey), absolute or clipped. Default: "
        "what suits the kernel; the sheet says it.",
    ),
    flip: bool = typer.Option(
        False, "--flip", help="Flip the kernel along every axis: the mathematician's convolution."
    ),
    output: str | None = typer.Option(
        None,
        help="The sheet, .png or .svg (default: PICTURE-KERNEL.png here, the first free name).",
    ),
    raw: str | None = typer.Option(None, help="Save the result's float64 values as .npy too."),
    force: bool = typer.Option(False, "--force", help="Replace files that exist."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout."),
) -> None:
    """Filter PICTURE, and draw original, kernel and result on one sheet."""
    source = Path(picture)
    pixels = _read(source)
    chosen = _filter(
        kernel,
        kernel_values,
        pixels.ndim - 1,
        {
            "direction": direction,
            "sigma": sigma,
            "size": size,
            "orientations": orientations,
            "wavelength": wavelength,
        },
    )
    import numpy as np

    from hubel.conv.filters import filter_picture
    from hubel.draw.filter_sheet import filter_sheet, sheet_file

    # Checked before the work, so that a wrong name costs nothing.
    read = (picture, kernel_values)
    if output is None:
        sheet = _free_name(f"{source.stem}-{chosen.name}")
    else:
        sheet = destination("--output", output, (".png", ".svg"), read, force)
    values = destination("--raw", raw, (".npy",), read, force) if raw is not None else None

    filtered = filter_picture(pixels, chosen, border=border, colour=colour, flip=flip)
    drawn = filter_sheet(pixels, filtered, name=source.name, show=show)
    if values is not None:
        content = io.BytesIO()
        result = filtered.result
        np.save(content, result[..., 0] if result.shape[-1] == 1 else result)
        write_file("--raw", values, content.getvalue())
    write_file("--output", sheet, sheet_file(drawn, sheet.suffix))
    facts = _facts(source, pixels, filtered, show or filtered.natural_show, sheet, values)
    if json:
        print(json_module.dumps(facts, allow_nan=False))
    else:
        _print(facts, chosen)


def _check_bytes(option: str, path: Path, most: int) -> None:
    size = path.stat().st_size
    if size > most:
        raise UserError(
            f"{option} '{path}' has {size:,} bytes, at most {most:,} are read; give a smaller file"
        )


def _free_name(stem: str) -> Path:
    """`stem`.png in the working folder, or the first of `stem`-2.png, … that is free."""
    from hubel.data.paths import exists

    names = itertools.chain([stem], (f"{stem}-{n}" for n in itertools.count(2)))
    return next(p for p in (Path(f"{name}.png") for name in names) if not exists(p))


def _read(path: Path) -> "Array":
    """The picture or volume, (*size, c). `UserError` for whatever cannot be read."""
    from hubel.data.npy import open_npy
    from hubel.data.paths import exists, is_file
    from hubel.data.pictures import decode_picture
    from hubel.data.source import UnreadableSampleError

    if not exists(path):
        raise UserError(f"PICTURE '{path}' does not exist; check the spelling")
    if not is_file(path):
        raise UserError(f"PICTURE '{path}' is not a regular file; name one picture")
    if path.suffix.lower() != ".npy":
        _check_bytes("PICTURE", path, _LARGEST_PICTURE)
        try:
            return decode_picture(path.read_bytes())
        except UnreadableSampleError as error:
            raise UserError(
                f"PICTURE '{path}' could not be read: {error}; give a whole picture or a .npy"
            ) from error
    values = open_npy(path)
    if values.ndim == 2 or (values.ndim == 3 and values.shape[-1] not in (1, 3)):
        values = values[..., None]
    if values.ndim not in (3, 4) or values.shape[-1] not in (1, 3):
        raise UserError(
            f"PICTURE '{path}' has shape {values.shape}; a .npy must be (h, w), (d, h, w), or one "
            f"of them with 1 or 3 channels last"
        )
    return values


def _filter(
    kernel: str | None, kernel_values: str | None, dims: int, settings: dict[str, Any]
) -> "Filter":
    """The filter that the options ask for."""
    from hubel.conv.filter_kernels import kernel_of_numbers, make_filter
    from hubel.data.paths import is_file

    if kernel_values is None:
        kernel = "sobel" if kernel is None else kernel
        if kernel[:1].isalpha() and not any(c in kernel for c in " ,;"):
            return make_filter(kernel, dims, **settings)
        where, text = "--kernel", kernel
    else:
        if kernel is not None:
            raise UserError(
                f"--kernel and --kernel-values cannot both be given, got '{kernel}' and "
                f"'{kernel_values}'; leave one out"
            )
        where = f"--kernel-values '{kernel_values}'"
        if not is_file(Path(kernel_values)):
            raise UserError(f"{where} is not a file; check the spelling")
        _check_bytes("--kernel-values", Path(kernel_values), _LARGEST_KERNEL)
        try:
            text = Path(kernel_values).read_text("utf-8-sig")
        except UnicodeDecodeError:
            raise UserError(f"{where} is not text; give numbers, one row a line") from None
    for option, value in settings.items():
        if value is not None:
            raise UserError(
                f"--{option} is for named kernels, got {value} with numbers; leave it out"
            )
    return kernel_of_numbers(text, where)


def _facts(
    source: Path, pixels: "Array", filtered: "Filtered", show: str, sheet: Path, raw: Path | None
) -> dict[str, Any]:
    """What --json prints."""
    chosen, result = filtered.filter, filtered.result
    return {
        "picture": str(source),
        "size": list(pixels.shape[:-1]),
        "channels": pixels.shape[-1],
        "kernel": {
            "name": chosen.name,
            "title": chosen.title,
            "combine": chosen.combine,
            "kernels": [
                {"label": label, "size": list(k.shape), "values": k.tolist()}
                for label, k in zip(chosen.labels, chosen.kernels, strict=True)
            ],
        },
        "border": filtered.border,
        "colour": filtered.colour,
        "flip": filtered.flip,
        "show": show,
        "result": {
            "size": list(result.shape[:-1]),
            "channels": result.shape[-1],
            "min": float(result.min()),
            "max": float(result.max()),
            "mean": float(result.mean()),
        },
        "output": str(sheet),
        "raw": None if raw is None else str(raw),
    }


def _print(facts: dict[str, Any], chosen: "Filter") -> None:
    """The same for people, at most 80 columns but for paths."""
    from hubel.shapes import format_shape

    unit = "voxels" if len(facts["size"]) == 3 else "pixels"
    print(f"{chosen.title}, {format_shape(*facts['size'])} {unit}")
    print(printable(facts["picture"]))
    boards = [_matrix(kernel) for kernel in chosen.kernels]
    if max(len(line) for board in boards for line in board) <= 76:
        for label, board in zip(chosen.labels, boards, strict=True):
            print(f"\n  {label}", *(f"    {line}" for line in board), sep="\n")
    else:
        largest = max(abs(kernel).max() for kernel in chosen.kernels)
        numbers = f"{format_shape(*chosen.kernels[0].shape)} numbers, the largest {largest:.3g}"
        print(f"\n  {len(boards)} × {numbers}" if len(boards) > 1 else f"\n  {numbers}")
    sense = "flipped (convolution)" if facts["flip"] else "not flipped (correlation)"
    print(f"\nborder {facts['border']}, by {facts['colour']}, kernel {sense}")
    result = facts["result"]
    print(f"result {result['min']:.4g} to {result['max']:.4g}, mean {result['mean']:.4g}; ", end="")
    print(f"shown {facts['show']}")
    print(f"sheet: {printable(facts['output'])}")
    if facts["raw"]:
        print(f"values: {printable(facts['raw'])}")


def _matrix(kernel: "Array") -> list[str]:
    """A kernel's numbers in columns; the slices of a volume's side by side."""
    from hubel.draw.filter_sheet import written

    slices = written(kernel).reshape((1,) * (3 - kernel.ndim) + kernel.shape)
    width = max(len(word) for word in slices.flat)
    return [
        "    ".join(" ".join(word.rjust(width) for word in layer[row]) for layer in slices)
        for row in range(slices.shape[1])
    ]

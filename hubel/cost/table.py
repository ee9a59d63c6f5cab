"""The cost of a network as text for a terminal of 80 columns."""

from collections.abc import Sequence

from hubel.cost.fit_cost import FitPrediction
from hubel.cost.predict import Estimate, Prediction
from hubel.cost.records import Gemm, Seen
from hubel.cost.summary import Cost, Row, blocks
from hubel.cost.words import bytes_words, seconds_words, short
from hubel.shapes import format_shape

__all__ = ["prediction_lines", "shown_rows", "table_lines"]

_MAX_ROWS = 40
_NAME = 22


def shown_rows(rows: tuple[Row, ...], depth: int | None) -> tuple[tuple[Row, ...], int | None]:
    """The rows by blocks of `depth`, and the depth. None: all, or the deepest of 40 rows or less.

    The depth returned is None where every layer has its row.
    """
    if depth is not None:
        return blocks(rows, depth), depth
    if len(rows) <= _MAX_ROWS:
        return rows, None
    deepest = max(row.name.count(".") for row in rows)
    for tried in range(deepest, 1, -1):
        found = blocks(rows, tried)
        if len(found) <= _MAX_ROWS:
            return found, tried
    return blocks(rows, 1), 1


def table_lines(cost: Cost, depth: int | None) -> list[str]:
    """Both tables and what is to be said about them; no line is longer than 80."""
    rows, used = shown_rows(cost.rows, depth)
    input_words = format_shape(*cost.input_shape)
    lines = [
        f"{cost.model} on {input_words}: {cost.params:,} parameters,",
        f"{cost.macs:,} MACs = {2 * cost.macs:,} FLOPs a picture",
        f"a training step of {cost.batch_size}: {short(cost.step_macs)} MACs = "
        f"{short(2 * cost.step_macs)} FLOPs, {bytes_words(cost.training.kept_bytes)} kept for "
        f"backward",
        "",
        *_work(rows, cost),
        "",
        *_geometry(rows, cost.input_shape[1:]),
    ]
    if used is not None:
        lines.append(
            f"{len(cost.rows)} layers in {len(rows)} blocks of depth {used}; --depth "
            f"{used + 1} shows more"
        )
    return lines


def _cut(name: str, width: int = _NAME) -> str:
    """The beginning and the end of a name too long for its column."""
    if len(name) <= width:
        return name
    head = width // 3
    return f"{name[:head]}…{name[len(name) - (width - head - 1) :]}"


def _columns(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Aligned; the first `left` columns to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        " ".join(
            word.ljust(width) if i < left else word.rjust(width)
            for i, (word, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _number(value: int) -> str:
    return short(value) if value else "·"


def _work(rows: tuple[Row, ...], cost: Cost) -> list[str]:
    words = [["layer", "kind", "output", "params", "MACs", "FLOPs", "kept"]]
    for row in rows:
        words.append(
            [
                _cut(row.name + "*" * row.training_only),
                row.kind[:10],
                format_shape(*row.output_shape)[:14],
                _number(row.params),
                _number(row.macs),
                _number(row.flops),
                bytes_words(row.activation_bytes) if row.activation_bytes else "·",
            ]
        )
    words.append(
        [
            "total",
            "",
            "",
            short(cost.params),
            short(cost.macs),
            short(2 * cost.macs),
            bytes_words(cost.training.kept_bytes),
        ]
    )
    lines = _columns(words, 2)
    rule = "─" * max(map(len, lines))
    lines = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
    lines.append("MACs, FLOPs (2 a MAC) of one picture; kept for backward by the step, as float32")
    if any(row.training_only for row in rows):
        lines.append("* runs in training only: no MACs in inference")
    return lines


def _gemm_words(gemms: tuple[Gemm, ...]) -> str:
    if not gemms:
        return ""
    distinct = list(dict.fromkeys(gemms))
    largest = max(distinct, key=lambda g: g.macs)
    more = len(gemms) - 1
    return f"{largest} +{more}" if more else str(largest)


def _seen_words(seen: tuple[Seen | None, ...], sides: tuple[int, ...]) -> list[str]:
    if not seen:
        return ["", "", ""]
    sizes, strides, starts = [], [], []
    for one, side in zip(seen, sides, strict=True):
        if one is None:
            sizes.append("?")
            strides.append("?")
            starts.append("?")
        elif one.whole(side):
            sizes.append("all")
            strides.append("–")
            starts.append("–")
        else:
            sizes.append(str(one.size))
            strides.append("–" if one.stride is None else str(one.stride))
            starts.append(str(one.start).replace("-", "−"))
    return [
        values[0] if len(set(values)) == 1 else "×".join(values)
        for values in (sizes, strides, starts)
    ]


def _geometry(rows: tuple[Row, ...], sides: tuple[int, ...]) -> list[str]:
    """Rows that multiply matrices or change what an output sees."""
    words = [["layer", "GEMM M×K×N", "sees", "stride", "from"]]
    before: tuple[Seen | None, ...] = ()
    reasons: dict[str, None] = {}
    for row in rows:
        if row.gemms or (row.seen and row.seen != before):
            seen = _seen_words(row.seen, sides)
            words.append([_cut(row.name), _gemm_words(row.gemms), *seen])
        before = row.seen or before
        if row.unseen_reason:
            reasons.setdefault(row.unseen_reason)
    lines = _columns(words, 1)
    lines.insert(1, "─" * max(map(len, lines)))
    lines.append("sees: side of the window of input pixels behind one output, its step from one")
    lines.append("output to the next, and where the first begins (− is padding); all: everything")
    lines += [f"?: {reason}" for reason in reasons]
    return lines


def _estimate(estimate: Estimate) -> str:
    low, high = seconds_words(estimate.low), seconds_words(estimate.high)
    return f"{seconds_words(estimate.value)} ({low} to {high})"


def _rate(estimate: Estimate) -> str:
    value, low, high = (
        f"{rate:.2g}" if rate < 10 else short(rate)
        for rate in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} ({low} to {high}) pictures/s"


def _memory(estimate: Estimate) -> str:
    low, high = bytes_words(round(estimate.low)), bytes_words(round(estimate.high))
    return f"{bytes_words(round(estimate.value))} ({low} to {high})"


def prediction_lines(
    cost: Cost, found: Prediction, fit: FitPrediction | None, depth: int | None
) -> list[str]:
    """What is predicted for this machine; no line is longer than 80."""
    n = found.batch_size
    lines = [
        f"predicted for this machine ({found.engine}), batches of {n}",
        "(in brackets: where 9 of 10 such predictions were true, docs/benchmarks.md)",
        "",
        f"training step   {_estimate(found.step_s)}",
        f"                {_rate(found.step_s.rate_of(n))}",
        f"                most memory {_memory(found.step_bytes)}",
        f"inference       {_estimate(found.inference_s)}",
        f"                {_rate(found.inference_s.rate_of(n))}",
        f"                most memory {_memory(found.inference_bytes)}",
    ]
    if fit is not None:
        lines += [
            f"an epoch        {_estimate(fit.epoch_s)}",
            f"                {fit.facts.num_train:,} pictures in {fit.steps:,} steps, "
            f"{fit.facts.num_val:,} in validation",
            f"{fit.epochs} epoch{'s' * (fit.epochs > 1)}".ljust(16) + _estimate(fit.fit_s),
            "                with the first and last validation, without the program's start",
            f"                most memory {_memory(fit.fit_bytes)}",
            f"reading         {seconds_words(fit.facts.read_s)} once, before the first fit",
        ]
    if found.busy:
        lines += [
            "",
            "The machine was busy while this was timed, so times may be far too long:",
            "repeat it when nothing else runs. Nothing was kept of it.",
        ]
    lines += ["", *_times(cost, found, depth)]
    if found.scaled_from < n:
        lines.append(
            f"operations were timed on {found.scaled_from} pictures and scaled to {n} by their work"
        )
    if found.replayed_share < 0.98:
        lines.append(
            f"{1 - found.replayed_share:.0%} of the time is of operations that could not be timed "
            f"alone (roofline)"
        )
    return lines


_LEAST_SHARE = 0.005


def _times(cost: Cost, found: Prediction, depth: int | None) -> list[str]:
    """Where a training step's time goes."""
    rows, _ = shown_rows(cost.rows, depth)
    total_s = found.step_s.value
    words = [["layer", "step", "share", "inference", "bound by"]]
    small = [0, 0.0]
    for row in rows:
        if row.time is None or row.time.step_s + row.time.inference_s == 0.0:
            continue
        if row.time.step_s < _LEAST_SHARE * total_s:
            small = [small[0] + 1, small[1] + row.time.step_s]
            continue
        words.append(
            [
                _cut(row.name),
                seconds_words(row.time.step_s),
                f"{row.time.step_s / total_s:.1%}",
                seconds_words(row.time.inference_s),
                row.time.bound,
            ]
        )
    if small[0]:
        words.append(
            [
                f"({small[0]} more)",
                seconds_words(small[1]),
                f"{small[1] / total_s:.1%}",
                "",
                "",
            ]
        )
    outside_s = found.outside_s
    words.append(
        ["optimizer, loss", seconds_words(outside_s), f"{outside_s / total_s:.1%}", "", ""]
    )
    lines = _columns(words, 1)
    lines.insert(1, "─" * max(map(len, lines)))
    lines.append("bound by: what would take longer at this machine's best, the multiplications")
    lines.append("or moving the numbers through memory")
    return lines

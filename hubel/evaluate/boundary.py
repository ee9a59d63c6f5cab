"""Boundary F: how well the outlines of a segmentation follow the true ones.

Source: Csurka, Larlus and Perronnin 2013, What is a good evaluation measure for semantic
segmentation? (BMVC), section 3: of each class, the share of predicted boundary pixels that have
a true one nearer than a tolerance (precision), the reverse (recall), and their harmonic mean,
per picture; the tolerance is 0.75 % of the picture's diagonal.
"""

import numpy as np
import numpy.typing as npt

__all__ = ["TOLERANCE", "boundary_f"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

TOLERANCE = 0.0075
"""Share of the diagonal, as in the paper."""


def boundary_f(
    truth: npt.ArrayLike,
    prediction: npt.ArrayLike,
    num_classes: int,
    *,
    ignored: int = 255,
    tolerance: float = TOLERANCE,
) -> FloatArray:
    """Boundary F (num_classes,) of one picture or volume.

    Parameters
    ----------
    truth, prediction: label maps of one shape (*size); what is `ignored` in the truth is
        ignored in both.
    tolerance: share of the diagonal; a pixel is found by one that is nearer than that, and
        always by one at its own place.

    A boundary pixel has a face neighbour of another class; where the picture or the ignored
    region begins there is no boundary. NaN for a class without a boundary in either map; 0 for
    one that has it in one of them only.
    """
    t, p = np.asarray(truth), np.asarray(prediction)
    if t.shape != p.shape:
        raise ValueError(
            f"truth and prediction must have one shape. Got {t.shape} and {p.shape} instead."
        )
    judged = t != ignored
    edges = _edges(t, judged), _edges(p, judged)
    offsets = _offsets(t.shape, tolerance)
    result = np.full(num_classes, np.nan)
    for c in np.union1d(t[edges[0]], p[edges[1]]).tolist():
        true, predicted = edges[0] & (t == c), edges[1] & (p == c)
        precision, recall = _found(predicted, true, offsets), _found(true, predicted, offsets)
        total = precision + recall
        result[c] = 2 * precision * recall / total if total else 0.0
    return result


def _edges(labels: npt.NDArray[np.generic], judged: BoolArray) -> BoolArray:
    """Pixels with a face neighbour of another class, both being judged."""
    edges = np.zeros(labels.shape, np.bool_)
    for axis in range(labels.ndim):
        low = tuple(slice(None, -1) if i == axis else slice(None) for i in range(labels.ndim))
        high = tuple(slice(1, None) if i == axis else slice(None) for i in range(labels.ndim))
        differ = (labels[low] != labels[high]) & judged[low] & judged[high]
        edges[low] |= differ
        edges[high] |= differ
    return edges


def _offsets(size: tuple[int, ...], tolerance: float) -> IntArray:
    """Steps (k, dims) shorter than the tolerance, the shortest first; no step is always one."""
    reach = tolerance * float(np.sqrt(np.sum(np.square(size))))
    axis = np.arange(-int(reach), int(reach) + 1)
    steps = np.stack(np.meshgrid(*[axis] * len(size), indexing="ij"), axis=-1)
    steps = steps.reshape(-1, len(size))
    squares = (steps**2).sum(axis=1)
    near = (squares < reach**2) | (squares == 0)
    result: IntArray = steps[near][np.argsort(squares[near], kind="stable")]
    return result


def _found(points: BoolArray, others: BoolArray, offsets: IntArray) -> float:
    """Share of the `points` (*size) that have one of the `others` within the `offsets`."""
    places = np.argwhere(points)
    if len(places) == 0:
        return 0.0
    reach = int(np.abs(offsets).max(initial=0))
    padded = np.pad(others, reach)
    strides = np.cumprod([1, *padded.shape[:0:-1]])[::-1]
    left = (places + reach) @ strides
    flat = padded.ravel()
    for step in (offsets @ strides).tolist():
        # Most points are found within the first steps, so the later ones cost little.
        left = left[~flat[left + step]]
        if len(left) == 0:
            break
    return 1 - len(left) / len(places)

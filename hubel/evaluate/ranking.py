"""How good a scorer of poses is, beside the docking scores and together with them."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.errors import UserError
from hubel.evaluate.notes import widthless_intervals
from hubel.evaluate.plain import lists, tuples
from hubel.evaluate.result import Interval
from hubel.metrics.consensus import Consensus, fully_scored
from hubel.metrics.ranking import ligand_auc, roc_auc, roc_auc_interval, top_good
from hubel.stats import bootstrap_interval

__all__ = [
    "CONSENSUS",
    "DOCKING",
    "NETWORK",
    "NETWORK_COMPARED",
    "JudgedLigand",
    "PoseScores",
    "RankingEvaluation",
    "ScorerFigures",
    "evaluate_ranking",
]

NETWORK, DOCKING, CONSENSUS = "network", "docking score", "consensus"
NETWORK_COMPARED = "network, same ligands"
"""The network on the ligands that the docking scores can rank, where these are not all."""

FloatArray = npt.NDArray[np.float64]
_CURVE_POINTS = 200


@dataclass(frozen=True)
class ScorerFigures:
    """The figures of one way to score. Intervals are of 95 %, by bootstrap over ligands.

    Attributes
    ----------
    auc: area under the ROC curve over all poses.
    ligand_auc: mean of the areas within each ligand that has poses of both kinds.
    top1, top3: share of ligands of which a good pose is the first, or among the first three.
    roc: false and true positive rates of the curve, at most 200 points.
    """

    scorer: str
    auc: float
    auc_interval: Interval
    ligand_auc: float
    ligand_auc_interval: Interval
    top1: float
    top1_interval: Interval
    top3: float
    top3_interval: Interval
    roc: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class JudgedLigand:
    """One ligand: its poses, and at which place each scorer has the first good one, None where
    there is none; the docking's and the consensus's are None where a docking score is missing.
    """

    name: str
    n: int
    num_good: int
    network: int | None
    docking: int | None
    consensus: int | None


@dataclass(frozen=True)
class PoseScores:
    """What each of n poses was given; higher is better but for `docking`.

    Attributes
    ----------
    ids, ligands: names (n,).
    good: bool (n,).
    network: the network's log odds of a good pose, mean over orientations; `spread` is their
        standard deviation, 0 of one orientation.
    docking: in kcal/mol, NaN where there is none.
    consensus: log odds, NaN where the ligand lacks a docking score; None where there is none.
    """

    ids: tuple[str, ...]
    ligands: tuple[str, ...]
    good: npt.NDArray[np.bool_]
    network: FloatArray
    spread: FloatArray
    docking: FloatArray
    consensus: FloatArray | None

    def to_csv(self) -> str:
        """One line a pose, in the order of the split, numbers in six digits."""
        columns = [self.network, self.spread, self.docking]
        names = ["network", "spread", "docking"]
        if self.consensus is not None:
            columns, names = [*columns, self.consensus], [*names, "consensus"]
        file = io.StringIO()
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["id", "ligand", "good", *names])
        for i, name in enumerate(self.ids):
            shown = ["" if np.isnan(c[i]) else f"{c[i]:.6g}" for c in columns]
            rows.writerow([name, self.ligands[i], int(self.good[i]), *shown])
        return file.getvalue()


@dataclass(frozen=True)
class RankingEvaluation:
    """A scorer's result on one split.

    Attributes
    ----------
    n, num_good: poses judged, and good ones among them.
    num_ligands, with_good: ligands, and those that have a good pose: no scorer finds one for the
        others.
    num_unscored: poses that have no docking score.
    num_compared: ligands whose poses all have one, which alone the docking scores and the
        consensus are judged on.
    random_top1: `top1` of poses in any order.
    orientations: in how many each pose was looked at; scores are means over them.
    scorers: the network, and where there are docking scores these and the consensus; before them
        the network on `num_compared` ligands, if these are not all.
    ligands: those whose first good pose the network has last, first.
    notes: sentences about what the figures leave out.
    """

    split: str
    n: int
    num_good: int
    num_ligands: int
    with_good: int
    num_unscored: int
    num_compared: int
    random_top1: float
    orientations: int
    scorers: tuple[ScorerFigures, ...]
    consensus: Consensus | None
    ligands: tuple[JudgedLigand, ...]
    notes: tuple[str, ...]

    @property
    def network(self) -> ScorerFigures:
        """The network's own figures."""
        return self.scorers[0]

    def to_json(self) -> dict[str, Any]:
        """A document of JSON's own types; it holds no NaN and no infinity."""
        document: dict[str, Any] = lists(asdict(self))
        figures = {key: value for key, value in document["scorers"][0].items() if key != "roc"}
        return {"metrics": figures, **document}

    @staticmethod
    def from_json(document: dict[str, Any]) -> "RankingEvaluation":
        """The evaluation that `to_json` wrote."""
        values = tuples({key: value for key, value in document.items() if key != "metrics"})
        weights = values["consensus"]
        return RankingEvaluation(
            **{
                **values,
                "scorers": tuple(ScorerFigures(**s) for s in values["scorers"]),
                "consensus": None if weights is None else Consensus(**weights),
                "ligands": tuple(JudgedLigand(**one) for one in values["ligands"]),
            }
        )


def evaluate_ranking(
    views: FloatArray,
    docking_scores: FloatArray,
    good: npt.NDArray[np.bool_],
    ligands: npt.NDArray[np.int64],
    names: Sequence[str],
    ids: Sequence[str],
    *,
    consensus: Consensus | None,
    split: str,
    seed: int = 0,
) -> tuple[RankingEvaluation, PoseScores]:
    """Judge the scores of n poses; the figures, and the scores themselves.

    Parameters
    ----------
    views: (orientations, n) the network's log odds of a good pose.
    docking_scores: (n,) in kcal/mol, lower is better; NaN where there is none.
    ligands: (n,) the number of each pose's ligand, an index into `names`.
    ids: names (n,) of the poses.
    consensus: weights that were fitted on other poses.
    split: the split's name, kept in the result.
    seed: of the bootstrap.

    Raises `UserError` where all poses are of one kind.
    """
    if good.all() or not good.any():
        raise UserError(
            f"split '{split}' has {int(good.sum())} good poses of {len(good)}; there is nothing to "
            f"tell apart: choose another split, or data with both kinds"
        )
    notes = []
    log_odds = views.mean(axis=0)
    scores = {NETWORK: log_odds}
    numbers = np.unique(ligands)
    compared = fully_scored(docking_scores, ligands)
    num_compared = len(np.unique(ligands[compared]))
    both_kinds = bool(good[compared].any() and not good[compared].all())
    if both_kinds:
        if not compared.all():
            scores[NETWORK_COMPARED] = np.where(compared, log_odds, np.nan)
        scores[DOCKING] = np.where(compared, -docking_scores, np.nan)
        if consensus is not None:
            together = consensus.log_odds(
                log_odds[compared], docking_scores[compared], ligands[compared]
            )
            scores[CONSENSUS] = np.full(len(good), np.nan)
            scores[CONSENSUS][compared] = together
        else:
            notes.append("no consensus: the validation split could not tell its weights")
    num_unscored = int((~np.isfinite(docking_scores)).sum())
    if num_unscored:
        notes.append(
            f"{num_unscored} of {len(good)} poses have no docking score; "
            + _what_is_compared(num_compared, len(numbers), both_kinds)
        )
    figures = []
    for name, given in scores.items():
        rows = compared | (name == NETWORK)
        figures.append(_figures(name, given[rows], good[rows], ligands[rows], seed))
    with_good = int(sum(good[ligands == number].any() for number in numbers))
    if with_good < len(numbers):
        notes.append(
            f"{len(numbers) - with_good} of {len(numbers)} ligands have no good pose; they count "
            f"as missed"
        )
    notes += widthless_intervals({f"the {f.scorer}'s AUC": f.auc_interval for f in figures})
    pose_scores = PoseScores(
        tuple(ids),
        tuple(names[number] for number in ligands.tolist()),
        good,
        log_odds,
        views.std(axis=0),
        docking_scores,
        scores.get(CONSENSUS),
    )
    evaluation = RankingEvaluation(
        split=split,
        n=len(good),
        num_good=int(good.sum()),
        num_ligands=len(numbers),
        with_good=with_good,
        num_unscored=num_unscored,
        num_compared=num_compared,
        random_top1=float(top_good(np.zeros(len(good)), good, ligands, 1).mean()),
        orientations=len(views),
        scorers=tuple(figures),
        consensus=consensus if CONSENSUS in scores else None,
        ligands=_ranked(scores, good, ligands, names),
        notes=tuple(notes),
    )
    return evaluation, pose_scores


def _what_is_compared(num_compared: int, num_ligands: int, both_kinds: bool) -> str:
    """What follows of a missing docking score."""
    if not num_compared:
        return "no ligand has one for each of its poses: there is nothing to compare with"
    whole = f"the {num_compared} of {num_ligands} ligands whose poses all have one"
    if not both_kinds:
        return f"{whole} have poses of one kind only: there is nothing to compare with"
    return f"'{NETWORK_COMPARED}' and the scorers below it are judged on {whole}"


def _figures(
    scorer: str,
    scores: FloatArray,
    good: npt.NDArray[np.bool_],
    ligands: npt.NDArray[np.int64],
    seed: int,
) -> ScorerFigures:
    area = roc_auc(scores, good)
    assert area is not None  # noqa: S101 — both kinds are there
    tops = [top_good(scores, good, ligands, k) for k in (1, 3)]
    within = ligand_auc(scores, good, ligands)
    within = within if len(within) else np.array([0.5])
    return ScorerFigures(
        scorer=scorer,
        auc=area,
        auc_interval=roc_auc_interval(scores, good, ligands, seed),
        ligand_auc=float(within.mean()),
        ligand_auc_interval=_mean_interval(within, seed),
        top1=float(tops[0].mean()),
        top1_interval=_mean_interval(tops[0], seed),
        top3=float(tops[1].mean()),
        top3_interval=_mean_interval(tops[1], seed),
        roc=_curve(scores, good),
    )


def _mean_interval(values: FloatArray, seed: int) -> Interval:
    ones = np.ones(len(values), np.int64)
    return bootstrap_interval(ones, lambda counts: counts @ values / len(values), seed=seed)


def _curve(scores: FloatArray, good: npt.NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    from sklearn.metrics import roc_curve  # takes a second to import

    false, true, _ = roc_curve(good, scores)
    kept = np.unique(np.linspace(0, len(false) - 1, _CURVE_POINTS).astype(int))
    return tuple((float(false[i]), float(true[i])) for i in kept)


def _ranked(
    scores: dict[str, FloatArray],
    good: npt.NDArray[np.bool_],
    ligands: npt.NDArray[np.int64],
    names: Sequence[str],
) -> tuple[JudgedLigand, ...]:
    rows = []
    for number in np.unique(ligands).tolist():
        own = ligands == number

        def place(scorer: str, own: npt.NDArray[np.bool_] = own) -> int | None:
            if scorer not in scores or not good[own].any() or np.isnan(scores[scorer][own]).any():
                return None
            order = np.argsort(-scores[scorer][own], kind="stable")
            return int(good[own][order].argmax()) + 1

        found = [place(scorer) for scorer in (NETWORK, DOCKING, CONSENSUS)]
        rows.append(JudgedLigand(names[number], int(own.sum()), int(good[own].sum()), *found))
    return tuple(sorted(rows, key=lambda row: (-(row.network or 0), row.name)))

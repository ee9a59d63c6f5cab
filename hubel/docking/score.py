"""Poses scored by a network: a trained run's, or one of gnina's published ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from hubel.data.loader import samples_at_once
from hubel.errors import UserError
from hubel.inference import load_trained
from hubel.metrics.consensus import Consensus
from hubel.models import Model, ModelSpec, build
from hubel.models.gnina import published_weights
from hubel.molecules.complexes import Complexes, Viewed
from hubel.molecules.drawing import Drawing
from hubel.molecules.grid import densities, random_rotations
from hubel.randomness import generator
from hubel.runs import RunFolder
from hubel.tasks import TASKS, AnswersPose
from hubel.weights_file import read_weights

__all__ = ["NetworkScores", "Scorer", "load_scorer"]

_PUBLISHED = ("gnina_default2018", "gnina_default2017", "gnina_dense")

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NetworkScores:
    """What a network says of n poses, in each of several orientations.

    Attributes
    ----------
    log_odds: (orientations, n), of a good pose.
    affinities: (orientations, n), -log₁₀ of the dissociation constant in mol/l.
    """

    log_odds: FloatArray
    affinities: FloatArray

    @property
    def probabilities(self) -> FloatArray:
        """(orientations, n) of a good pose."""
        chances: FloatArray = 1 / (1 + np.exp(-self.log_odds))
        return chances


@dataclass(frozen=True)
class Scorer:
    """A network that scores poses.

    Attributes
    ----------
    name: what it is, for reports.
    model: in evaluation mode, float32.
    consensus: how its score and a docking score make one; None where that is not known.
    knows_affinity: whether it learned affinities.
    drawing: how it learned to see atoms; complexes that it scores are to be drawn so.
    """

    name: str
    model: Model
    task: AnswersPose
    device: torch.device
    consensus: Consensus | None
    knows_affinity: bool
    drawing: Drawing = field(default_factory=Drawing)

    def score(self, complexes: Complexes, orientations: int, seed: int) -> NetworkScores:
        """Of all poses: the first time as they stand, then each turned at random.

        The turns are a function of `seed`.
        """
        n, at_once = len(complexes), samples_at_once((complexes.grid.points,) * 3)
        log_odds, affinities = np.zeros((2, orientations, n))
        for orientation in range(orientations):
            turns = None
            if orientation:
                turns = random_rotations(n, generator(seed, "dock", orientation)).numpy()
            for start in range(0, n, at_once):
                ids = np.arange(start, min(start + at_once, n))
                viewed = complexes.viewed(ids, None if turns is None else turns[ids])
                output = self.outputs(complexes, viewed)
                log_odds[orientation, ids] = self.task.log_odds(output).double().numpy()
                affinities[orientation, ids] = self.task.affinities(output).double().numpy()
        return NetworkScores(log_odds, affinities)

    @torch.inference_mode()
    def outputs(self, complexes: Complexes, viewed: Viewed) -> torch.Tensor:
        """The network's (n, …) for the poses of `viewed`, on the CPU."""
        viewed = viewed.to(self.device)
        grids = densities(viewed.atoms, viewed.centers, complexes.num_channels, complexes.grid)
        output: torch.Tensor = self.model(grids).float().cpu()
        return output


def load_scorer(
    where: str | Path, device: torch.device | None = None, model: str | None = None
) -> Scorer:
    """The network of a run folder, or of a file with weights that gnina's authors published.

    `model` is the `file.py:NAME` that a run's network is from, if it is from a person's own file:
    never executed because a run says so, nor where it is not as it was in training.

    Raises `UserError` where there is neither, or the run has learned something else.
    """
    device = device or torch.device("cpu")
    path = Path(where)
    if path.is_dir():
        return _of_run(path, device, model)
    if model is not None:
        raise UserError(
            f"--model '{model}' is of a run of your own network, and --scorer '{path}' is none: "
            f"give the run's folder, or leave --model out"
        )
    weights = read_weights(path, option="--scorer").tensors
    _refuse_other_channels(weights, path)
    task = cast(AnswersPose, TASKS["rank_poses"])
    refusals = []
    for name in _PUBLISHED:
        network = build(ModelSpec(name, 28, 3, (48, 48, 48)))
        try:
            network.load_state_dict(published_weights(weights, network))
        except ValueError as error:
            refusals.append(f"{name}: {error}")
            continue
        if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
            raise UserError(f"--scorer '{path}' has weights that are NaN or infinite")
        said = f"{name}, {path.name}"
        return Scorer(said, network.eval().to(device), task, device, None, knows_affinity=True)
    raise UserError(
        f"--scorer '{path}' fits none of gnina's networks ({'; '.join(refusals)}); give a run of "
        f"hubel fit --task rank_poses, or published weights"
    )


def _of_run(path: Path, device: torch.device, model: str | None) -> Scorer:
    run = RunFolder.open(path)
    trained = load_trained(run, model)
    if trained.task.answer != "pose":
        raise UserError(
            f"--scorer '{path}' has learned --task {trained.task.name}; give a run of hubel fit "
            f"--task rank_poses"
        )
    metrics = run.read_json("result.json")["metrics"]
    return Scorer(
        f"{trained.spec.name}, {path.name}",
        trained.model.to(device),
        cast(AnswersPose, trained.task),
        device,
        Consensus.of_run(metrics, path),
        bool(metrics.get("knows_affinity")),
        trained.preprocess.drawing or Drawing(),
    )


def _refuse_other_channels(weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """A file of weights says nothing of channels: only the published ones are known."""
    first = next((tensor for tensor in weights.values() if tensor.ndim == 5), None)
    known = Drawing().num_channels
    if first is not None and first.shape[1] != known:
        raise UserError(
            f"--scorer '{path}' takes {first.shape[1]} channels, and a file of weights does not "
            f"say which atoms are in them: of files those of gnina's published {known} channels "
            f"are known; give the folder of a run of hubel fit, which keeps its own"
        )

"""The report of an evaluation of any kind: which page, and what it is told of the run."""

from pathlib import Path

from hubel.data.source import Array
from hubel.evaluate.detection import DetectionEvaluation
from hubel.evaluate.localization import LocalizationEvaluation
from hubel.evaluate.ranking import RankingEvaluation
from hubel.evaluate.run import EvaluatedRun
from hubel.evaluate.segmentation import SegmentationEvaluation
from hubel.runs import RunFolder, write_atomic
from hubel.shapes import format_shape

__all__ = ["write_report"]


def write_report(run: RunFolder, judged: EvaluatedRun, folder: Path) -> Path:
    """Write the page, its figures and what belongs to it into `folder`; the page's path."""
    facts, result, data = (run.read_json(f"{n}.json") for n in ("run", "result", "data"))
    source = judged.source
    position = {name: i for i, name in enumerate(source.ids)}
    environment = facts["environment"]
    run_facts = {
        **{key: facts[key] for key in ("run", "task", "model", "params", "engine", "seed")},
        **{key: facts[key] for key in ("created", "command")},
        **{key: result[key] for key in ("epochs", "seconds", "images_per_s")},
        "profile": run.read_json("profile.json") if run.has("profile.json") else None,
        "width": judged.trained.spec.width,
        "input": format_shape(*judged.trained.spec.input_shape),
        "data": data["path"] or data["format"],
        "classes": len(judged.trained.classes),
        "splits": data["splits"],
        "versions": {k: environment[k] for k in ("hubel", "torch", "torchvision", "python")},
    }
    page, figures = folder / "report.html", folder / "figures"

    def picture(name: str) -> Array:
        return source[position[name]].input

    if isinstance(judged.evaluation, LocalizationEvaluation):
        from hubel.report.localization import write_localization_report

        return write_localization_report(
            page,
            judged.evaluation,
            run_facts=run_facts,
            history=run.log(),
            picture=picture,
            figures_dir=figures,
        )
    if isinstance(judged.evaluation, DetectionEvaluation):
        from hubel.report.detection import write_detection_report

        return write_detection_report(
            page,
            judged.evaluation,
            run_facts=run_facts,
            history=run.log(),
            picture=picture,
            figures_dir=figures,
        )
    if isinstance(judged.evaluation, SegmentationEvaluation):
        from hubel.report.segmentation import write_segmentation_report

        return write_segmentation_report(
            page,
            judged.evaluation,
            maps=judged.masks,
            run_facts=run_facts,
            history=run.log(),
            picture=picture,
            figures_dir=figures,
        )
    if isinstance(judged.evaluation, RankingEvaluation):
        from hubel.report.ranking import write_ranking_report

        if judged.poses is not None:
            write_atomic(folder / "poses.csv", judged.poses.to_csv())
        return write_ranking_report(
            page,
            judged.evaluation,
            run_facts=run_facts,
            history=run.log(),
            figures_dir=figures,
        )
    from hubel.report.evaluation import write_evaluation_report

    return write_evaluation_report(
        page,
        judged.evaluation,
        run_facts=run_facts,
        history=run.log(),
        untrained=run.read_json("untrained.json"),
        picture=picture,
        figures_dir=figures,
    )

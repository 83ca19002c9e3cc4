"""The value of pre-training on a corpus: is the pre-trained encoder better than an untrained one, with few labeled videos?

Five variants are compared over a label-efficiency curve, with several seeds, always on the same test videos:

| variant | encoder | method |
|---|---|---|
| pixels | none: 8 × 8 pixels of the second and the last frame of a clip | linear probe |
| untrained | the recipe's before its first update | linear probe |
| pre-trained | the recipe's | linear probe |
| from scratch | the recipe's before its first update | fine-tuning |
| pre-trained and fine-tuned | the recipe's | fine-tuning |

Pixels tell whether the labels can be read without any encoder, in which case they say little about one. What counts as a
difference is defined in `evaluation.label_efficiency`.
"""

import csv
from dataclasses import asdict, dataclass
from typing import Any

from ...evaluation.label_efficiency import LabelEfficiency, LabelPoint, list_counts
from ...evaluation.reports.benchmark_report import CellResult
from ...evaluation.reports.label_efficiency_plot import draw_label_efficiency
from ...util.console import Steps, move_log
from ...util.errors import InputError
from ...util.files import at_work, atomic_file, check_settings, write_json
from ...util.messages import preview
from .cells import CellState, plan_cells, run_cells
from .studies import check_labels, check_probe_overlap
from .value_cells import value_cells
from .value_study import ValueStudy

_FITTED = 0.5  # fraction of its first loss that fine-tuning should reach


@dataclass(frozen=True)
class ValueResult:
    """The results of the study.

    Args:
        curves: label-efficiency curves of all variants, with comparisons and verdicts.
        cells: results of all cells, those of the encoders included.
    """

    curves: LabelEfficiency
    cells: list[CellResult]

    def verdict(self) -> list[str]:
        """Return what was shown and what was not: first all numbers of labeled videos together, then one by one."""
        lines = self.curves.summary()
        pixels = [entry for entry in self.curves.comparisons if entry.reference == "pixels"]
        readable = [entry.labeled for entry in pixels if entry.verdict != "better"]
        if readable:
            lines.append(
                f"With {list_counts(readable)} the pre-trained encoder was not shown to be better than 8 x 8 pixels: these "
                "labels may be too easy to tell encoders apart."
            )
        lines += self._unfitted()
        return [*lines, *(entry.sentence for entry in self.curves.comparisons)]

    def _unfitted(self) -> list[str]:
        """Return a remark if fine-tuning has hardly lowered its loss, in which case it is no fair opponent."""
        short = [
            cell
            for cell in self.cells
            if len(losses := cell.results.get("losses", [])) > 1
            and losses[-1] > _FITTED * losses[0]
            and not cell.results["soft_labels"]  # with which no loss comes near 0
        ]
        if not short:
            return []
        names = preview(sorted({f"'{cell.model}'" for cell in short}))
        return [
            f"In {len(short)} runs of {names} the loss has not even halved: they may be too short to be a fair comparison, "
            "and then need more --updates."
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return verdict, curves, comparisons and environment, as JSON can hold them."""
        content = self.curves.to_dict()
        del content["points"]  # the cells have them
        return {**content, "verdict": self.verdict(), "environment": self.cells[-1].environment}


def run_value_study(study: ValueStudy) -> ValueResult:
    """Run all cells, or what is missing of them, and write `value.json`, `value.csv` and `value.png`.

    Raises:
        InputError: a recipe or a frame set that does not fit.
        OutputError: cells of other settings, data or weights in the folder, or another run is at work there.
        OverlapError: videos that are tested on are in the corpus.
    """
    with at_work(study.output):  # before the checks, which read whole frame sets
        check_value_study(study)
        cells = value_cells(study)
        for cell in {cell.group: cell for cell in reversed(cells)}.values():
            cell.check()
        check_settings(study.output, {"study": "value"})
        move_log(study.output / "surgvista.log")
        results = run_cells(cells, Steps(len(cells)))
        points = [LabelPoint(**cell.results["point"]) for cell in results if "point" in cell.results]
        found = ValueResult(LabelEfficiency(points, study.pairs), results)
        _write(study, found)
    return found


def plan_value_study(study: ValueStudy) -> list[CellState]:
    """Return the state of every cell, after everything was checked that can be checked without training.

    Raises:
        SurgVistaError: something that would stop all variants.
    """
    check_value_study(study)
    return plan_cells(value_cells(study))


def check_value_study(study: ValueStudy) -> None:
    """Check the labels, the numbers of labeled videos, and that no test video is trained on.

    Raises:
        SurgVistaError: something that would stop the study.
    """
    check_labels(study.probe)
    check_probe_overlap(study.pretraining.data, study.probe)
    videos = len(study.train_videos)
    counts = study.labeled or ()
    if any(not 1 <= count <= videos for count in counts) or list(counts) != sorted(set(counts)):
        raise InputError(
            f"the numbers of labeled videos are {', '.join(map(str, counts))}; rising numbers from 1 to {videos}, the number "
            f"of training videos of {study.probe.name}, are expected"
        )


def _write(study: ValueStudy, result: ValueResult) -> None:
    settings = {
        "recipe": asdict(study.pretraining),
        "probe": asdict(study.probe),
        "seeds": study.seeds,
        "labeled": study.counts,
        "fine_tuning": asdict(study.finetuning_recipe("", study.output, 1, 0)) if study.updates else None,
    }
    cells = [
        {
            "variant": cell.model,
            "method": cell.protocol,
            "seed": cell.seed,
            "seconds": cell.seconds,
            "metrics": cell.metrics,
            "parameters": cell.parameters,
            "environment": cell.environment,
            **{name: cell.results[name] for name in ("labeled_videos", "losses") if name in cell.results},
            **{name: cell.results["point"][name] for name in ("labeled", "by_video") if "point" in cell.results},
        }
        for cell in result.cells
    ]
    output = study.output
    write_json(output / "value.json", {"settings": settings, **result.to_dict(), "cells": cells})
    with atomic_file(output / "value.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["variant", "labeled", "seed", "measure", "video", "score"])
        for point in result.curves.points:
            for measure, scores in point.by_video.items():
                table.writerows(
                    (point.variant, point.labeled, point.seed, measure, *score) for score in scores.items()
                )
    title = f"{study.probe.label} of {study.probe.name}"
    draw_label_efficiency(result.curves, output / "value.png", title=title)

"""The analyses of the SurgVISTA paper (arXiv 2506.02692) on any frame sets: more data, and the image teacher.

A study is a suite of pre-training runs: one recipe in several variants, each trained for the same number of updates with the
same seeds. A ridge probe of the trained encoders, on videos that no variant saw, compares them.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from datasets import Dataset
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...clips import ClipDataset
from ...clips.sampling.index import check_columns
from ...datasets_scripts.frame_sets.fingerprints import frames_fingerprint
from ...datasets_scripts.frame_sets.load import load_frame_set
from ...datasets_scripts.frame_sets.overlap import check_overlap
from ...datasets_scripts.frame_sets.registry import get_builder
from ...evaluation.metrics.statistics import PairedTest, paired_wilcoxon
from ...evaluation.probes import accuracy_by_video, ridge_probe
from ...evaluation.reports.benchmark_report import CellResult, seeds_averaged
from ...modeling.adapters import count_parameters
from ...modeling.loading import clip_length
from ...util.console import Steps, move_log
from ...util.errors import InputError
from ...util.files import at_work, atomic_file, check_settings, write_json
from ..common.frame_sets import load_named
from ..common.identity import name_of
from ..features.clip_features import extract_features, load_encoder
from ..pretrain import build_arguments, build_clips, build_model, check_run, pretrain
from ..pretraining.identity import pretraining_run
from ..pretraining.recipe import DataRecipe, Recipe, load_recipe
from .cells import CellState, Identity, plan_cells, run_cells

FRACTIONS = {"A": 0.125, "B": 0.25, "C": 0.5, "D": 1.0}
PROTOCOL = "ridge probe"


@dataclass(frozen=True)
class ProbeSet:
    """A frame set with labels that trained encoders are probed on.

    Args:
        name: name of the data set.
        data_dir: folder of the frame set.
        label: column with one class for each frame.
        protocol: protocol that says what is train and test, by default the data set's first.
        train: split that the probe is fitted to.
        test: split that the probe is tested on.
    """

    name: str
    data_dir: str
    label: str = "phase"
    protocol: str | None = None
    train: str = "train"
    test: str = "test"

    def frames(self, split: str) -> Dataset:
        """Load a split of the frame set."""
        return load_frame_set(self.name, self.data_dir, split, protocol=self.protocol)


@dataclass(frozen=True)
class StudyCell:
    """One variant of a recipe with one seed, as `plan_cells` and `run_cells` take it.

    Args:
        variant: name of the variant.
        seed: seed of the training.
        recipe: recipe of the pre-training run.
        probe: frame set that the trained encoder is probed on.
    """

    variant: str
    seed: int
    recipe: Recipe
    probe: ProbeSet

    @property
    def name(self) -> str:
        """Return the name for messages."""
        return f"{self.variant} / seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Return the folder of the run."""
        return Path(str(self.recipe.training["output_dir"]))

    @property
    def group(self) -> str:
        """Return the variant: its seeds need one check together."""
        return self.variant

    @property
    def needs(self) -> None:
        """Return nothing: no cell needs another one."""

    @property
    def is_ready(self) -> bool:
        """Return true: no cell needs another one."""
        return True

    def check(self) -> str:
        """Check the variant without training it, see `check_run`."""
        return check_run(self.recipe)

    def identity(self) -> Identity:
        """Return the content of the run and of the probe's frames, and the names of both."""
        made_from, names = pretraining_run(self.recipe)
        training = {name: value for name, value in self.recipe.training.items() if name != "output_dir"}
        content = ", ".join(
            frames_fingerprint(self.probe.frames(split)) for split in (self.probe.train, self.probe.test)
        )
        return (
            {"recipe": {**made_from, "training": training}, "probe": {**asdict(self.probe), "data_dir": content}},
            {"recipe": names, "probe": {"data_dir": name_of(self.probe.data_dir)}},
        )

    def run(self) -> CellResult:
        """Pre-train the variant and probe its encoder."""
        return _probe(self, pretrain(self.recipe))


@dataclass(frozen=True)
class Study:
    """A suite of pre-training runs.

    Args:
        recipe: YAML file, or the name of a recipe of the package.
        overrides: changes to the recipe for all variants, see `load_recipe`.
        variants: further overrides of each variant, by its name.
        probe: frame set that the trained encoders are probed on.
        output: folder of the study.
        seeds: number of runs of each variant, with the seeds 0, 1, ….
    """

    recipe: str | Path
    overrides: Sequence[str]
    variants: Mapping[str, Sequence[str]]
    probe: ProbeSet
    output: Path
    seeds: int = 3

    def load(self, *changes: str) -> Recipe:
        """Load the recipe with further changes."""
        return load_recipe(self.recipe, [*self.overrides, f"training.output_dir={self.output}", *changes])

    def cells(self) -> list[StudyCell]:
        """Return the cells in the order in which they are run: all variants with the first seed, then the next."""
        cells, updates = [], f"training.max_steps={self._num_updates()}"
        for seed in range(self.seeds):
            for variant, changes in self.variants.items():
                folder = self.output / f"{variant.replace(' ', '_')}_{seed}"
                recipe = self.load(updates, *changes, f"training.seed={seed}", f"training.output_dir={folder}")
                cells.append(StudyCell(variant, seed, recipe, self.probe))
        return cells

    def _num_updates(self) -> int:
        """Return the number of updates of a run on all videos, which every variant gets."""
        whole = self.load()
        if "max_steps" in whole.training:
            return int(whole.training["max_steps"])
        args = build_arguments(whole)
        clips = build_clips(whole.data, clip_length(build_model(whole).config), args.seed)
        return round(len(clips) // args.total_batch * args.num_train_epochs)


@dataclass(frozen=True)
class StudyResult:
    """The results of a study.

    Args:
        cells: results of all variants and seeds; the model is the variant.
        tests: one test for each pair of neighboring variants of whether the later one is better. Test videos are the pairs,
            and seeds are averaged.
    """

    cells: list[CellResult]
    tests: dict[str, PairedTest]

    def scores(self, variant: str) -> dict[str, float]:
        """Return the accuracy of each test video, averaged over seeds."""
        return seeds_averaged([cell for cell in self.cells if cell.model == variant])

    @property
    def variants(self) -> list[str]:
        """Return the names of the variants, in order."""
        return list(dict.fromkeys(cell.model for cell in self.cells))

    def summary(self) -> dict[str, dict[str, float]]:
        """Return the mean and standard deviation over test videos and the mean of each seed, by variant."""
        rows = {}
        for variant in self.variants:
            values = list(self.scores(variant).values())
            seeds = {f"seed_{cell.seed}": cell.metrics["accuracy"] for cell in self.cells if cell.model == variant}
            rows[variant] = {"mean": float(np.mean(values)), "std_over_videos": float(np.std(values)), **seeds}
        return rows


def data_scale(fractions: Mapping[str, float] = FRACTIONS) -> dict[str, list[str]]:
    """Return variants with growing fractions of the videos, each among the next one's, as overrides of a recipe."""
    return {name: [f"data.fraction={fraction}"] for name, fraction in fractions.items()}


def distillation(teacher: str | None = None) -> dict[str, list[str]]:
    """Return variants without and with the image teacher, the recipe's or another one, as overrides of a recipe."""
    return {"without teacher": ["teacher=null"], "with teacher": [f"teacher.name={teacher}"] if teacher else []}


def run_study(study: Study) -> StudyResult:
    """Train and probe all variants, or what is missing of them, and write `study.json`, `study.csv` and `study.png`.

    Raises:
        InputError: a recipe that does not fit.
        OutputError: cells of other settings, data or weights in the folder, or another run is at work there.
        OverlapError: videos that the probe is tested on are in the corpus.
    """
    with at_work(study.output):  # before the checks, which read whole frame sets
        check_study(study)
        cells = study.cells()
        for cell in cells[: len(study.variants)]:
            cell.check()
        check_settings(study.output, {"variants": {name: list(changes) for name, changes in study.variants.items()}})
        move_log(study.output / "surgvista.log")
        results = run_cells(cells, Steps(len(cells)))
        order = list(study.variants)
        found = StudyResult(sorted(results, key=lambda cell: order.index(cell.model)), {})
        for before, after in pairwise(order):
            found.tests[f"{after} > {before}"] = paired_wilcoxon(found.scores(after), found.scores(before))
        _write(found, study.output)
    return found


def plan_study(study: Study) -> list[CellState]:
    """Return the state of every cell, after everything was checked that can be checked without training.

    Raises:
        SurgVistaError: something that would stop all variants.
    """
    check_study(study)
    return plan_cells(study.cells())


def check_study(study: Study) -> None:
    """Check what all variants have in common: that they differ, the labels of the probe, and that no test video is trained on.

    Raises:
        SurgVistaError: something that would stop the study.
    """
    recipes = [study.load(*changes) for changes in study.variants.values()]
    if "with teacher" in study.variants and all(recipe.teacher is None for recipe in recipes):
        raise InputError(
            f"{study.recipe} has no teacher, so there is nothing to compare: name one with --teacher, or with teacher.name"
        )
    check_labels(study.probe)
    check_probe_overlap(study.load().data, study.probe)


def check_labels(probe: ProbeSet) -> None:
    """Check that training and test of a labeled frame set are there and have the label.

    Raises:
        SurgVistaError: something is missing.
    """
    for split in (probe.train, probe.test):
        check_columns(probe.frames(split), ("image", "timestamp", probe.label))


def check_probe_overlap(corpus: DataRecipe, probe: ProbeSet) -> None:
    """Make sure that no video of the probe's test is in the corpus.

    Videos of collections without fixed ids (rendered operations, one's own folders) are the same if their frame set is.

    Raises:
        OverlapError: there are such videos.
    """
    test = probe.frames(probe.test)
    for source in corpus.sources:
        folder = corpus.folder(source)
        named_alike = source.name == probe.name and not get_builder(source.name).info.video_ids
        if named_alike and folder.resolve() != Path(probe.data_dir).resolve():
            continue
        train = load_named(source, folder, source.split)
        check_overlap(train, test, on_overlap=corpus.on_overlap)


def _probe(cell: StudyCell, trained: Path) -> CellResult:
    """Fit a ridge probe to the features of a trained encoder and test it."""
    encoder, processor = load_encoder(trained)
    clips = [
        ClipDataset(
            cell.probe.frames(split),
            num_frames=clip_length(encoder.config),
            frame_stride=cell.recipe.data.frame_stride,
            label=cell.probe.label,
        )
        for split in (cell.probe.train, cell.probe.test)
    ]
    train, test = (extract_features(encoder, processor, own) for own in clips)
    accuracy = accuracy_by_video(test, ridge_probe(train, test))
    metrics = {"accuracy": float(np.mean(list(accuracy.values())))}
    if losses := logged_losses(cell.folder):
        metrics["loss"] = losses[-1]
    return CellResult(
        model=cell.variant,
        data=cell.probe.name,
        protocol=PROTOCOL,
        seed=cell.seed,
        task="classification",
        classes=list(cell.probe.frames(cell.probe.train).features[cell.probe.label].names),
        main_metric="accuracy",
        metrics=metrics,
        results={"settings": json.loads(json.dumps({"recipe": asdict(cell.recipe), "probe": asdict(cell.probe)}))},
        by_video=accuracy,
        parameters=asdict(count_parameters(encoder)),
        fraction=cell.recipe.data.fraction,
    )


def logged_losses(folder: Path) -> list[float]:
    """Return the losses that a run has logged, the first one first."""
    states = sorted(
        folder.glob("checkpoint-*/trainer_state.json"), key=lambda path: int(path.parent.name.split("-")[1])
    )
    history = json.loads(states[-1].read_text(encoding="utf-8"))["log_history"] if states else []
    return [float(line["loss"]) for line in history if "loss" in line]


def _write(study: StudyResult, output: Path) -> None:
    content = {
        "summary": study.summary(),
        "tests": {name: test.to_dict() for name, test in study.tests.items()},
        "environment": study.cells[0].environment,
        "cells": [
            {
                "variant": cell.model,
                "seed": cell.seed,
                "settings": cell.results["settings"],
                "accuracy": cell.by_video,
                "loss": cell.metrics.get("loss"),
            }
            for cell in study.cells
        ],
    }
    write_json(output / "study.json", content)
    with atomic_file(output / "study.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["variant", "seed", "video", "accuracy"])
        table.writerows((cell.model, cell.seed, *score) for cell in study.cells for score in cell.by_video.items())
    draw_study(study, output / "study.png")


def draw_study(study: StudyResult, path: Path) -> None:
    """Draw the mean of each variant and its deviation over videos, every seed as a dot, and the tests between neighbors."""
    figure = Figure(figsize=(1.6 * len(study.variants) + 2.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for x, row in enumerate(study.summary().values()):
        axes.errorbar(x, row["mean"], row["std_over_videos"], fmt="s", color="#332288", capsize=4, markersize=7)
        seeds = [value for name, value in row.items() if name.startswith("seed_")]
        axes.plot([x + 0.12] * len(seeds), seeds, "o", color="#CC6677", markersize=4)
        axes.annotate(f"{row['mean']:.3f}", (x, row["mean"]), (-8, 0), textcoords="offset points", ha="right")
    for x, test in enumerate(study.tests.values()):
        axes.text(
            x + 0.5, 1.0, f"p = {test.p_value:.3g}", transform=axes.get_xaxis_transform(), ha="center", va="bottom"
        )
    axes.set_xticks(range(len(study.variants)), study.variants)
    axes.set(xlim=(-0.5, len(study.variants) - 0.5), ylabel="accuracy of a ridge probe")
    axes.grid(axis="y", alpha=0.3)
    figure.supxlabel(
        "squares: mean ± std over test videos; dots: seeds; p: one-sided Wilcoxon test over videos", fontsize=8
    )
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=130)

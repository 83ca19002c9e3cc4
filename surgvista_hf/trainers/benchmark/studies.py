"""The paper's analyzes on any frame sets (SurgVISTA, arXiv 2506.02692): more data, and the image teacher.

A study is one recipe in several variants, each trained for the same number of updates with the same seeds, and asked by the
same linear probe on videos that no variant saw. A cell, one variant with one seed, is finished when its JSON file is there; a
run that was stopped goes on with what is missing.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
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
from ...modeling.loading import clip_length
from ...util.console import Steps, move_log
from ...util.errors import InputError
from ...util.files import at_work, atomic_file, check_settings, write_json
from ..common.identity import name_of
from ..features.clip_features import extract_features, load_encoder
from ..pretrain import build_arguments, build_clips, build_model, build_teacher, check_requirements, pretrain
from ..pretraining.identity import pretraining_run
from ..pretraining.recipe import DataRecipe, load_recipe

FRACTIONS = {"A": 0.125, "B": 0.25, "C": 0.5, "D": 1.0}


@dataclass(frozen=True)
class ProbeSet:
    """A frame set with labels, to ask trained encoders with.

    Args:
        name, data_dir, protocol: see `load_frame_set`.
        label: column with classes.
        train, test: splits.
    """

    name: str
    data_dir: str
    label: str = "phase"
    protocol: str | None = None
    train: str = "train"
    test: str = "test"


@dataclass(frozen=True)
class Cell:
    """One variant with one seed.

    Args:
        variant: its name.
        seed: of training.
        settings: what it was trained and asked with.
        accuracy: of the probe, by test video, 0-1.
        loss: the last that was logged.
    """

    variant: str
    seed: int
    settings: dict[str, Any]
    accuracy: dict[str, float]
    loss: float | None


@dataclass(frozen=True)
class Study:
    """What a study found.

    Args:
        cells: of all variants and seeds.
        tests: for each pair of neighboring variants, whether the later is better; videos are the pairs, seeds averaged.
    """

    cells: list[Cell]
    tests: dict[str, PairedTest]

    def scores(self, variant: str) -> dict[str, float]:
        """Accuracy by test video, averaged over seeds."""
        cells = [cell.accuracy for cell in self.cells if cell.variant == variant]
        return {video: float(np.mean([cell[video] for cell in cells])) for video in cells[0]}

    @property
    def variants(self) -> list[str]:
        """Return the names, in order."""
        return list(dict.fromkeys(cell.variant for cell in self.cells))

    def summary(self) -> dict[str, dict[str, float]]:
        """Mean and standard deviation over test videos, and the mean of each seed."""
        rows = {}
        for variant in self.variants:
            values = list(self.scores(variant).values())
            seeds = {
                f"seed_{cell.seed}": float(np.mean(list(cell.accuracy.values())))
                for cell in self.cells
                if cell.variant == variant
            }
            rows[variant] = {"mean": float(np.mean(values)), "std_over_videos": float(np.std(values)), **seeds}
        return rows


def data_scale(fractions: Mapping[str, float] = FRACTIONS) -> dict[str, list[str]]:
    """Variants with growing shares of the videos, each among the next one's: overrides of a recipe."""
    return {name: [f"data.fraction={fraction}"] for name, fraction in fractions.items()}


def distillation(teacher: str | None = None) -> dict[str, list[str]]:
    """Variants without and with the image teacher: the recipe's, or another by name."""
    return {"without teacher": ["teacher=null"], "with teacher": [f"teacher.name={teacher}"] if teacher else []}


def run_study(
    recipe: str | Path,
    overrides: Sequence[str],
    variants: Mapping[str, Sequence[str]],
    probe: ProbeSet,
    output: Path,
    *,
    seeds: int = 3,
) -> Study:
    """Train and evaluate all variants, or what is missing of them, and write `study.json`, `study.csv` and `study.png`.

    Args:
        recipe, overrides: see `load_recipe`.
        variants: further overrides of each variant.
        probe: asks the trained encoders.
        output: folder of the study.
        seeds: runs of each variant, with the seeds 0, 1, ….

    Returns:
        The study.

    Raises:
        InputError: a recipe that does not fit.
        OutputError: cells of other settings, data or weights in the folder, or another run is at work there.
        OverlapError: videos that the probe is tested on are in the corpus.
    """
    check_study(recipe, overrides, variants, probe)
    with at_work(output):
        check_settings(output, {"variants": {name: list(changes) for name, changes in variants.items()}})
        return _run_study(recipe, overrides, variants, probe, output, seeds)


def _run_study(
    recipe: str | Path,
    overrides: Sequence[str],
    variants: Mapping[str, Sequence[str]],
    probe: ProbeSet,
    output: Path,
    seeds: int,
) -> Study:
    words = [*overrides, f"training.max_steps={_updates(recipe, overrides)}"]
    move_log(output / "surgvista.log")
    cells, steps = [], Steps(seeds * len(variants))
    for seed in range(seeds):
        for variant, changes in variants.items():
            folder = cell_folder(output, variant, seed)
            own = [*words, *changes, f"training.seed={seed}", f"training.output_dir={folder}"]
            with steps(f"{variant}, seed {seed}") as step:
                cell = _cell(variant, seed, recipe, own, probe, folder)
                step.remember(f"accuracy {np.mean(list(cell.accuracy.values())):.3f}")
            cells.append(cell)
    order = list(variants)
    study = Study(sorted(cells, key=lambda cell: order.index(cell.variant)), {})
    for before, after in pairwise(order):
        study.tests[f"{after} > {before}"] = paired_wilcoxon(study.scores(after), study.scores(before))
    _write(study, output)
    return study


def check_study(
    recipe: str | Path, overrides: Sequence[str], variants: Mapping[str, Sequence[str]], probe: ProbeSet
) -> None:
    """Check everything that can be checked without training: every variant, what it needs, its data and the probe's.

    Raises:
        SurgVistaError: what would have stopped the study.
    """
    output = "training.output_dir=unused"
    recipes = [load_recipe(recipe, [*overrides, *changes, output]) for changes in variants.values()]
    if "with teacher" in variants and all(variant.teacher is None for variant in recipes):
        raise InputError(
            f"{recipe} has no teacher, so there is nothing to compare: name one with --teacher, or with teacher.name"
        )
    for variant in recipes:
        check_requirements(variant)
    for teacher in {variant.teacher for variant in recipes if variant.teacher is not None}:
        build_teacher(teacher)
    for split in (probe.train, probe.test):
        frames = load_frame_set(probe.name, probe.data_dir, split, protocol=probe.protocol)
        check_columns(frames, ("image", "timestamp", probe.label))
    keep_apart(load_recipe(recipe, [*overrides, output]).data, probe)


def plan_study(variants: Mapping[str, Sequence[str]], output: Path, *, seeds: int = 3) -> list[tuple[str, str]]:
    """Return every cell of a study as name and state: `"finished"`, `"begun"` or `"to do"`."""
    cells = [(variant, seed, cell_folder(output, variant, seed)) for seed in range(seeds) for variant in variants]
    return [
        (
            f"{variant} / seed {seed}",
            "finished" if (folder / "cell.json").is_file() else "begun" if folder.exists() else "to do",
        )
        for variant, seed, folder in cells
    ]


def cell_folder(output: Path, variant: str, seed: int) -> Path:
    """Return the folder of one variant with one seed."""
    return output / f"{variant.replace(' ', '_')}_{seed}"


def keep_apart(corpus: DataRecipe, probe: ProbeSet) -> None:
    """Make sure that no video of the probe's test is in the corpus.

    Videos of collections without fixed ids (rendered operations, one's own folders) are the same if their frame set is.

    Raises:
        OverlapError: there are such videos.
    """
    test = load_frame_set(probe.name, probe.data_dir, probe.test, protocol=probe.protocol)
    for source in corpus.sources:
        folder = Path(corpus.root) / source.data_dir
        named_alike = source.name == probe.name and not get_builder(source.name).info.video_ids
        if named_alike and folder.resolve() != Path(probe.data_dir).resolve():
            continue
        train = load_frame_set(
            source.name, folder, source.split, protocol=source.protocol, allow_missing=source.allow_missing
        )
        check_overlap(train, test, on_overlap=corpus.on_overlap)


def _updates(recipe: str | Path, overrides: Sequence[str]) -> int:
    """Of a run on all videos."""
    whole = load_recipe(recipe, [*overrides, "training.output_dir=unused"])
    if "max_steps" in whole.training:
        return int(whole.training["max_steps"])
    args = build_arguments(whole)
    clips = build_clips(whole.data, clip_length(build_model(whole).config), args.seed)
    return round(len(clips) // args.total_batch * args.num_train_epochs)


def _cell(variant: str, seed: int, recipe: str | Path, words: list[str], probe: ProbeSet, folder: Path) -> Cell:
    read = load_recipe(recipe, words)
    settings = json.loads(json.dumps({"recipe": asdict(read), "probe": asdict(probe)}))
    made_from, names = pretraining_run(read)
    training = {name: value for name, value in read.training.items() if name != "output_dir"}
    requested = {**asdict(probe), "data_dir": _content(probe)}
    check_settings(
        folder,
        {"recipe": {**made_from, "training": training}, "probe": requested},
        names={"recipe": names, "probe": {"data_dir": name_of(probe.data_dir)}},
    )
    file = folder / "cell.json"
    if file.exists():
        return Cell(**json.loads(file.read_text(encoding="utf-8")))
    trained = pretrain(read)
    cell = Cell(variant, seed, settings, ask(trained, probe, read.data.frame_stride), _last_loss(folder))
    write_json(file, asdict(cell))
    return cell


def _content(probe: ProbeSet) -> str:
    """Fingerprint of the frames that the probe is trained and tested on."""
    splits = (
        load_frame_set(probe.name, probe.data_dir, split, protocol=probe.protocol)
        for split in (probe.train, probe.test)
    )
    return ", ".join(frames_fingerprint(frames) for frames in splits)


def ask(trained: Path, probe: ProbeSet, frame_stride: float) -> dict[str, float]:
    """Accuracy of a linear probe on a trained encoder, by test video."""
    encoder, processor = load_encoder(trained)
    train, test = (
        extract_features(
            encoder,
            processor,
            ClipDataset(
                load_frame_set(probe.name, probe.data_dir, split, protocol=probe.protocol),
                num_frames=clip_length(encoder.config),
                frame_stride=frame_stride,
                label=probe.label,
            ),
        )
        for split in (probe.train, probe.test)
    )
    return accuracy_by_video(test, ridge_probe(train, test))


def _last_loss(folder: Path) -> float | None:
    states = sorted(
        folder.glob("checkpoint-*/trainer_state.json"), key=lambda path: int(path.parent.name.split("-")[1])
    )
    history = json.loads(states[-1].read_text(encoding="utf-8"))["log_history"] if states else []
    losses = [line["loss"] for line in history if "loss" in line]
    return float(losses[-1]) if losses else None


def _write(study: Study, output: Path) -> None:
    content = {
        "summary": study.summary(),
        "tests": {name: test.to_dict() for name, test in study.tests.items()},
        "cells": [asdict(cell) for cell in study.cells],
    }
    write_json(output / "study.json", content)
    with atomic_file(output / "study.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["variant", "seed", "video", "accuracy"])
        table.writerows((c.variant, c.seed, video, value) for c in study.cells for video, value in c.accuracy.items())
    draw_study(study, output / "study.png")


def draw_study(study: Study, path: Path) -> None:
    """Draw the mean of each variant and its deviation over videos, every seed as a dot, and the tests between neighbors."""
    figure = Figure(figsize=(1.6 * len(study.variants) + 2.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, row in enumerate(study.summary().values()):
        axes.errorbar(place, row["mean"], row["std_over_videos"], fmt="s", color="#332288", capsize=4, markersize=7)
        seeds = [value for name, value in row.items() if name.startswith("seed_")]
        axes.plot([place + 0.12] * len(seeds), seeds, "o", color="#CC6677", markersize=4)
        axes.annotate(f"{row['mean']:.3f}", (place, row["mean"]), (-8, 0), textcoords="offset points", ha="right")
    for place, test in enumerate(study.tests.values()):
        axes.text(
            place + 0.5, 1.0, f"p = {test.p_value:.3g}", transform=axes.get_xaxis_transform(), ha="center", va="bottom"
        )
    axes.set_xticks(range(len(study.variants)), study.variants)
    axes.set(xlim=(-0.5, len(study.variants) - 0.5), ylabel="accuracy of a linear probe")
    axes.grid(axis="y", alpha=0.3)
    figure.supxlabel(
        "squares: mean ± std over test videos; dots: seeds; p: one-sided Wilcoxon test over videos", fontsize=8
    )
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=130)

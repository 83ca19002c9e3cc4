"""The cells of the study of the value of pre-training: encoders, and what a few labeled videos make of them."""

import json
import shutil
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from transformers.video_processing_utils import BaseVideoProcessor

from ...datasets_scripts.frame_sets.overlap import videos_in
from ...evaluation.label_efficiency import LabelPoint, choose_labeled, count_videos, score_point
from ...evaluation.probes import Features, linear_probe
from ...evaluation.reports.benchmark_report import CellResult
from ...evaluation.tasks import ClipPredictions
from ...util.files import write_json
from ..common.arguments import FinetuningArguments
from ..common.identity import name_of
from ..features.clip_features import load_encoder
from ..features.extraction import VideoFeatureExtractor, as_clips, load_video_features
from ..features.pixels import PixelFeatureExtractor
from ..finetune import check_requirements, check_splits, finetune, load_splits
from ..finetuning.recipe import FinetuningRecipe
from ..pretrain import check_run, fraction_of_videos, pretrain, save_untrained
from ..pretraining.recipe import Recipe
from .cells import Identity
from .studies import logged_losses
from .value_study import Start, ValueStudy, Variant


@dataclass(frozen=True)
class EncoderCell:
    """The encoder of one seed, untrained or pre-trained.

    Args:
        study: the study.
        start: `"untrained"` or `"pre-trained"`.
        seed: seed of the weights and the pre-training.
    """

    study: ValueStudy
    start: Start
    seed: int

    @property
    def name(self) -> str:
        """Return the name for messages."""
        return f"{self.group} / seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Return the folder of the run."""
        return self.study.encoder_folder(self.start, self.seed)

    @property
    def recipe(self) -> Recipe:
        """Return the recipe of the run."""
        return self.study.encoder_recipe(self.start, self.seed)

    @property
    def group(self) -> str:
        """Return what its seeds have in common."""
        return f"encoder {next(entry.name for entry in self.study.variants if entry.start == self.start)}"

    @property
    def needs(self) -> None:
        """Return nothing: no cell needs another one."""

    @property
    def is_ready(self) -> bool:
        """Return true: no other cell is needed."""
        return True

    def check(self) -> str:
        """Check the run without training it, see `check_run`."""
        if self.start == "untrained":
            return check_run(replace(self.recipe, teacher=None)).splitlines()[0]
        return check_run(self.recipe)

    def identity(self) -> Identity:
        """Return the content that the encoder depends on and the names of it."""
        return self.study.encoder_identity(self.start, self.seed)

    def run(self) -> CellResult:
        """Pre-train the encoder, or save it as it is before that."""
        (save_untrained if self.start == "untrained" else pretrain)(self.recipe)
        losses = logged_losses(self.folder)
        return CellResult(
            model=self.start,
            data=", ".join(source.name for source in self.recipe.data.sources),
            protocol="pre-training",
            seed=self.seed,
            task="pre-training",
            classes=[],
            main_metric="loss",
            metrics={"loss": losses[-1]} if losses else {},
            results={},
            by_video={},
            parameters={},
            fraction=self.recipe.data.fraction,
        )


@dataclass(frozen=True)
class LabelCell:
    """One variant with one seed and one number of labeled videos.

    Args:
        study: the study.
        variant: the variant.
        seed: seed of the encoder, of the choice of the labeled videos and of fine-tuning.
        labeled: number of labeled videos.
    """

    study: ValueStudy
    variant: Variant
    seed: int
    labeled: int

    @property
    def name(self) -> str:
        """Return the name for messages."""
        return f"{self.variant.name} / {count_videos(self.labeled)} / seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Return the folder of the results."""
        return self.study.output / "cells" / self.variant.name.replace(" ", "_") / f"{self.labeled}_{self.seed}"

    @property
    def group(self) -> str:
        """Return the variant: its numbers of labeled videos and its seeds need one check together."""
        return self.variant.name

    @property
    def needs(self) -> Path:
        """Return the folder of the encoder's cell."""
        return self.encoder.parent

    @property
    def is_ready(self) -> bool:
        """Return true: what the cell depends on is known before its encoder is trained."""
        return True

    @property
    def encoder(self) -> Path:
        """Return the folder of the encoder."""
        return self.study.encoder_folder(self.variant.start, self.seed) / "model"

    @property
    def recipe(self) -> FinetuningRecipe:
        """Return the recipe of fine-tuning; a probe uses its data."""
        return self.study.finetuning_recipe(self.encoder, self.folder, self.labeled, self.seed)

    def check(self) -> str:
        """Check everything that can be checked before the encoder is trained, and describe the run."""
        recipe = self.recipe
        if self.variant.is_fine_tuned:
            check_requirements(recipe)
            check_splits(recipe, load_splits(recipe.data))
        method = f"{self.study.updates} updates" if self.variant.is_fine_tuned else "features"
        classes = len(self.study.task.names)
        return f"{self.variant.method} of {classes} classes from {self.study.probe.name}, {method}"

    def identity(self) -> Identity:
        """Return the content that the cell depends on and the names of it."""
        study, recipe = self.study, self.recipe
        made_from: dict[str, Any] = {
            "method": self.variant.method,
            "labeled": self.labeled,
            "seed": self.seed,
            "probe": {**asdict(study.probe), "data_dir": study.contents},
            "frame_stride": recipe.data.frame_stride,
        }
        names: dict[str, Any] = {"probe": {"data_dir": dict.fromkeys(study.contents, name_of(study.probe.data_dir))}}
        if self.variant.start == "pixels":
            made_from["encoder"] = {"num_frames": study.num_frames}
        else:
            made_from["encoder"], names["encoder"] = study.encoder_identity(self.variant.start, self.seed)
        if self.variant.is_fine_tuned:
            training = {name: value for name, value in recipe.training.items() if name != "output_dir"}
            made_from["fine_tuning"] = {
                "training": training,
                "adapter": asdict(recipe.adapter),
                "changes": dict(recipe.model.changes),
            }
        return made_from, names

    def run(self) -> CellResult:
        """Fit the probe or fine-tune the encoder, and test it."""
        point, parameters, losses = self._fine_tune() if self.variant.is_fine_tuned else self._probe()
        study, task = self.study, self.study.task
        return CellResult(
            model=self.variant.name,
            data=study.probe.name,
            protocol=self.variant.method,
            seed=self.seed,
            task=task.kind,
            classes=list(task.names),
            main_metric=next(iter(point.by_video)),
            metrics=point.overall,
            results={
                "point": asdict(point),
                "losses": losses,
                "soft_labels": bool(losses) and _softens_labels(self.recipe),
                "labeled_videos": list(choose_labeled(study.train_videos, self.labeled, self.seed)),
            },
            by_video=next(iter(point.by_video.values())),
            parameters=parameters,
        )

    def _probe(self) -> tuple[LabelPoint, dict[str, int], list[float]]:
        """Fit a linear probe to frozen features; those of all its numbers of labeled videos lie in one folder."""
        study, recipe = self.study, self.recipe
        folder = study.output / "features" / f"{self.variant.start}_{self.seed}"
        stride = recipe.data.frame_stride
        if self.variant.start == "pixels":
            folder = study.output / "features" / "pixels"  # they depend on no seed
            extractor: VideoFeatureExtractor = PixelFeatureExtractor(study.num_frames, stride)
        else:
            device = "cpu" if recipe.training.get("use_cpu") else None
            extractor = encoder_features(self.encoder, stride, device)
        parts: list[Features] = []
        for frames in (fraction_of_videos(study.train, study.fraction(self.labeled), self.seed), study.test):
            extractor.extract(frames, folder, label=study.probe.label)
            parts.append(as_clips(load_video_features(folder, videos_in(frames))))
        train, test = parts
        classes = len(study.task.names)
        scores = linear_probe(train, test, classes)  # (test clips, classes)
        point = score_point(self.variant.name, self.seed, self.labeled, test.videos, test.labels, scores)
        return point, {"trained": (train.values.shape[1] + 1) * classes}, []

    def _fine_tune(self) -> tuple[LabelPoint, dict[str, int], list[float]]:
        """Fine-tune the encoder; afterwards its weights are removed, since only the scores are compared."""
        results = (
            self.folder / "results.json"
        )  # the last file of a run: a killed one may have removed its weights already
        if not results.is_file():
            finetune(self.recipe, progress=False)
        found = ClipPredictions.load(self.folder / "predictions.parquet")
        kept = self.folder / "losses.json"  # beside the weights, which hold them until they are removed
        if not kept.is_file():
            write_json(kept, logged_losses(self.folder))
        losses = json.loads(kept.read_text(encoding="utf-8"))
        for folder in (*self.folder.glob("checkpoint-*"), self.folder / "model"):
            shutil.rmtree(folder, ignore_errors=True)
        point = score_point(self.variant.name, self.seed, self.labeled, found.videos, found.labels, found.scores)
        return point, json.loads(results.read_text(encoding="utf-8"))["parameters"], losses


def _softens_labels(recipe: FinetuningRecipe) -> bool:
    """Return whether labels are mixed or smoothed, so that no loss comes near 0."""
    defaults = {entry.name: entry.default for entry in fields(FinetuningArguments)}
    names = ("mixup_alpha", "cutmix_alpha", "label_smoothing_factor")
    return any(recipe.training.get(name, defaults[name]) for name in names)


def encoder_features(folder: Path, frame_stride: float, device: str | None = None) -> VideoFeatureExtractor:
    """Return the extractor of what a probe of an encoder is fitted to: tubelets, of pixels that its own processor makes.

    Args:
        folder: folder that `pretrain` or `save_untrained` wrote.
        frame_stride: seconds between two frames of a clip.
        device: device to run on; by default a GPU if there is one.
    """
    _, own = load_encoder(folder)
    processor = own if isinstance(own, BaseVideoProcessor) else None  # frames of an image encoder are prepared alike
    return VideoFeatureExtractor(folder, processor, frame_stride=frame_stride, device=device, pooling="tubelets")


def value_cells(study: ValueStudy) -> list[EncoderCell | LabelCell]:
    """Return the cells of a study in the order in which they are run: all variants with the first seed, then the next."""
    cells: list[EncoderCell | LabelCell] = []
    starts: tuple[Start, ...] = ("untrained", "pre-trained")
    for seed in range(study.seeds):
        cells += [EncoderCell(study, start, seed) for start in starts]
        cells += [LabelCell(study, variant, seed, count) for variant in study.variants for count in study.counts]
    return cells

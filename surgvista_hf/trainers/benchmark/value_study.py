"""The settings of the study of the value of pre-training: what is compared, and the recipes and identities of its runs."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset

from ...clips import ClipIndex
from ...datasets_scripts.frame_sets.fingerprints import frames_fingerprint
from ...evaluation.label_efficiency import label_counts
from ...evaluation.tasks import Task
from ...modeling.loading import clip_length
from ...modeling.processors import stride_in_use
from ..finetune import task_of
from ..finetuning.recipe import SECTIONS, FinetuningRecipe, parse_finetuning
from ..pretrain import build_model
from ..pretraining.identity import pretraining_run
from ..pretraining.recipe import Recipe, load_recipe
from ..recipes.loading import FINETUNING, read_recipe
from .cells import Identity
from .studies import ProbeSet

UPDATES = 1000
# Settings that do not favor the pre-trained encoder: no layer has a lower learning rate, and sides and colors stay.
FINE_TUNING: Mapping[str, Any] = {
    "num_train_epochs": 10,
    "warmup_epochs": 1,
    "base_learning_rate": 1e-3,
    "base_min_learning_rate": 1e-6,
    "layer_decay": 1.0,
    "mixup_alpha": 0.0,
    "cutmix_alpha": 0.0,
    "rand_augment": 0,
    "flip": 0.0,
    "erasing": 0.0,
    "label_smoothing_factor": 0.0,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 64,
}
# Settings of a machine, which fine-tuning takes from the recipe of pre-training.
_MACHINE = (
    "use_cpu",
    "bf16",
    "fp16",
    "tf32",
    "dataloader_num_workers",
    "dataloader_persistent_workers",
    "dataloader_prefetch_factor",
    "dataloader_pin_memory",
    "disable_tqdm",
    "report_to",
)
_LOGS = 20  # losses of a fine-tuning run
_CHECKPOINTS = 5  # of a fine-tuning run; a killed run loses less than the time between two
Start = Literal["pixels", "untrained", "pre-trained"]


@dataclass(frozen=True)
class Variant:
    """Describe one curve of the study.

    Args:
        name: name of the variant.
        start: encoder that it starts from.
        is_fine_tuned: whether the encoder is fine-tuned; otherwise a linear probe is fitted to its features.
    """

    name: str
    start: Start
    is_fine_tuned: bool = False

    @property
    def method(self) -> str:
        """Return the name of the method."""
        return "fine-tuning" if self.is_fine_tuned else "linear probe"


@dataclass(frozen=True)
class ValueStudy:
    """A comparison of a pre-trained encoder with an untrained one over numbers of labeled videos.

    Args:
        recipe: YAML file of pre-training, or the name of a recipe of the package.
        overrides: changes to the recipe, see `load_recipe`.
        probe: frame set with labels. The labeled videos are drawn from its training split; all its test videos are tested on.
            A frame has one class, or several.
        output: folder of the study.
        seeds: number of seeds, 0, 1, …: of the weights, the pre-training and the choice of the labeled videos.
        labeled: numbers of labeled videos; `None`: 1, 2, 4, … and all.
        fine_tuning: recipe of fine-tuning whose adapter, training and changes to the model are used; `None`: `FINE_TUNING`.
        updates: number of updates of each fine-tuning run, the same for any number of labeled videos; 0: no fine-tuning.
    """

    recipe: str | Path
    overrides: Sequence[str]
    probe: ProbeSet
    output: Path
    seeds: int = 3
    labeled: tuple[int, ...] | None = None
    fine_tuning: str | Path | None = None
    updates: int = UPDATES

    @cached_property
    def variants(self) -> list[Variant]:
        """Return the variants; where the recipe starts from a checkpoint, that is not called untrained."""
        before = "untrained" if self.pretraining.model.get("from_pretrained") is None else "before pre-training"
        probed = [Variant("pixels", "pixels"), Variant(before, "untrained"), Variant("pre-trained", "pre-trained")]
        if not self.updates:
            return probed
        scratch = "from scratch" if before == "untrained" else f"{before}, fine-tuned"
        return [
            *probed,
            Variant(scratch, "untrained", is_fine_tuned=True),
            Variant("pre-trained and fine-tuned", "pre-trained", is_fine_tuned=True),
        ]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Return what is compared: the variant that is expected to be better, and the other one."""
        pixels, before, trained, *tuned = (variant.name for variant in self.variants)
        pairs = [(trained, before)]
        if tuned:
            pairs += [(tuned[1], tuned[0]), (trained, tuned[0])]
        return [*pairs, (trained, pixels)]

    @cached_property
    def train(self) -> Dataset:
        """Return the frames from which labeled videos are drawn."""
        return self.probe.frames(self.probe.train)

    @cached_property
    def test(self) -> Dataset:
        """Return the frames that are tested on."""
        return self.probe.frames(self.probe.test)

    @cached_property
    def num_frames(self) -> int:
        """Return the number of frames of a clip."""
        return clip_length(build_model(self.pretraining).config)

    @cached_property
    def train_videos(self) -> list[str]:
        """Return the ids of the videos from which the labeled ones are drawn."""
        return [str(video) for video in ClipIndex.from_frame_set(self.train).video_ids]

    @property
    def counts(self) -> tuple[int, ...]:
        """Return the numbers of labeled videos."""
        return self.labeled or label_counts(len(self.train_videos))

    def fraction(self, labeled: int) -> float:
        """Return the fraction of the training videos that is exactly so many of them for `fraction_of_videos`."""
        return (labeled - 0.5) / len(self.train_videos)

    @cached_property
    def task(self) -> Task:
        """Return the task, which says what the classes are."""
        return task_of(self.finetuning_recipe(self.output, self.output, 1, 0).data, self.train)

    @cached_property
    def contents(self) -> dict[str, str]:
        """Return the fingerprints of the labeled frames by the use that is made of them."""
        return {"train": frames_fingerprint(self.train), "test": frames_fingerprint(self.test)}

    @cached_property
    def _pretraining(self) -> Identity:
        """Return the identity of the pre-training, which is the same for all seeds."""
        recipe = self.pretraining
        made_from, names = pretraining_run(recipe)
        training = {name: value for name, value in recipe.training.items() if name not in ("output_dir", "seed")}
        return {**made_from, "training": training}, names

    @cached_property
    def pretraining(self) -> Recipe:
        """Return the recipe of pre-training, without the seed and the folder of an encoder."""
        return self._load(self.output)

    def encoder_identity(self, start: Start, seed: int) -> Identity:
        """Return what an encoder is made from: of an untrained one, only its model and seed."""
        made_from, names = self._pretraining
        if start == "untrained":
            model = {name: made_from[name] for name in ("objective", "model")}
            return {**model, "seed": seed}, {"model": names["model"]}
        return {**made_from, "seed": seed}, names

    def encoder_recipe(self, start: Start, seed: int) -> Recipe:
        """Return the recipe of pre-training with the seed and the folder of an encoder."""
        return self._load(self.encoder_folder(start, seed), f"training.seed={seed}")

    def encoder_folder(self, start: Start, seed: int) -> Path:
        """Return the folder of the run that makes an encoder."""
        return self.output / "encoders" / f"{start}_{seed}"

    def _load(self, folder: Path, *changes: str) -> Recipe:
        return load_recipe(self.recipe, [*self.overrides, f"training.output_dir={folder}", *changes])

    def finetuning_recipe(self, start: str | Path, folder: Path, labeled: int, seed: int) -> FinetuningRecipe:
        """Return the recipe of fine-tuning an encoder with a few labeled videos.

        Args:
            start: folder of the encoder.
            folder: folder of the run.
            labeled: number of labeled videos.
            seed: seed of the run.
        """
        pretraining = self.pretraining
        given = read_recipe(self.fine_tuning, SECTIONS, kind=FINETUNING) if self.fine_tuning else {}
        content = deepcopy({name: value for name, value in given.items() if value})
        machine = {name: pretraining.training[name] for name in _MACHINE if name in pretraining.training}
        changes = (content.get("model") or {}).get("changes", {})
        model: dict[str, Any] = {"from_pretrained": str(start), "changes": changes}
        if self.num_frames == 1:
            model["num_frames"] = 1  # the same clips as for the probe; otherwise an image encoder sees eight frames
        training = {"report_to": "none", **(content.get("training") or FINE_TUNING), **machine}
        steps = max(self.updates, 1)
        training |= {
            "max_steps": steps,
            "save_strategy": "steps",
            "save_steps": -(-steps // _CHECKPOINTS),
            "save_total_limit": 1,
            "logging_steps": -(-steps // _LOGS),
            "logging_first_step": True,  # the loss that the others are compared with
            "dataloader_drop_last": False,  # one video may have fewer clips than a batch
            "seed": seed,
            "output_dir": str(folder),
        }
        data = {
            "name": self.probe.name,
            "data_dir": self.probe.data_dir,
            "label": self.probe.label,
            "protocol": self.probe.protocol,
            "train": self.probe.train,
            "validation": None,  # a few labeled videos leave none to choose a checkpoint by
            "test": self.probe.test,
            "frame_stride": stride_in_use(pretraining.data.frame_stride),
            "fraction": self.fraction(labeled),
            "fraction_seed": seed,
            "on_overlap": pretraining.data.on_overlap,
        }
        return parse_finetuning({**content, "model": model, "data": data, "training": training})

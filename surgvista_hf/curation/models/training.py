"""Training of curation's own models on one's own labels: surgical videos and frames, and non-surgical regions.

`model=None` trains a small model from random weights, which is enough where images are simple; anything else is a checkpoint
of transformers to start from, such as `microsoft/resnet-18` or `PekingU/rtdetr_r18vd`.

From random weights, regions are learned as a segmentation and not as a detection: every pixel is then an example, while
detectors of the DETR kind need very many images before they match boxes at all. `RegionDetector` makes boxes of either.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSemanticSegmentation,
    BaseImageProcessor,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    UperNetConfig,
    UperNetForSemanticSegmentation,
    ViTImageProcessor,
)

from ...clips.sampling.randomness import keyed_generator
from ...util.errors import InputError
from ...util.file_search import IMAGE_SUFFIXES, is_image
from ...util.files import atomic_folder, check_free, write_json
from ...util.messages import first_line, preview
from ...util.trainer_callback import show_on_console
from .classifiers import FrameClassifier, Member, ModelClass, RegionDetector, model_folder, region_model_class

_SMALL: dict[str, Any] = {
    "embedding_size": 16,
    "hidden_sizes": [16, 32, 64, 128],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
REGION_NAMES = ("surgical", "region")
Report = dict[str, Any]  # a JSON object: settings, number of examples, scores
_Label = int | np.ndarray  # a class, or boxes (boxes, 4)
_Collate = Callable[[Sequence[Any]], dict[str, Any]]  # from (frame, label) pairs to the arguments of a model


@dataclass(frozen=True)
class Schedule:
    """Schedule of a training: duration, batch size and learning rate.

    Args:
        epochs: number of passes over the images.
        batch_size: number of images at once.
        learning_rate: peak of the cosine schedule of AdamW; 2e-3 suits small models from random weights, 1e-4 checkpoints.
        seed: seed of weights, order and augmentation; on one machine the same seed gives the same model.

    Raises:
        InputError: if a number is out of range.
    """

    epochs: float = 10
    batch_size: int = 32
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.epochs > 0 and self.batch_size > 0 and self.learning_rate > 0 and self.seed >= 0):
            raise InputError(
                f"epochs, batch size and learning rate must be positive and the seed not negative: {self}"
            )


# ------------------------------------------------------------------------------------- labels


def read_labeled_images(path: str | Path) -> list[tuple[Path, str]]:
    """Read a list of images with a class each.

    Args:
        path: a folder with a folder for each class, or a CSV file with the columns `image` (relative to the file) and `label`.

    Returns:
        (image, class), in a fixed order.

    Raises:
        InputError: if there is nothing, the layout is another, or images are missing.
    """
    path = Path(path)
    if path.is_dir():
        images = (file for file in sorted(path.glob("*/*")) if is_image(file))
        examples = [(file, file.parent.name) for file in images]
    elif path.is_file():
        examples = _read_table(path)
    else:
        raise InputError(f"there are no labeled images at {path}")
    if not examples:
        raise InputError(
            f"{path} holds no images; give a folder with a folder of images ({', '.join(IMAGE_SUFFIXES)}) for each class"
        )
    return examples


def _read_table(file: Path) -> list[tuple[Path, str]]:
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        examples = [(file.parent / row["image"], row["label"]) for row in rows]
    except (KeyError, TypeError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} is no CSV file with the columns image and label: {first_line(error)}") from error
    _check_present([image for image, _ in examples], file)
    return examples


def read_regions(file: str | Path) -> list[tuple[Path, np.ndarray]]:
    """Read a list of images with the boxes of their non-surgical regions, as labeling tools export them.

    Args:
        file: JSON in COCO's format: `images` with `id` and `file_name` (relative to the file), `annotations` with `image_id`
            and `bbox` (x, y, width, height). Categories are ignored; images without annotations have no regions.

    Returns:
        (image, boxes (boxes, 4) float32 as x1, y1, x2, y2 in pixels), in the order of the file.

    Raises:
        InputError: if there is nothing, the format is another, or images are missing.
    """
    path = Path(file)
    if not path.is_file():
        raise InputError(f"there is no file of regions at {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images = {image["id"]: path.parent / image["file_name"] for image in content["images"]}
        boxes: dict[int | str, list[list[float]]] = {number: [] for number in images}
        for annotation in content["annotations"]:
            left, top, width, height = map(float, annotation["bbox"])
            boxes[annotation["image_id"]].append([left, top, left + width, top + height])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not in COCO's format: {error!r}") from error
    _check_present(list(images.values()), path)
    if not images:
        raise InputError(f"{path} names no images")
    return [(image, np.array(boxes[number], np.float32).reshape(-1, 4)) for number, image in images.items()]


def _check_present(images: Sequence[Path], file: Path) -> None:
    missing = [str(image) for image in images if not image.is_file()]
    if missing:
        raise InputError(f"{file} names {len(missing)} images that do not exist: {preview(missing)}")


# ------------------------------------------------------------------------------------- classifiers


def train_classifier(
    examples: str | Path,
    output: str | Path,
    *,
    classes: Sequence[str] | None = None,
    model: str | Path | None = None,
    validation: str | Path | None = None,
    side: int = 224,
    schedule: Schedule | None = None,
) -> Report:
    """Train a classifier of frames or storyboards.

    Args:
        examples: labeled images, in a form that `read_labeled_images` reads.
        output: new folder for the model, its image processor and `training.json`.
        classes: names in the order of the model's outputs, which all members of an ensemble share; sorted by default.
        model: image classifier of transformers to start from, folder or Hub id; a small ResNet from random weights by
            default.
        validation: labeled images of other videos, to measure the result.
        side: side of the square to which images are scaled, in pixels, for a model from random weights.
        schedule: duration, batch size and learning rate.

    Returns:
        Settings, number of images of each class, and the scores on `validation`; also in `training.json`.

    Raises:
        InputError: if labels cannot be read or do not fit, there are fewer than two classes, or the model cannot be loaded.
        OutputError: if the output folder is taken.

    Example:
        >>> train_classifier("frames", "frame-classifier", classes=["surgical", "non-surgical"])  # doctest: +SKIP
    """
    check_free(output)
    schedule = schedule or Schedule()
    labeled = read_labeled_images(examples)
    names = tuple(classes or sorted({label for _, label in labeled}))
    _check_classes(labeled, names)
    held_out = read_labeled_images(validation) if validation else []
    _check_classes(held_out, names, all_needed=False)
    network, processor = _seeded(schedule, lambda: _classifier(model, names, side))
    images = _Images([(image, names.index(label)) for image, label in labeled], schedule.seed)

    def _collate(samples: Sequence[tuple[np.ndarray, int]]) -> dict[str, torch.Tensor]:
        labels = torch.tensor([label for _, label in samples])
        return {**_prepared(processor, [frame for frame, _ in samples]), "labels": labels}

    _fit(network, images, _collate, schedule)
    counts = Counter(label for _, label in labeled)
    report = {**_settings(model, schedule), "examples": {name: counts[name] for name in names}}
    if held_out:
        truth = np.array([names.index(label) for _, label in held_out])
        report["validation"] = class_scores(truth, _classified(network, processor, held_out), names)
    _save(network, processor, report, output)
    return report


def _check_classes(labeled: Sequence[tuple[Path, str]], names: Sequence[str], all_needed: bool = True) -> None:
    found = {label for _, label in labeled}
    unknown, absent = sorted(found - set(names)), sorted(set(names) - found)
    if unknown or len(names) < 2 or (absent and all_needed):
        raise InputError(
            f"the classes are {', '.join(names)}; the labels are {', '.join(sorted(found))}. Two or more have to agree"
        )


def _classifier(start: str | Path | None, names: Sequence[str], side: int) -> Member:
    labels = dict(enumerate(names))
    to_numbers = {name: number for number, name in labels.items()}
    if start is None:
        config = ResNetConfig(**_SMALL, id2label=labels, label2id=to_numbers)
        return ResNetForImageClassification(config), _square(side)
    return _loaded(
        AutoModelForImageClassification, start, id2label=labels, label2id=to_numbers, ignore_mismatched_sizes=True
    )


def _classified(
    network: PreTrainedModel, processor: BaseImageProcessor, labeled: Sequence[tuple[Path, str]]
) -> np.ndarray:
    classify = FrameClassifier([(network.eval(), processor)], "")
    parts = [classify([_read(image)]) for image, _ in labeled]
    return np.concatenate(parts).argmax(axis=1)


def class_scores(truth: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> Report:
    """Compute the accuracy, and precision and recall of each class.

    Args:
        truth, predicted: (images,), numbers of classes.
        names: names of the classes.

    Returns:
        `images`, the number of them, `accuracy`, and for each class `precision` and `recall`; `None` where a class does not
        occur.
    """
    scores: Report = {"images": len(truth), "accuracy": _fraction((truth == predicted).sum(), len(truth))}
    for number, name in enumerate(names):
        right = ((truth == number) & (predicted == number)).sum()
        scores[name] = {
            "precision": _fraction(right, (predicted == number).sum()),
            "recall": _fraction(right, (truth == number).sum()),
        }
    return scores


# ------------------------------------------------------------------------------------- regions


def train_region_detector(
    examples: str | Path,
    output: str | Path,
    *,
    model: str | Path | None = None,
    validation: str | Path | None = None,
    side: int = 256,
    schedule: Schedule | None = None,
) -> Report:
    """Train a detector of non-surgical regions.

    Args:
        examples: JSON file of regions, in the format that `read_regions` reads.
        output: new folder for the model, its image processor and `training.json`.
        model: object detector or semantic segmentation model of transformers to start from, folder or Hub id; a small
            UPerNet from random weights by default.
        validation: regions in images of other videos, to measure the result.
        side: side of the square to which images are scaled, in pixels, for a model from random weights.
        schedule: duration, batch size and learning rate.

    Returns:
        Settings, number of images and regions, and the scores on `validation`; also in `training.json`.

    Raises:
        InputError: if regions cannot be read, or the model cannot be loaded.
        OutputError: if the output folder is taken.

    Example:
        >>> train_region_detector("regions.json", "region-detector")  # doctest: +SKIP
    """
    check_free(output)
    schedule = schedule or Schedule(epochs=30, batch_size=16)
    regions = read_regions(examples)
    held_out = read_regions(validation) if validation else []
    network, processor = _seeded(schedule, lambda: _region_model(model, side))
    targets = _pixel_targets if "Segmentation" in type(network).__name__ else _box_targets

    def _collate(samples: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
        inputs = _prepared(processor, [frame for frame, _ in samples])
        return {**inputs, "labels": targets(samples, inputs["pixel_values"].shape[2:])}

    _fit(network, _Images(regions, schedule.seed), _collate, schedule)
    counts = {"images": len(regions), "regions": sum(len(boxes) for _, boxes in regions)}
    report: Report = {**_settings(model, schedule), "examples": counts}
    if held_out:
        find = RegionDetector([(network.eval(), processor)], "")
        frames = [_read(image) for image, _ in held_out]
        found = [boxes for frame in frames for boxes in find([frame])]
        report["validation"] = region_scores(
            [boxes for _, boxes in held_out], found, [frame.shape[:2] for frame in frames]
        )
    _save(network, processor, report, output)
    return report


def _region_model(start: str | Path | None, side: int) -> Member:
    if start is None:
        config = UperNetConfig(
            backbone_config=ResNetConfig(**_SMALL | {"out_features": ["stage1", "stage2", "stage3", "stage4"]}),
            hidden_size=32,
            pool_scales=[1, 2],
            use_auxiliary_head=False,
            id2label=dict(enumerate(REGION_NAMES)),
            label2id={name: number for number, name in enumerate(REGION_NAMES)},
        )
        return UperNetForSemanticSegmentation(config), _square(side)
    model_class = region_model_class(model_folder(start))
    is_segmentation = model_class is AutoModelForSemanticSegmentation
    names = REGION_NAMES if is_segmentation else REGION_NAMES[1:]  # detectors have no class for the background
    return _loaded(
        model_class,
        start,
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
        ignore_mismatched_sizes=True,
    )


def _pixel_targets(samples: Sequence[tuple[np.ndarray, np.ndarray]], size: Sequence[int]) -> torch.Tensor:
    """Return the targets of a segmentation, (frames, height, width) int64: 1 within boxes, else 0."""
    targets = torch.zeros((len(samples), *size), dtype=torch.long)
    for target, (frame, boxes) in zip(targets, samples, strict=True):
        scale = np.array([size[1] / frame.shape[1], size[0] / frame.shape[0]] * 2)
        for x1, y1, x2, y2 in np.round(boxes * scale).astype(int):
            target[y1:y2, x1:x2] = 1
    return targets


def _box_targets(
    samples: Sequence[tuple[np.ndarray, np.ndarray]], size: Sequence[int]
) -> list[dict[str, torch.Tensor]]:
    """Return the targets of detectors of the DETR kind: centers and sizes as fractions of the image."""
    targets = []
    for frame, boxes in samples:
        fractions = boxes / np.array([frame.shape[1], frame.shape[0]] * 2, np.float32)
        corners, sizes = (fractions[:, :2] + fractions[:, 2:]) / 2, fractions[:, 2:] - fractions[:, :2]
        targets.append(
            {
                "class_labels": torch.zeros(len(boxes), dtype=torch.long),
                "boxes": torch.from_numpy(np.concatenate([corners, sizes], axis=1)),
            }
        )
    return targets


def region_scores(
    truth: Sequence[np.ndarray], found: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]
) -> dict[str, float | None]:
    """Measure how well boxes cover the true regions, in pixels of all images together.

    Args:
        truth, found: boxes (boxes, 4) of each image.
        sizes: (height, width) of each image.

    Returns:
        `coverage`: fraction of the pixels of regions that are found; `precision`: fraction of the found pixels that belong to
        regions.
    """
    hit = wanted = covered = 0
    for true_boxes, found_boxes, size in zip(truth, found, sizes, strict=True):
        one, other = _area(true_boxes, size), _area(found_boxes, size)
        hit, wanted, covered = hit + int((one & other).sum()), wanted + int(one.sum()), covered + int(other.sum())
    return {"coverage": _fraction(hit, wanted), "precision": _fraction(hit, covered)}


def _area(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    area = np.zeros(size, bool)
    for x1, y1, x2, y2 in np.maximum(boxes, 0).astype(int):
        area[y1:y2, x1:x2] = True
    return area


# ------------------------------------------------------------------------------------- what both share


class _Images(torch.utils.data.Dataset[tuple[np.ndarray, _Label]]):
    """Images with their labels, differently cropped, mirrored and lit in each epoch."""

    def __init__(self, examples: Sequence[tuple[Path, _Label]], seed: int) -> None:
        self.examples, self.seed, self.epoch = examples, seed, 0

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, _Label]:
        file, label = self.examples[index]
        # The purpose is part of the seed: another name would give another model.
        return _augmented(_read(file), label, keyed_generator(self.seed, self.epoch, index, "picture"))


def _augmented(frame: np.ndarray, label: _Label, random: np.random.Generator) -> tuple[np.ndarray, _Label]:
    height, width = frame.shape[:2]
    rows, columns = (max(int(side * random.uniform(0.75, 1)), 1) for side in (height, width))
    top, left = int(random.integers(height - rows + 1)), int(random.integers(width - columns + 1))
    frame = frame[top : top + rows, left : left + columns]
    mirrored = random.random() < 0.5
    if mirrored:
        frame = frame[:, ::-1]
    light, contrast = random.uniform(-25, 25, 3) * (1, 0.4, 0.4) @ _LIGHT, random.uniform(0.8, 1.2)
    frame = np.clip((frame.astype(np.float32) - 128) * contrast + 128 + light, 0, 255).astype(np.uint8)
    if isinstance(label, np.ndarray):
        label = _moved(label, left, top, columns, rows, mirrored)
    return frame, label


_LIGHT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], np.float32)  # brightness, and two directions of color


def _moved(boxes: np.ndarray, left: int, top: int, width: int, height: int, mirrored: bool) -> np.ndarray:
    """Return boxes after the same crop and reflection, without slivers of a pixel or less."""
    moved = np.clip(boxes - (left, top, left, top), 0, (width, height, width, height)).astype(np.float32)
    if mirrored:
        moved = np.stack([width - moved[:, 2], moved[:, 1], width - moved[:, 0], moved[:, 3]], axis=1)
    return moved[((moved[:, 2:] - moved[:, :2]) > 1).all(axis=1)]


class _Epochs(TrainerCallback):
    def __init__(self, images: _Images) -> None:
        self.images = images

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Tell the data set its epoch, on which the augmentation depends."""
        self.images.epoch = int(state.epoch or 0)


def _fit(network: PreTrainedModel, images: _Images, collate: _Collate, schedule: Schedule) -> None:
    if len(images) < 2:
        raise InputError("one image is not enough to train on")
    left = len(images) % schedule.batch_size
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=schedule.epochs,
            per_device_train_batch_size=schedule.batch_size,
            learning_rate=schedule.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=0.05,
            weight_decay=0.01,
            seed=schedule.seed,
            data_seed=schedule.seed,
            remove_unused_columns=False,
            dataloader_drop_last=left == 1 and len(images) > schedule.batch_size,  # batch norm needs two
            save_strategy="no",
            report_to=[],
            dataloader_pin_memory=False,
        )
        with torch.random.fork_rng():  # the Trainer seeds it
            trainer = Trainer(
                network, arguments, data_collator=collate, train_dataset=images, callbacks=[_Epochs(images)]
            )
            show_on_console(trainer)
            trainer.train()


def _seeded(schedule: Schedule, make: Callable[[], Member]) -> Member:
    with torch.random.fork_rng():
        torch.manual_seed(schedule.seed)
        return make()


def _loaded(model_class: ModelClass, start: str | Path, **options: object) -> Member:
    folder = model_folder(start)
    try:
        network = model_class.from_pretrained(folder, use_safetensors=True, local_files_only=True, **options)
        return network, AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{start} cannot be trained on: {first_line(error)}") from error


def _square(side: int) -> ViTImageProcessor:
    return ViTImageProcessor(size={"height": side, "width": side})


def _prepared(processor: BaseImageProcessor, frames: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
    return dict(processor(images=list(frames), input_data_format="channels_last", return_tensors="pt"))


def _read(file: Path) -> np.ndarray:
    try:
        with Image.open(file) as image:
            return np.array(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(f"{file} is no image that can be read: {first_line(error)}") from error


def _settings(model: str | Path | None, schedule: Schedule) -> Report:
    return {"model": None if model is None else str(model), **asdict(schedule)}


def _save(network: PreTrainedModel, processor: BaseImageProcessor, report: Report, output: str | Path) -> None:
    with atomic_folder(output) as folder:
        network.save_pretrained(folder)
        processor.save_pretrained(folder)
        write_json(folder / "training.json", report)


def _fraction(part: float, whole: float) -> float | None:
    return round(float(part) / float(whole), 4) if whole else None

"""Training of curation's own models on one's own labels: which videos and frames are surgical, and which regions are not.

`model=None` trains a small model from nothing, which is enough where pictures are simple; anything else is a checkpoint of
transformers to start from, such as `microsoft/resnet-18` or `PekingU/rtdetr_r18vd`.

From nothing, regions are learnt as a segmentation and not as a detection: every pixel is then an example, while detectors of
the DETR kind need very many pictures before they match boxes at all. `RegionDetector` makes boxes of either.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
    ResNetConfig,
    ResNetForImageClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    UperNetConfig,
    UperNetForSemanticSegmentation,
    ViTImageProcessor,
)

from ...clips.sampling.randomness import keyed_generator
from ...util.errors import InputError
from ...util.files import atomic_folder, check_free, write_json
from ...util.messages import first_line, preview
from ...util.trainer_callback import show_on_console
from .classifiers import FrameClassifier, RegionDetector, model_folder, region_model_class

_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_SMALL: dict[str, Any] = {
    "embedding_size": 16,
    "hidden_sizes": [16, 32, 64, 128],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
REGION_NAMES = ("surgical", "region")


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Args:
        epochs: passes over the pictures.
        batch_size: pictures at once.
        learning_rate: of AdamW, at the peak of a cosine; 2e-3 suits small models from nothing, 1e-4 checkpoints.
        seed: of weights, order and augmentation; on one machine the same seed gives the same model.
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
    """Pictures with a class each.

    Args:
        path: a folder with a folder for each class, or a CSV file with the columns `image` (relative to the file) and `label`.

    Returns:
        (picture, class), in a fixed order.

    Raises:
        InputError: nothing there, another layout, or pictures that are missing.
    """
    place = Path(path)
    if place.is_dir():
        pictures = (file for file in sorted(place.glob("*/*")) if file.suffix.lower() in _IMAGES)
        examples = [(file, file.parent.name) for file in pictures]
    elif place.is_file():
        examples = _read_table(place)
    else:
        raise InputError(f"there are no labeled pictures at {place}")
    if not examples:
        raise InputError(
            f"{place} holds no pictures; give a folder with a folder of pictures ({', '.join(_IMAGES)}) for each class"
        )
    return examples


def _read_table(file: Path) -> list[tuple[Path, str]]:
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        examples = [(file.parent / row["image"], row["label"]) for row in rows]
    except (KeyError, TypeError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} is no CSV file with the columns image and label: {first_line(error)}") from error
    _check_present([picture for picture, _ in examples], file)
    return examples


def read_regions(file: str | Path) -> list[tuple[Path, np.ndarray]]:
    """Pictures with the boxes of their non-surgical regions, as labeling tools export them.

    Args:
        file: JSON in COCO's format: `images` with `id` and `file_name` (relative to the file), `annotations` with `image_id`
            and `bbox` (x, y, width, height). Categories are ignored; pictures without annotations have no regions.

    Returns:
        (picture, boxes (k, 4) as x1, y1, x2, y2), in the order of the file.

    Raises:
        InputError: nothing there, another format, or pictures that are missing.
    """
    place = Path(file)
    if not place.is_file():
        raise InputError(f"there is no file of regions at {place}")
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
        pictures = {image["id"]: place.parent / image["file_name"] for image in content["images"]}
        boxes: dict[Any, list[list[float]]] = {number: [] for number in pictures}
        for annotation in content["annotations"]:
            left, top, width, height = map(float, annotation["bbox"])
            boxes[annotation["image_id"]].append([left, top, left + width, top + height])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{place} is not in COCO's format: {error!r}") from error
    _check_present(list(pictures.values()), place)
    if not pictures:
        raise InputError(f"{place} names no pictures")
    return [(picture, np.array(boxes[number], np.float32).reshape(-1, 4)) for number, picture in pictures.items()]


def _check_present(pictures: Sequence[Path], file: Path) -> None:
    missing = [str(picture) for picture in pictures if not picture.is_file()]
    if missing:
        raise InputError(f"{file} names {len(missing)} pictures that do not exist: {preview(missing)}")


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
) -> dict[str, Any]:
    """Train a classifier of frames or storyboards.

    Args:
        examples: for `read_labeled_images`.
        output: new folder for the model, its image processor and `training.json`.
        classes: names in the order of the model's outputs, which all members of an ensemble share; sorted by default.
        model: image classifier of transformers to start from, folder or Hub id; a small ResNet from nothing by default.
        validation: labeled pictures of other videos, to measure the result.
        side: pixels of the square to which pictures are scaled, for a model from nothing.
        schedule: how long and how fast.

    Returns:
        Settings, number of pictures of each class, and the scores on `validation`; also in `training.json`.

    Raises:
        InputError: labels that cannot be read or do not fit, fewer than two classes, or a model that cannot be loaded.
        OutputError: the output folder is taken.

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
    pictures = _Pictures([(picture, names.index(label)) for picture, label in labeled], schedule.seed)

    def collate(samples: Sequence[tuple[np.ndarray, int]]) -> dict[str, Any]:
        labels = torch.tensor([label for _, label in samples])
        return {**_prepared(processor, [frame for frame, _ in samples]), "labels": labels}

    _fit(network, pictures, collate, schedule)
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


def _classifier(start: str | Path | None, names: Sequence[str], side: int) -> tuple[Any, Any]:
    labels = dict(enumerate(names))
    to_numbers = {name: number for number, name in labels.items()}
    if start is None:
        config = ResNetConfig(**_SMALL, id2label=labels, label2id=to_numbers)
        return ResNetForImageClassification(config), _square(side)
    return _loaded(
        AutoModelForImageClassification, start, id2label=labels, label2id=to_numbers, ignore_mismatched_sizes=True
    )


def _classified(network: Any, processor: Any, labeled: Sequence[tuple[Path, str]]) -> np.ndarray:
    classify = FrameClassifier([(network.eval(), processor)], "")
    parts = [classify([_read(picture)]) for picture, _ in labeled]
    return np.concatenate(parts).argmax(axis=1)


def class_scores(truth: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Accuracy, and precision and recall of each class; `None` where a class does not occur.

    Args:
        truth, predicted: (n,), numbers of classes.
        names: of the classes.
    """
    scores: dict[str, Any] = {"pictures": len(truth), "accuracy": _fraction((truth == predicted).sum(), len(truth))}
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
) -> dict[str, Any]:
    """Train a finder of non-surgical regions.

    Args:
        examples: for `read_regions`.
        output: new folder for the model, its image processor and `training.json`.
        model: object detector or semantic segmentation model of transformers to start from, folder or Hub id; a small
            UPerNet from nothing by default.
        validation: regions in pictures of other videos, to measure the result.
        side: pixels of the square to which pictures are scaled, for a model from nothing.
        schedule: how long and how fast.

    Returns:
        Settings, number of pictures and regions, and the scores on `validation`; also in `training.json`.

    Raises:
        InputError: regions that cannot be read, or a model that cannot be loaded.
        OutputError: the output folder is taken.

    Example:
        >>> train_region_detector("regions.json", "region-detector")  # doctest: +SKIP
    """
    check_free(output)
    schedule = schedule or Schedule(epochs=30, batch_size=16)
    regions = read_regions(examples)
    held_out = read_regions(validation) if validation else []
    network, processor = _seeded(schedule, lambda: _region_model(model, side))
    targets = _pixel_targets if "Segmentation" in type(network).__name__ else _box_targets

    def collate(samples: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
        inputs = _prepared(processor, [frame for frame, _ in samples])
        return {**inputs, "labels": targets(samples, inputs["pixel_values"].shape[2:])}

    _fit(network, _Pictures(regions, schedule.seed), collate, schedule)
    counts = {"pictures": len(regions), "regions": sum(len(boxes) for _, boxes in regions)}
    report: dict[str, Any] = {**_settings(model, schedule), "examples": counts}
    if held_out:
        find = RegionDetector([(network.eval(), processor)], "")
        frames = [_read(picture) for picture, _ in held_out]
        found = [boxes for frame in frames for boxes in find([frame])]
        report["validation"] = region_scores(
            [boxes for _, boxes in held_out], found, [frame.shape[:2] for frame in frames]
        )
    _save(network, processor, report, output)
    return report


def _region_model(start: str | Path | None, side: int) -> tuple[Any, Any]:
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
    names = REGION_NAMES if "Segmentation" in model_class.__name__ else REGION_NAMES[1:]
    return _loaded(
        model_class,
        start,
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
        ignore_mismatched_sizes=True,
    )


def _pixel_targets(samples: Sequence[tuple[np.ndarray, np.ndarray]], size: Sequence[int]) -> torch.Tensor:
    """(n, height, width): 1 within boxes."""
    targets = torch.zeros((len(samples), *size), dtype=torch.long)
    for target, (frame, boxes) in zip(targets, samples, strict=True):
        scale = np.array([size[1] / frame.shape[1], size[0] / frame.shape[0]] * 2)
        for x1, y1, x2, y2 in np.round(boxes * scale).astype(int):
            target[y1:y2, x1:x2] = 1
    return targets


def _box_targets(
    samples: Sequence[tuple[np.ndarray, np.ndarray]], size: Sequence[int]
) -> list[dict[str, torch.Tensor]]:
    """As detectors of the DETR kind want them: centers and sizes as shares of the picture."""
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
    """How well boxes cover what they should, in pixels of all pictures together.

    Args:
        truth, found: boxes (k, 4) of each picture.
        sizes: (height, width) of each picture.

    Returns:
        `coverage`: share of the pixels of regions that are found; `precision`: share of the found pixels that belong to
        regions.
    """
    hit = wanted = covered = 0
    for right, given, size in zip(truth, found, sizes, strict=True):
        one, other = _area(right, size), _area(given, size)
        hit, wanted, covered = hit + int((one & other).sum()), wanted + int(one.sum()), covered + int(other.sum())
    return {"coverage": _fraction(hit, wanted), "precision": _fraction(hit, covered)}


def _area(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    area = np.zeros(size, bool)
    for x1, y1, x2, y2 in np.maximum(boxes, 0).astype(int):
        area[y1:y2, x1:x2] = True
    return area


# ------------------------------------------------------------------------------------- what both share


class _Pictures(torch.utils.data.Dataset[tuple[np.ndarray, Any]]):
    """Pictures with their labels, differently cropped, mirrored and lit in each epoch."""

    def __init__(self, examples: Sequence[tuple[Path, Any]], seed: int) -> None:
        self.examples, self.seed, self.epoch = examples, seed, 0

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, Any]:
        picture, label = self.examples[index]
        return _augmented(_read(picture), label, keyed_generator(self.seed, self.epoch, index, "picture"))


def _augmented(frame: np.ndarray, label: Any, random: np.random.Generator) -> tuple[np.ndarray, Any]:
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
    """Boxes after the same crop and reflection; slivers of a pixel or less go."""
    moved = np.clip(boxes - (left, top, left, top), 0, (width, height, width, height)).astype(np.float32)
    if mirrored:
        moved = np.stack([width - moved[:, 2], moved[:, 1], width - moved[:, 0], moved[:, 3]], axis=1)
    return moved[((moved[:, 2:] - moved[:, :2]) > 1).all(axis=1)]


class _Epochs(TrainerCallback):
    def __init__(self, pictures: _Pictures) -> None:
        self.pictures = pictures

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.pictures.epoch = int(state.epoch or 0)


def _fit(network: Any, pictures: _Pictures, collate: Callable[..., Any], schedule: Schedule) -> None:
    if len(pictures) < 2:
        raise InputError("one picture is not enough to train on")
    left = len(pictures) % schedule.batch_size
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
            dataloader_drop_last=left == 1 and len(pictures) > schedule.batch_size,  # batch norm needs two
            save_strategy="no",
            report_to=[],
            dataloader_pin_memory=False,
        )
        with torch.random.fork_rng():  # the Trainer seeds it
            trainer = Trainer(
                network, arguments, data_collator=collate, train_dataset=pictures, callbacks=[_Epochs(pictures)]
            )
            show_on_console(trainer)
            trainer.train()


def _seeded(schedule: Schedule, make: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
    with torch.random.fork_rng():
        torch.manual_seed(schedule.seed)
        return make()


def _loaded(model_class: Any, start: str | Path, **options: Any) -> tuple[Any, Any]:
    place = model_folder(start)
    try:
        network = model_class.from_pretrained(place, use_safetensors=True, local_files_only=True, **options)
        return network, AutoImageProcessor.from_pretrained(place, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{start} cannot be trained on: {first_line(error)}") from error


def _square(side: int) -> ViTImageProcessor:
    return ViTImageProcessor(size={"height": side, "width": side})


def _prepared(processor: Any, frames: Sequence[np.ndarray]) -> dict[str, Any]:
    return dict(processor(images=list(frames), input_data_format="channels_last", return_tensors="pt"))


def _read(picture: Path) -> np.ndarray:
    try:
        with Image.open(picture) as image:
            return np.array(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(f"{picture} is no picture that can be read: {first_line(error)}") from error


def _settings(model: str | Path | None, schedule: Schedule) -> dict[str, Any]:
    return {"model": None if model is None else str(model), **asdict(schedule)}


def _save(network: Any, processor: Any, report: Mapping[str, Any], output: str | Path) -> None:
    with atomic_folder(output) as folder:
        network.save_pretrained(folder)
        processor.save_pretrained(folder)
        write_json(folder / "training.json", report)


def _fraction(part: Any, whole: Any) -> float | None:
    return round(float(part) / float(whole), 4) if whole else None

"""Classifiers of frames and detectors of regions: ensembles of transformers models behind two small interfaces.

As in the curation of Surg-3M (arXiv 2503.19740), classifiers vote with the mean of their logits; detectors combine their
boxes, and of boxes that overlap the one with the highest confidence is kept. Unlike there, the members are an explicit list
with a fingerprint.

In bfloat16 the models are several times as fast on processors that have it in hardware, and probabilities change a little. A
decision that a classifier makes by less than this change is made again in float32.
"""

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from huggingface_hub import snapshot_download
from scipy import ndimage
from torchvision.ops import nms
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForObjectDetection,
    AutoModelForSemanticSegmentation,
    BaseImageProcessor,
    BatchFeature,
    PreTrainedModel,
)

from ...modeling.errors_surgvista import folder_or_hub_name
from ...modeling.precision import resolve_dtype
from ...util.errors import InputError
from ...util.files import file_hash
from ...util.messages import first_line
from .folding import fold_head, fold_norms

_FILES = ("*.json", "*.safetensors")  # nothing else in a folder is read, least of all a pickle
_FILLED = 0.75  # fraction of its box that one region fills
_Corners = tuple[int, int, int, int]  # top, left, bottom, right
_Device = str | torch.device | None
# Two classes whose probabilities are closer than this may change their order in bfloat16, which moved each by 0.007.
_CLOSE = 0.2
_IN_CACHE = 2  # images at once, for each thread, whose activations a CPU finds in its caches
# Settings of image processors as text, which are slow to write for every batch.
_SETTINGS: WeakKeyDictionary[BaseImageProcessor, str] = WeakKeyDictionary()
Precision = Literal["auto", "float32", "bfloat16"]
Member = tuple[PreTrainedModel, BaseImageProcessor]  # a model with its image processor
ModelClass = (
    type[AutoModelForImageClassification] | type[AutoModelForObjectDetection] | type[AutoModelForSemanticSegmentation]
)


class FrameClassifier:
    """An ensemble of image classifiers: softmax of the mean of their logits.

    Args:
        members: models of transformers with the same classes, each with its image processor.
        fingerprint: fingerprint of the members.
        batch_size: number of images at once.
        fast: the same members in bfloat16, which are tried first; where two classes are nearly equally probable, `members`
            decide.

    Raises:
        InputError: if there is no member, or members have different classes.

    Example:
        >>> classify = FrameClassifier.from_pretrained(["frames-a", "frames-b"])  # doctest: +SKIP
        >>> classify.names  # doctest: +SKIP
        ('surgical', 'non-surgical')
        >>> classify([frame]).argmax(axis=1)  # doctest: +SKIP
        array([0])
    """

    def __init__(
        self, members: Sequence[Member], fingerprint: str, batch_size: int = 32, *, fast: Sequence[Member] = ()
    ) -> None:
        if not members:
            raise InputError("an ensemble needs at least one model")
        _check_batch_size(batch_size)
        self.members, self.fingerprint, self.batch_size = tuple(members), fingerprint, batch_size
        self.fast = tuple(fast)
        self.dtype: Literal["float32", "bfloat16"] = "bfloat16" if fast else "float32"
        classes = [_names(model) for model, _ in members]
        self.names = classes[0]
        for names in classes[1:]:
            if names != self.names:
                raise InputError(
                    f"the models of an ensemble need the same classes in the same order; "
                    f"one has {', '.join(self.names)}, another {', '.join(names)}"
                )

    @classmethod
    def from_pretrained(
        cls,
        folders: Sequence[str | Path],
        *,
        device: _Device = None,
        batch_size: int = 32,
        dtype: Precision = "float32",
    ) -> "FrameClassifier":
        """Load the members.

        Args:
            folders: folders or Hub ids of image classifiers, each with its image processor.
            device: device of the models; the first accelerator by default, or else the CPU.
            batch_size: number of images at once.
            dtype: `"float32"`, `"bfloat16"`, or `"auto"`: see `resolve_precision`.

        Raises:
            InputError: if there are no folders, one contains nothing that can be loaded, or classes differ.
        """
        paths = _model_folders(folders)
        members = [_load(path, AutoModelForImageClassification, device) for path in paths]
        is_fast = resolve_precision(dtype, device) == "bfloat16"
        return cls(members, _fingerprint(paths), batch_size, fast=_in_bfloat16(members) if is_fast else ())

    @torch.inference_mode()
    def __call__(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Classify frames.

        Args:
            frames: (height, width, 3) uint8, RGB, of any sizes.

        Returns:
            Probabilities, (frames, classes) float32.

        Raises:
            InputError: if something is not such a frame.
        """
        _check_frames(frames)
        probabilities = [np.empty((0, len(self.names)), np.float32)]
        for batch in _batches(frames, self.batch_size):
            found = _probabilities(self.fast or self.members, batch)  # (frames, classes)
            ranked = np.sort(found, axis=1)
            if self.fast and len(self.names) > 1 and (close := ranked[:, -1] - ranked[:, -2] < _CLOSE).any():
                found[close] = _probabilities(self.members, [frame for frame, is_it in zip(batch, close) if is_it])  # noqa: B905
            probabilities.append(found)
        return np.concatenate(probabilities)


class RegionDetector:
    """An ensemble that finds non-surgical regions: logos, text, picture-in-picture insets. Their classes are ignored.

    A member is an object detector, or a semantic segmentation model: each connected part that does not belong to its first
    class (the background) counts as an object, with the mean probability of its pixels as confidence.

    Args:
        members: models of transformers, each with its image processor.
        fingerprint: fingerprint of the members.
        threshold: lowest confidence of a box.
        overlap: largest intersection over union of two boxes; where it is larger, the one with the higher confidence is kept.
        batch_size: number of images at once.

    Raises:
        InputError: if there is no member, or a threshold is outside 0-1.

    Example:
        >>> find = RegionDetector.from_pretrained(["regions"])  # doctest: +SKIP
        >>> find([frame])  # x1, y1, x2, y2 in pixels  # doctest: +SKIP
        [array([[ 12.,   8., 140.,  40.]], dtype=float32)]
    """

    def __init__(
        self,
        members: Sequence[Member],
        fingerprint: str,
        *,
        threshold: float = 0.25,
        overlap: float = 0.7,
        batch_size: int = 8,
    ) -> None:
        if not members:
            raise InputError("an ensemble needs at least one model")
        if not (0 <= threshold <= 1 and 0 <= overlap <= 1):
            raise InputError(f"threshold {threshold} and overlap {overlap} must lie in 0-1")
        _check_batch_size(batch_size)
        self.members, self.fingerprint, self.batch_size = tuple(members), fingerprint, batch_size
        self.threshold, self.overlap = threshold, overlap
        self.dtype: Literal["float32", "bfloat16"] = "float32"

    @classmethod
    def from_pretrained(
        cls,
        folders: Sequence[str | Path],
        *,
        threshold: float = 0.25,
        overlap: float = 0.7,
        device: _Device = None,
        batch_size: int = 8,
        dtype: Precision = "float32",
    ) -> "RegionDetector":
        """Load the members.

        Args:
            folders: folders or Hub ids of object detectors or semantic segmentation models, each with its image processor.
            threshold: lowest confidence of a box.
            overlap: largest intersection over union of two boxes.
            device: device of the models; the first accelerator by default, or else the CPU.
            batch_size: number of images at once.
            dtype: `"float32"`, `"bfloat16"`, or `"auto"`: see `resolve_precision`.

        Raises:
            InputError: if there are no folders, one contains nothing that can be loaded, or a threshold is outside 0-1.
        """
        paths = _model_folders(folders)
        members = [_load(path, region_model_class(path), device) for path in paths]
        for model, _ in members:
            fold_head(model)
        detector = cls(members, _fingerprint(paths), threshold=threshold, overlap=overlap, batch_size=batch_size)
        if resolve_precision(dtype, device) == "bfloat16":
            detector.accelerate()
        return detector

    def accelerate(self) -> None:
        """Run the segmentation models among the members in bfloat16.

        Object detectors stay as they are: with the 8 bits of a bfloat16 their boxes would be off by several pixels.
        """
        is_box_model = [_gives_boxes(processor) for _, processor in self.members]
        if not all(is_box_model):
            fast = _in_bfloat16(self.members)
            pairs = zip(self.members, fast, is_box_model, strict=True)
            self.members = tuple(exact if is_it else quick for exact, quick, is_it in pairs)
            self.dtype = "bfloat16"

    @torch.inference_mode()
    def __call__(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Find regions in frames.

        Args:
            frames: (height, width, 3) uint8, RGB, of any sizes.

        Returns:
            Boxes of each frame, (boxes, 4) float32: x1, y1, x2, y2 in its pixels, the highest confidence first.

        Raises:
            InputError: if something is not such a frame.
        """
        _check_frames(frames)
        boxes = []
        for batch in _batches(frames, self.batch_size):
            found = [
                self._found(member, inputs, batch)
                for member, inputs in zip(self.members, _prepared(self.members, batch), strict=True)
            ]
            boxes += [self._pooled(of_one_frame) for of_one_frame in zip(*found, strict=True)]
        return boxes

    def _found(
        self, member: Member, inputs: dict[str, torch.Tensor], frames: Sequence[np.ndarray]
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return boxes (boxes, 4) and confidences (boxes,) of each frame, by one member."""
        model, processor = member
        sizes = [frame.shape[:2] for frame in frames]
        if _gives_boxes(processor):
            find_boxes = processor.post_process_object_detection  # type: ignore[attr-defined]  # those of detectors have it
            results = find_boxes(model(**inputs), threshold=self.threshold, target_sizes=sizes)
            return [(result["boxes"].float().cpu(), result["scores"].float().cpu()) for result in results]
        probabilities = 1 - _logits(model, inputs).softmax(1)[:, 0].cpu().numpy()  # (frames, rows, columns)
        return [_parts(each, size, self.threshold) for each, size in zip(probabilities, sizes, strict=True)]

    def _pooled(self, found: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> np.ndarray:
        boxes, scores = torch.cat([box for box, _ in found]), torch.cat([score for _, score in found])
        return boxes[nms(boxes, scores, self.overlap)].numpy()


def _gives_boxes(processor: BaseImageProcessor) -> bool:
    """Return whether a processor belongs to an object detector."""
    return hasattr(processor, "post_process_object_detection")


def _parts(probability: np.ndarray, size: tuple[int, int], threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the connected parts in which the probability of a region reaches 0.5.

    Args:
        probability: (rows, columns), probability of a region in each pixel of the model's output.
        size: height and width of the frame.
        threshold: lowest confidence of a part.

    Returns:
        Boxes (boxes, 4) in pixels of the frame, and the mean probability of the part of each (boxes,).
    """
    parts, _ = ndimage.label(probability >= 0.5)
    height, width = np.divide(size, probability.shape)
    boxes, scores = [], []
    for number, (rows, columns) in enumerate(ndimage.find_objects(parts), 1):
        part = parts[rows, columns] == number
        score = float(probability[rows, columns][part].mean())
        if score >= threshold:
            found = np.array(_tight(part)) + np.array([rows.start, columns.start] * 2)
            boxes.append(found[:, [1, 0, 3, 2]] * np.array([width, height] * 2))
            scores += [score] * len(found)
    corners = np.concatenate([*boxes, np.empty((0, 4))])
    return torch.tensor(corners, dtype=torch.float32), torch.tensor(scores, dtype=torch.float32)


def _tight(part: np.ndarray) -> list[_Corners]:
    """Return boxes around a part.

    Where two regions touch, as an L, their common box would cover the tissue between them. So a part that fills too little of
    its box is cut where the boxes of both pieces are smallest together.
    """
    rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    top, left, bottom, right = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
    inner = part[top:bottom, left:right]
    if inner.mean() >= _FILLED:
        return [(top, left, bottom, right)]
    across, along = _cut_areas(inner), _cut_areas(inner.T)
    if min(across.min(initial=inner.size), along.min(initial=inner.size)) > 0.9 * inner.size:
        return [(top, left, bottom, right)]
    if across.min(initial=inner.size) <= along.min(initial=inner.size):
        cut = int(across.argmin()) + 1
        pieces = [(0, 0, inner[:cut]), (cut, 0, inner[cut:])]
    else:
        cut = int(along.argmin()) + 1
        pieces = [(0, 0, inner[:, :cut]), (0, cut, inner[:, cut:])]
    return [
        (top + y + box[0], left + x + box[1], top + y + box[2], left + x + box[3])
        for y, x, piece in pieces
        for box in _tight(piece)
    ]


def _cut_areas(part: np.ndarray) -> np.ndarray:
    """Return the area of the two boxes if the part is cut after each row, (rows - 1,); no first or last row is empty."""
    height, width = part.shape
    filled = part.any(1)
    first = np.where(filled, part.argmax(1), width)
    last = np.where(filled, width - part[:, ::-1].argmax(1), 0)
    numbers = np.arange(1, height)
    above = numbers * (np.maximum.accumulate(last) - np.minimum.accumulate(first))[:-1]
    below = (height - numbers) * (np.maximum.accumulate(last[::-1]) - np.minimum.accumulate(first[::-1]))[::-1][1:]
    return above + below


def _names(model: PreTrainedModel) -> tuple[str, ...]:
    id2label: dict[int, str] = model.config.id2label  # type: ignore[assignment]  # numbers, once loaded
    return tuple(id2label[number] for number in range(len(id2label)))


def _model_folders(folders: Sequence[str | Path]) -> list[Path]:
    """Return the folders of models; those that are not on this machine come from the Hub."""
    if isinstance(folders, str | Path):
        raise InputError(f"give a list of models, such as [{str(folders)!r}]")
    return [model_folder(folder) for folder in folders]


def model_folder(folder: str | Path) -> Path:
    """Return the folder of a model; one that is not on this machine is downloaded from the Hub, without pickles.

    Raises:
        InputError: if it is neither a folder nor a model on the Hub.
    """
    name = folder_or_hub_name(folder)
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} is neither a folder nor a model on the Hub: {first_line(error)}") from error


def _load(folder: Path, model_class: ModelClass, device: _Device) -> Member:
    try:
        model = model_class.from_pretrained(folder, use_safetensors=True, local_files_only=True)
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} holds no model for this step, with its image processor and safetensors weights: {first_line(error)}"
        ) from error
    return model.to(_device(device)).eval(), processor


def region_model_class(folder: Path) -> ModelClass:
    """Return the Auto class for a folder: that of semantic segmentation models, or else of object detectors.

    Raises:
        InputError: if there is no model.
    """
    try:
        architectures = AutoConfig.from_pretrained(folder, local_files_only=True).architectures or [""]
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} holds no model: {first_line(error)}") from error
    is_segmentation = "Segmentation" in architectures[0]
    return AutoModelForSemanticSegmentation if is_segmentation else AutoModelForObjectDetection


def _fingerprint(folders: Sequence[Path]) -> str:
    """Compute the SHA-256 over names and contents of the members' files, in the order given."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(file for pattern in _FILES for file in folder.glob(pattern)):
            digest.update(f"{file.name} {file_hash(file)}\n".encode())
        digest.update(b"\n")
    return digest.hexdigest()


def resolve_precision(dtype: str, device: _Device = None) -> Literal["float32", "bfloat16"]:
    """Return the number format in which models run.

    Args:
        dtype: `"float32"`, `"bfloat16"`, or `"auto"`: bfloat16 on a CPU that has it in hardware, else float32.
        device: device of the models; the first accelerator by default, or else the CPU.

    Raises:
        InputError: if there is no such format.

    Example:
        >>> resolve_precision("bfloat16")
        'bfloat16'
    """
    chosen = torch.device(_device(device))
    if dtype == "auto" and chosen.type != "cpu":
        return "float32"
    return resolve_dtype(dtype, chosen)


def _device(device: _Device) -> str | torch.device:
    if device is not None:
        return device
    return (torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None) or "cpu"


def _in_bfloat16(members: Sequence[Member]) -> list[Member]:
    """Return copies of members in bfloat16, with the pixels of a channel apart as convolutions in hardware want it."""
    copies = [(copy.deepcopy(model), processor) for model, processor in members]
    for model, _ in copies:
        fold_norms(model)
        module: torch.nn.Module = model
        module.to(torch.bfloat16).to(memory_format=torch.channels_last)  # in place
    return copies


def _probabilities(members: Sequence[Member], frames: Sequence[np.ndarray]) -> np.ndarray:
    """Return the probabilities, (frames, classes) float32, by the mean of the members' logits."""
    logits = [_logits(model, inputs) for (model, _), inputs in zip(members, _prepared(members, frames), strict=True)]
    return torch.stack(logits).mean(0).softmax(-1).cpu().numpy()


def _logits(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the logits of images in float32; a CPU computes few at a time, since more are slower."""
    count = len(next(iter(inputs.values())))
    at_once = _IN_CACHE * torch.get_num_threads() if model.device.type == "cpu" else count
    parts = (
        {name: value[start : start + at_once] for name, value in inputs.items()} for start in range(0, count, at_once)
    )
    return torch.cat([model(**part).logits for part in parts]).float()


def _prepared(members: Sequence[Member], frames: Sequence[np.ndarray]) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the inputs of each member; members whose image processors agree share the work of one."""
    writable = [np.require(frame, requirements="W") for frame in frames]  # torch warns of others
    known: dict[str, BatchFeature] = {}
    for model, processor in members:
        settings = _SETTINGS.get(processor) or _SETTINGS.setdefault(processor, processor.to_json_string())
        if settings not in known:
            known[settings] = processor(images=writable, input_data_format="channels_last", return_tensors="pt")
        yield {
            name: value.to(model.device, model.dtype if value.is_floating_point() else None)
            for name, value in known[settings].items()
        }


def _batches(frames: Sequence[np.ndarray], size: int) -> Iterator[Sequence[np.ndarray]]:
    return (frames[start : start + size] for start in range(0, len(frames), size))


def _check_batch_size(size: int) -> None:
    if size < 1:
        raise InputError(f"batch_size must be at least 1, not {size}")


def _check_frames(frames: Sequence[np.ndarray]) -> None:
    for frame in frames:
        if not (isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3):
            found = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise InputError(f"frames are arrays (height, width, 3) of uint8, RGB; found {found}")

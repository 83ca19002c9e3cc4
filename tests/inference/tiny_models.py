"""Models without training, and predictions made up, for the tests of inference and of the web demo."""

from pathlib import Path

import numpy as np
import torch

from surgvista_hf import SurgVistaForVideoClassification, SurgVistaVideoProcessor
from surgvista_hf.inference import VideoPrediction
from surgvista_hf.inference.models.clip_model import ClipModel
from surgvista_hf.modeling.clip_spacing import ClipSpacing
from surgvista_hf.modeling.confidence import Confidence
from surgvista_hf.modeling.loading import load_classifier, make_classifier_processor

from ..modeling import golden
from ..videos import read_number

NAMES = ["Preparation", "Dissection", "Clipping", "Packaging"]


def tiny_classifier(**changes) -> SurgVistaForVideoClassification:
    torch.manual_seed(0)
    labels = dict(enumerate(NAMES))
    config = golden.pretraining_config(
        id2label=labels, label2id={name: i for i, name in labels.items()}, classifier_init_scale=50.0, **changes
    )
    return SurgVistaForVideoClassification(config).eval()


def processor() -> SurgVistaVideoProcessor:
    return SurgVistaVideoProcessor(size={"height": 32, "width": 32}, num_frames=4, frame_stride=3)


def save_classifier(folder: Path) -> Path:
    """Write a classifier of four phases, untrained but of decided answers, and return its folder."""
    tiny_classifier().save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder


DETECTOR = {
    "model_type": "surgical_encoder",
    "encoder_config": {
        "model_type": "convnext",
        "image_size": 32,
        "hidden_sizes": [8, 16],
        "depths": [1, 1],
        "num_stages": 2,
    },
    "num_frames": 1,
    "frame_feature": "pooler",
}


def save_detector(folder: Path) -> Path:
    """Write an untrained detector of the outside, and return its folder."""
    torch.manual_seed(0)
    model = load_classifier(DETECTOR, ["inside", "outside"], "single_label_classification")
    model.save_pretrained(folder)
    make_classifier_processor(model, DETECTOR, 1).save_pretrained(folder)
    return folder


class Redness(ClipModel):
    """A detector for tests that can be reasoned about: rooms are less red than the inside of a patient."""

    source = fingerprint = "redness"
    num_frames, class_names, multi_label = 1, ["inside", "outside"], False

    def __init__(self) -> None:
        pass

    def prepare(self, images: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(images.copy()).movedim(-1, 1).float()

    def run(self, clips: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        red, green, _ = clips[:, 0].mean((-1, -2)).T.numpy()
        outside = (red < 1.35 * green).astype(np.float32)
        return np.stack([1 - outside, outside], axis=1), np.zeros((len(clips), 1), np.float32)


class Numbers(ClipModel):
    """Stand in for a model and note the numbers that the frames of its clips carry."""

    def __init__(self, num_frames: int, frame_stride: float, frame_interval: float | None = None) -> None:
        self.num_frames, self.frame_stride = num_frames, frame_stride
        self.spacing = ClipSpacing(num_frames, frame_stride, frame_interval)
        self.class_names, self.multi_label, self.confidence = ["a", "b"], False, Confidence()
        self.clips: list[list[int]] = []

    def prepare(self, images: np.ndarray) -> torch.Tensor:
        return torch.tensor([read_number(image) for image in images])

    def run(self, clips: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        self.clips += clips.tolist()
        return np.full((len(clips), 2), 0.5), np.zeros((len(clips), 1))


def prediction(labels=(0, 0, 1, 1, 1, 3), **changes) -> VideoPrediction:
    probabilities = np.full((len(labels), 4), 0.1)
    probabilities[np.arange(len(labels)), labels] = 0.7
    return VideoPrediction("a.mp4", np.arange(len(labels), dtype=float), probabilities, NAMES, **changes)

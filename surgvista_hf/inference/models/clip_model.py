"""A classifier of clips for inference: it prepares frames once and gives probabilities and features."""

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForVideoClassification, AutoVideoProcessor, PreTrainedModel

from ...modeling.adapters import merge_adapter
from ...modeling.clip_spacing import ClipSpacing
from ...modeling.confidence import Confidence
from ...modeling.errors_surgvista import folder_or_hub_name, not_a_folder_either
from ...modeling.features import FeatureExtractor
from ...modeling.loading import class_names, clip_length, frame_size, resolve_frame_stride, stored_frame_interval
from ...modeling.precision import describe_dtype, resolve_dtype
from ...modeling.processors import prepare_clips
from ...util.errors import InputError, SurgVistaError
from ...util.fingerprint import model_fingerprint, state_fingerprint, weights_fingerprint
from ...util.messages import first_line


class ClipModel:
    """A trained classifier on a device, with its processor.

    Args:
        model: a classifier of clips.
        processor: its video processor.
        device: device that runs the model; a GPU if there is one.
        dtype: `"float32"`, `"bfloat16"` (autocast), or `"auto"`: bfloat16 where the device has it in hardware, or float32.
        source: folder or Hub id that the model came from, for reports.
        frame_stride: seconds between two frames of a clip, for a model whose configuration does not hold it.
        confidence: temperature of the model, and what its training videos look like; `None`: unknown.

    Raises:
        InputError: the device cannot be used, there is no such dtype, or the model was trained with another `frame_stride`.

    Attributes:
        dtype: precision that it computes in: `"float32"`, `"bfloat16"`, or `"int8"` (graphs only).
    """

    dtype = "float32"
    _is_saved = False  # whether the files at `source` hold these weights

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Any,
        *,
        device: str | torch.device | None = None,
        dtype: str = "auto",
        source: str = "model",
        frame_stride: float | None = None,
        confidence: Confidence | None = None,
    ) -> None:
        resolve_dtype(dtype, "cpu")  # refuses an unknown one before a device is looked for
        self.model: Any = model.eval()
        try:
            self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            self.model.to(self.device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"device {device} cannot be used: {first_line(error)}") from error
        self.dtype = resolve_dtype(dtype, self.device)
        self._describe(model.config, processor, source, frame_stride, confidence or Confidence())
        self.extractor = FeatureExtractor(model)

    def _describe(
        self, config: Any, processor: Any, source: str, frame_stride: float | None, confidence: Confidence
    ) -> None:
        self.config, self.processor, self.source, self.confidence = config, processor, source, confidence
        self.num_frames = clip_length(config)
        self.frame_stride = resolve_frame_stride(config, processor, frame_stride, source=source)
        self.frame_interval = stored_frame_interval(config, processor)
        self.spacing = ClipSpacing(self.num_frames, self.frame_stride, self.frame_interval)
        self.class_names = class_names(config)
        self.multi_label = config.problem_type == "multi_label_classification"

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str],
        processor: Any = None,
        *,
        device: str | torch.device | None = None,
        dtype: str = "auto",
        frame_stride: float | None = None,
    ) -> "ClipModel":
        """Load a classifier from a folder or the Hub, or an adapter with its base.

        Raises:
            InputError: nothing can be loaded, or the checkpoint holds no trained classifier.
        """
        name = folder_or_hub_name(name)
        try:
            if (Path(name) / "adapter_config.json").is_file():
                model, lacking = merge_adapter(name), []
            else:
                model, info = AutoModelForVideoClassification.from_pretrained(name, output_loading_info=True)
                lacking = sorted(info["missing_keys"])
            processor = processor or AutoVideoProcessor.from_pretrained(name)
        except SurgVistaError:
            raise
        except (OSError, ValueError) as error:
            raise InputError(
                f"no video classifier with its processor can be loaded from {name}: {first_line(error)}"
                f"{not_a_folder_either(name)}"
            ) from error
        if lacking:
            raise InputError(
                f"{name} holds no trained classifier; it lacks {', '.join(lacking[:4])}. Fine-tune it first"
            )
        options: Any = {"device": device, "dtype": dtype, "source": name, "frame_stride": frame_stride}
        loaded = cls(model, processor, **options, confidence=Confidence.load(name))
        loaded._is_saved = True
        return loaded

    def prepare(self, images: np.ndarray) -> torch.Tensor:
        """Return frames (frames, height, width, 3), uint8, as the model takes them: (frames, channels, height, width)."""
        return prepare_clips(self.processor, images)[0]

    @torch.inference_mode()
    def run(self, clips: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Classify clips.

        Args:
            clips: (B, frames, channels, height, width), prepared.

        Returns:
            Probabilities (B, classes), and what the classifier sees of a clip (B, width), both float32.
        """
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            features, output = self.extractor(clips.to(self.device))
        return self.probabilities(output.logits.float()), features.float().cpu().numpy()

    @cached_property
    def fingerprint(self) -> str:
        """Return a fingerprint of the weights, configuration and processor."""
        return weights_fingerprint(self.source) if self._is_saved else model_fingerprint(self.model)

    @cached_property
    def fingerprints(self) -> tuple[str, ...]:
        """Return all fingerprints that the features of this model may be known by: of its files, and of its tensors."""
        return self.fingerprint, state_fingerprint(self.model)

    def describe(self) -> dict[str, str]:
        """Return a description for reports: where the model is from, its size, input, license and test results.

        Returns:
            Sentences and numbers by their captions, for people, not for programs.
        """
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        return {
            **self._description(),
            "architecture": type(self.model).__name__,
            "parameters": f"{parameters:,}",
            "precision": self.precision,
        }

    @property
    def precision(self) -> str:
        """Return what it computes in, for people: `dtype`, and what has bfloat16 in hardware."""
        return describe_dtype(self.dtype, self.device)

    def _description(self) -> dict[str, str]:
        size = " × ".join(map(str, frame_size(self.config)))
        description = {
            "from": Path(self.source).name if Path(self.source).exists() else self.source,  # no path of this machine
            "input": f"{self.num_frames} frames, one in {self.frame_stride:g} s, {size} pixels",
            **self._describe_confidence(),
        }
        card = Path(self.source) / "README.md"
        if card.is_file():
            try:
                data = ModelCard.load(card).data
            except (OSError, ValueError):
                return description
            if data.license:
                description["license"] = str(data.license)
            results = [
                f"{each.dataset_name} {each.metric_type} {each.metric_value:.3f}" for each in data.eval_results or ()
            ]
            if results:
                description["tested, as its card says"] = "; ".join(results[:6])
        return description

    def _describe_confidence(self) -> dict[str, str]:
        known, description = self.confidence, {}
        if known.trained_on:
            description["learned from"] = f"{known.trained_on.get('title')} ({known.trained_on.get('procedure')})"
        if known.calibration:
            found = known.calibration
            description["confidence"] = (
                f"calibrated on the split {found['split']}, {found['samples']:,} clips: temperature {known.temperature:.2f}, "
                f"calibration error {found['error_before']:.1%} before and {found['error_after']:.1%} after"
            )
        else:
            description["confidence"] = "not calibrated"
        return description

    def probabilities(self, logits: torch.Tensor) -> np.ndarray:
        """Return softmax, or sigmoid where classes are independent, of logits divided by the model's temperature."""
        if self.confidence.temperature != 1:
            logits = logits.double() / self.confidence.temperature  # float64: the order of the classes stays
        values = logits.sigmoid() if self.multi_label else logits.softmax(dim=-1)
        return values.float().cpu().numpy()

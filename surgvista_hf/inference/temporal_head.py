"""MS-TCN on top of a classifier of clips, as the seconds come: it remembers what its predictions can depend on, no more."""

import os
from typing import Any

import numpy as np
import torch

from ..modeling.confidence import Confidence
from ..modeling.errors_surgvista import InputError
from ..modeling.families import class_names
from ..modeling.modeling_ms_tcn import MsTcnForFrameClassification
from ..util.words import first_line


class TemporalHead:
    """A causal temporal model over the features of a video, fed in pieces.

    Args:
        model: folder or Hub id of a causal `MsTcnForFrameClassification`, or the model.
        temperature: that its logits are divided by; by default what its folder says, see `Confidence`.

    Raises:
        InputError: nothing can be loaded, or the model looks ahead.
    """

    def __init__(
        self, model: str | os.PathLike[str] | MsTcnForFrameClassification, temperature: float | None = None
    ) -> None:
        self.source = "model" if isinstance(model, MsTcnForFrameClassification) else os.fspath(model)
        self.temperature = temperature or 1.0
        if not isinstance(model, MsTcnForFrameClassification):
            self.temperature = temperature or Confidence.load(model).temperature
            try:
                model = MsTcnForFrameClassification.from_pretrained(os.fspath(model))
            except (OSError, ValueError, RuntimeError, TypeError) as error:
                raise InputError(f"no temporal model can be loaded from {model}: {first_line(error)}") from error
        if not model.config.causal:
            raise InputError("the temporal model looks ahead (causal is false): it cannot predict as the seconds come")
        self.model: Any = model.eval()
        config: Any = model.config
        self.class_names = class_names(config)
        self._memory = np.empty((0, config.input_size), np.float32)

    def begin(self) -> "TemporalHead":
        """The same model at the start of another video."""
        return TemporalHead(self.model, self.temperature)

    @torch.inference_mode()
    def push(self, features: np.ndarray) -> np.ndarray:
        """Takes the next seconds.

        Args:
            features: (seconds, width), what `ClipModel.run` gives.

        Returns:
            (seconds, classes) probabilities; those of a single pass over the whole video but for rounding.

        Raises:
            InputError: features of another width than the model was trained on.
        """
        if features.shape[1] != self.model.config.input_size:
            raise InputError(
                f"the temporal model was trained on features of width {self.model.config.input_size}, the clip model gives "
                f"{features.shape[1]}: it belongs to another model"
            )
        known = np.concatenate([self._memory, features])
        logits = self.model(torch.from_numpy(known)[None]).logits
        if self.temperature != 1:
            logits = logits.double() / self.temperature
        self._memory = known[-(self.model.config.receptive_field - 1) :]
        return np.asarray(logits[0, -len(features) :].softmax(dim=-1).float().numpy())

"""MS-TCN on top of a classifier of clips, second by second: it remembers its receptive field and no more."""

import copy
import logging
import os
from collections.abc import Collection
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ...modeling.confidence import Confidence
from ...modeling.errors_surgvista import folder_or_hub_name, not_a_folder_either
from ...modeling.loading import class_names
from ...modeling.modeling_ms_tcn import MsTcnForFrameClassification
from ...util.errors import InputError
from ...util.fingerprint import model_fingerprint, weights_fingerprint
from ...util.messages import first_line

logger = logging.getLogger(__name__)
FRAMES_PER_SECOND = 1.0  # the rate at which surgical workflow is annotated and the published recipe samples
_RATE_TOLERANCE = 0.02


class TemporalHead:
    """A causal temporal model over the features of a video, fed in pieces.

    Args:
        model: folder or Hub id of a causal `MsTcnForFrameClassification`, or the model.
        temperature: divisor of its logits; by default that of the `Confidence` in its folder.

    Raises:
        InputError: nothing can be loaded, the model looks ahead, or it was trained on features at another rate than one a
            second.
    """

    def __init__(
        self, model: str | os.PathLike[str] | MsTcnForFrameClassification, temperature: float | None = None
    ) -> None:
        self._is_saved = not isinstance(model, MsTcnForFrameClassification)
        self.source = "model" if isinstance(model, MsTcnForFrameClassification) else os.fspath(model)
        self.temperature = temperature or 1.0
        if not isinstance(model, MsTcnForFrameClassification):
            name = folder_or_hub_name(model)
            self.temperature = temperature or Confidence.load(name).temperature
            try:
                model = MsTcnForFrameClassification.from_pretrained(name)
            except (OSError, ValueError, RuntimeError, TypeError) as error:
                other = not_a_folder_either(name)
                raise InputError(f"no temporal model can be loaded from {name}: {first_line(error)}{other}") from error
        if not model.config.causal:
            raise InputError("the temporal model looks ahead (causal is false): it cannot predict as the seconds come")
        self.model: Any = model.eval()
        config: Any = model.config
        rate = config.frames_per_second
        if rate is None:
            logger.warning(
                "%s does not say at which rate its features were taken: one a second is assumed", self.source
            )
        elif abs(rate - FRAMES_PER_SECOND) > _RATE_TOLERANCE * FRAMES_PER_SECOND:
            raise InputError(
                f"the temporal model {self.source} was trained on {rate:g} features a second; predictions are made once a "
                "second. Extract features of a frame set with one frame a second and train it on these"
            )
        self.class_names = class_names(config)
        self._memory = np.empty((0, config.input_size), np.float32)  # (past seconds, width)

    @cached_property
    def fingerprint(self) -> str:
        """Return a fingerprint of the temporal model."""
        return weights_fingerprint(self.source) if self._is_saved else model_fingerprint(self.model)

    def check_features(self, fingerprints: Collection[str], name: str) -> None:
        """Check that features come from the model that this one was trained on.

        Args:
            fingerprints: fingerprints of the model that gives the features, as `ClipModel.fingerprints` gives them.
            name: name of that model, for messages.

        Raises:
            InputError: it was trained on the features of another model.
        """
        expected = self.model.config.features_from
        if not expected:
            logger.warning(
                "the temporal model %s does not say whose features it was trained on; make sure that it was those of %s",
                self.source,
                name,
            )
        elif not set(expected) & set(fingerprints):
            raise InputError(
                f"the temporal model {self.source} was trained on the features of a model with the fingerprint {expected[0]}; "
                f"{name} has {next(iter(fingerprints))}, so its features mean something else. Train the temporal model "
                f"again on features of {name}, or give the model that it belongs to"
            )

    def begin(self) -> "TemporalHead":
        """Return the same model at the start of another video."""
        head = copy.copy(self)
        head._memory = np.empty((0, self.model.config.input_size), np.float32)
        return head

    @torch.inference_mode()
    def push(self, features: np.ndarray) -> np.ndarray:
        """Predict the next seconds of the video.

        Args:
            features: (seconds, width) features, as `ClipModel.run` gives them.

        Returns:
            (seconds, classes) probabilities; those of a single pass over the whole video but for rounding.

        Raises:
            InputError: the features have another width than the model was trained on.
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

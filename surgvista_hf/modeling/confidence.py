"""The record of how far a model's probabilities can be trusted: its temperature, and the look of its training videos.

It lies beside the model as `confidence.json` and is applied by whoever makes probabilities of logits; the weights and the
configuration stay as they are, so that a folder of a stock family gives its own logits in stock transformers.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from ..util.errors import InputError
from ..util.files import write_json
from ..util.messages import first_line
from .familiarity import Familiarity

CONFIDENCE_FILE = "confidence.json"
_FORMAT = 1


def file_beside(model: str | os.PathLike[str], file: str) -> Path | None:
    """Find a file that lies beside the weights of a model.

    Args:
        model: folder or Hub id of the model.
        file: name of the file.

    Returns:
        The file, from the cache if the model is on the Hub; `None` if there is none or the Hub cannot be reached.
    """
    try:
        found = cached_file(
            os.fspath(model),
            file,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except (OSError, ValueError):
        return None
    return None if found is None else Path(found)


@dataclass(frozen=True, eq=False)
class Confidence:
    """Holds what is known of how far a model's probabilities can be trusted.

    Args:
        temperature: number that logits are divided by before softmax or sigmoid (Guo et al., ICML 2017); 1 where nothing was
            calibrated.
        calibration: split and clips that the temperature was fitted on, and metrics before and after; `None`: it was not
            fitted.
        trained_on: title, procedure and license of the training data, and whether it was rendered; `None`: unknown.
        familiarity: summary of the look of the training videos; `None`: unknown.

    Raises:
        InputError: the temperature is no positive number.

    Example:
        >>> Confidence(temperature=1.5).calibration is None
        True
    """

    temperature: float = 1.0
    calibration: Mapping[str, Any] | None = None
    trained_on: Mapping[str, str | bool] | None = None
    familiarity: Familiarity | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.temperature, int | float) or not 0 < self.temperature < float("inf"):
            raise InputError(f"the temperature is {self.temperature!r}; it must be a positive number")

    @property
    def trained_on_rendered(self) -> bool | None:
        """Return whether the training data was rendered, so that the model knows nothing of real surgery; `None`: unknown."""
        rendered = (self.trained_on or {}).get("rendered")
        return None if rendered is None else bool(rendered)

    def save(self, folder: str | Path) -> Path:
        """Write `confidence.json` into a model folder and return its path."""
        content = {
            **vars(self),
            "format": _FORMAT,
            "familiarity": self.familiarity and self.familiarity.to_dict(),
        }
        file = Path(folder) / CONFIDENCE_FILE
        write_json(file, content)
        return file

    @classmethod
    def load(cls, name: str | os.PathLike[str]) -> "Confidence":
        """Read the file beside a model; without one, everything is unknown.

        Args:
            name: folder or Hub id of the model.

        Raises:
            InputError: the file cannot be read.
        """
        file = file_beside(name, CONFIDENCE_FILE)
        if file is None:
            return cls()
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            known = {each: content.get(each) for each in ("calibration", "trained_on")}
            familiarity = content.get("familiarity")
            return cls(
                content.get("temperature", 1.0),
                familiarity=None if familiarity is None else Familiarity.from_dict(familiarity),
                **known,
            )
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"{file} cannot be read: {first_line(error)}; remove it or train again") from error

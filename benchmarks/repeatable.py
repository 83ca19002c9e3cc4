"""What experiments of many runs share: finished runs that are kept with their settings, and the encoder of a trained model."""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import AutoModel, PreTrainedModel

from surgvista_hf.modeling.objectives.self_distillation import SelfDistillation
from surgvista_hf.util.environment import environment
from surgvista_hf.util.files import write_json


def kept_run(path: Path, settings: Mapping[str, Any], run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the results of a run, which is made only if its file is not there yet.

    Args:
        path: JSON file of the results.
        settings: all that the results depend on; it is written beside them, with versions and revision.
        run: function that makes the results.

    Raises:
        SystemExit: the file was made with other settings.
    """
    wanted = json.loads(json.dumps(dict(settings)))
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["settings"] != wanted:
            raise SystemExit(
                f"{path} was made with the settings {found['settings']}, not {wanted}; use another folder"
            )
        return found
    made = {"settings": wanted, "environment": environment(), **run()}
    write_json(path, made)
    return made


def encoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """Return the encoder that a checkpoint of a pre-trained model loads as with `AutoModel`."""
    if isinstance(model, SelfDistillation):
        return model.plain_teacher()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        encoder: PreTrainedModel = AutoModel.from_pretrained(folder)
        return encoder

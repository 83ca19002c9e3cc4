"""Puts our Python files beside a saved model, so that `trust_remote_code=True` works where the package is not installed."""

import json
import shutil
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_FILES = (
    "configuration_surgvista.py",
    "errors_surgvista.py",
    "modeling_surgvista.py",
    "video_processing_surgvista.py",
    "video_reading_surgvista.py",
    "video_frames_surgvista.py",
    "video_dicom_surgvista.py",
)
_MODEL_ENTRIES = {
    "AutoConfig": "configuration_surgvista.SurgVistaConfig",
    "AutoModel": "modeling_surgvista.SurgVistaModel",
    "AutoModelForPreTraining": "modeling_surgvista.SurgVistaForPreTraining",
    "AutoModelForVideoClassification": "modeling_surgvista.SurgVistaForVideoClassification",
}
_PROCESSOR_ENTRIES = {"AutoVideoProcessor": "video_processing_surgvista.SurgVistaVideoProcessor"}


def add_remote_code(folder: str | Path) -> None:
    """Adds the code files to a saved SurgVISTA model and names them in `auto_map`, for every Auto class.

    Args:
        folder: where `save_pretrained` wrote the model and, if any, its processor. A model of another type, such as the
            image teacher, needs no code and is left as it is.
    """
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != "surgvista":
        return
    for name in _FILES:
        shutil.copyfile(_HERE / name, folder / name)
    _set_auto_map(folder / "config.json", _MODEL_ENTRIES)
    processor = folder / "video_preprocessor_config.json"
    if processor.exists():
        _set_auto_map(processor, _PROCESSOR_ENTRIES)


def _set_auto_map(file: Path, entries: dict[str, str]) -> None:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    content["auto_map"] = entries
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")

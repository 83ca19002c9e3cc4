"""Export of the web demo as the folder of a Hugging Face Space: the app, this package, and the models."""

import re
import shutil
from collections.abc import Mapping
from importlib.metadata import requires
from pathlib import Path

from ..util.errors import InputError
from ..util.files import atomic_folder

_TEMPLATE = Path(__file__).parent / "template"
_PACKAGE = Path(__file__).parents[1]
DETECTOR = "out_of_body"  # folder of the detector in the Space


def requirements() -> str:
    """Return the `requirements.txt` of the Space: the requirements of the package and of the demo."""
    wanted = [re.sub(r"\s*;.*", "", line) for line in requires("surgvista-hf") or () if _needed(line)]
    return "\n".join(sorted(wanted, key=str.lower)) + "\n"


def _needed(line: str) -> bool:
    return "extra ==" not in line or re.search(r"extra == ['\"](space|dicom)['\"]", line) is not None


def export_space(models: Mapping[str, str], folder: Path, out_of_body: str | None = None) -> None:
    """Write a Space.

    Args:
        models: folders of trained classifiers by the names that visitors choose from. Adapters must be merged first, since
            their base is not copied.
        folder: output folder; it holds this package's code, so the Space needs no release of it.
        out_of_body: folder of a detector, the argument of `SpaceSettings`.

    Raises:
        InputError: a folder holds no model, or an adapter.
        OutputError: the folder is not empty.
    """
    detectors = {DETECTOR: out_of_body} if out_of_body else {}
    for name, model in {**models, **detectors}.items():
        if not (Path(model) / "config.json").is_file():
            raise InputError(f"{model} ({name}) is no folder of a model; models of the Hub go into SURGVISTA_MODELS")
        if (Path(model) / "adapter_config.json").is_file():
            raise InputError(f"{model} ({name}) is an adapter; make a whole model of it: surgvista merge")
    skip = shutil.ignore_patterns("__pycache__", "*.pyc", "training_args.bin", "optimizer.pt", "checkpoint-*")
    with atomic_folder(folder) as temporary:
        shutil.copytree(_TEMPLATE, temporary, dirs_exist_ok=True, ignore=skip)
        shutil.copytree(_PACKAGE, temporary / _PACKAGE.name, ignore=skip)
        (temporary / "requirements.txt").write_text(requirements(), encoding="utf-8")
        for name, model in models.items():
            shutil.copytree(model, temporary / "models" / name, ignore=skip)
        if out_of_body:
            shutil.copytree(out_of_body, temporary / DETECTOR, ignore=skip)

"""Packages that only some features need: one table, for checks before a run and for the run itself at its start."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

from packaging.version import Version

from .errors import InputError


class MissingPackageError(InputError):
    """Something needs a package that is not installed, or is too old."""


@dataclass(frozen=True)
class Feature:
    """A feature that needs further packages.

    Args:
        purpose: beginning of a sentence about the feature.
        packages: oldest version of each package, by the name that it is imported by.
        extra: extra of this package that installs them.
    """

    purpose: str
    packages: Mapping[str, str]
    extra: str


FEATURES = {
    "adapter": Feature("an adapter (LoRA, DoRA, IA3)", {"peft": "0.21"}, "peft"),
    "few_bits": Feature("weights in 8 or 4 bits", {"bitsandbytes": "0.50"}, "quant"),
    "timm": Feature("a model of timm", {"timm": "1.0.23"}, "timm"),
    "onnx_export": Feature("ONNX export", {"onnx": "1.23", "onnxruntime": "1.31", "onnxscript": "0.7.2"}, "onnx"),
    "onnx": Feature("an ONNX graph", {"onnxruntime": "1.31"}, "onnx"),
    "tensorboard": Feature("a log for TensorBoard", {"tensorboard": "2.18"}, "log"),
    "trackio": Feature("a log for Trackio", {"trackio": "0.40"}, "log"),
    "ray": Feature("the executor ray", {"ray": "2.50"}, "ray"),
    "evaluate": Feature("metrics as modules of evaluate", {"evaluate": "0.4.6"}, "evaluate"),
    "spreadsheet": Feature("reading .xlsx files", {"openpyxl": "3.1"}, "data"),
    "torchcodec": Feature("video_backend torchcodec", {"torchcodec": "0.17"}, "codec"),
    "lmdb": Feature("reading an LMDB", {"lmdb": "2.0"}, "curate"),
    "web": Feature("collecting from the web", {"yt_dlp": "2026.6.9"}, "curate"),
    "space": Feature("the web demo", {"gradio": "6.31"}, "space"),
}
_DISTRIBUTIONS = {"yt_dlp": "yt-dlp"}


def require(*features: str) -> None:
    """Make sure that the packages of some features are installed.

    Args:
        features: names in `FEATURES`.

    Raises:
        MissingPackageError: a package is not installed or too old; the message says what installs them all.

    Example:
        >>> require()
    """
    lacking = {name: list(_lacking(FEATURES[name].packages)) for name in dict.fromkeys(features)}
    missing = {name: packages for name, packages in lacking.items() if packages}
    if not missing:
        return
    reasons = "; ".join(
        f"{FEATURES[name].purpose} needs {' and '.join(packages)}" for name, packages in missing.items()
    )
    extras = sorted({FEATURES[name].extra for name in missing})
    raise MissingPackageError(f"{reasons}: pip install 'surgvista-hf[{','.join(extras)}]'")


def is_installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    if package in sys.modules:
        return sys.modules[package] is not None
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _lacking(packages: Mapping[str, str]) -> Iterable[str]:
    for package, oldest in packages.items():
        name = _DISTRIBUTIONS.get(package, package)
        if not is_installed(package):
            yield name
            continue
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:  # a copy without metadata: nothing is known against it
            continue
        if Version(found) < Version(oldest):
            yield f"{name} {oldest} or newer (there is {found})"

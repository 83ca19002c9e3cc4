"""The environment that a result was computed in: versions, revision, device."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

import torch

_LIBRARIES = (
    "surgvista-hf",
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "peft",
    "bitsandbytes",
    "numpy",
    "scipy",
)


class Environment(TypedDict):
    """Describe where a result was computed.

    Args:
        versions: version of each library that a result depends on.
        python: version of Python.
        revision: revision of this package if it is a checkout.
        device: name of the GPU, or the number of threads of the CPU.
    """

    versions: dict[str, str]
    python: str
    revision: str | None
    device: str


def environment() -> Environment:
    """Return the versions of everything a number depends on, the revision of this package and the device.

    Example:
        >>> sorted(environment())
        ['device', 'python', 'revision', 'versions']
    """
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return {"versions": versions, "python": platform.python_version(), "revision": _revision(), "device": device}


def _revision() -> str | None:
    here = Path(__file__)
    try:
        described = _git("describe", "--always", "--dirty", "--abbrev=12", folder=here.parent)
        # An installed copy may lie inside a repository that it does not belong to.
        tracked = _git("ls-files", here.name, folder=here.parent)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() if described.returncode == 0 and tracked.stdout.strip() else None


def _git(*argv: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["git", *argv], cwd=folder, capture_output=True, text=True, timeout=10)

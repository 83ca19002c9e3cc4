"""Fixtures that several tests of the web demo share."""

from pathlib import Path

import pytest

from ..inference.tiny_models import save_classifier, save_detector


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """The folder of a classifier of four phases."""
    return save_classifier(tmp_path / "model")


@pytest.fixture
def detector_folder(tmp_path: Path) -> Path:
    """The folder of a detector of the outside."""
    return save_detector(tmp_path / "detector")

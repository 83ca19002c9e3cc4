"""The frame set that the tiny runs train on."""

from pathlib import Path

import pytest

from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set

from . import tiny


@pytest.fixture(scope="session")
def frame_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepare the rendered frame set that the tiny runs train on."""
    folder = tmp_path_factory.mktemp("tiny") / "frame_set"
    prepare_frame_set("synthetic", None, folder, settings=tiny.VIDEOS)
    return folder

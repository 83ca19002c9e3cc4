"""From files in the published layout to exact labels per frame, for every data set."""

import warnings
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from surgvista_hf.datasets_scripts.frame_sets.load import load_frame_set
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.frame_sets.registry import get_builder, list_datasets
from tests.datasets_scripts.raw_layouts import LAYOUTS, number_of

# Source frames that a frame set must hold where they are not those of one frame a second.
FRAMES = {
    "autolaparo": {"01": range(0, 200, 25)},
    "cataracts": {"train01": range(0, 120, 30)},
    "cataract101": {"269": [25, 50, 75]},
    "surgicalactions160": {"01_02": range(51)},
    "cholec80_cvs": {"video01_1": [50, 75, 100], "video01_3": [175, 200], "video41_1": [0, 25, 50]},
    "prostate21": {"pwhv1": [2, 5, 12]},
    "endoscapes": {"1": [1, 3]},
    "heichole": {"Hei-Chole1": [0, 50, 100, 150]},
    "strasbypass70": {"SBP05": range(0, 150, 25)},
    "own": {"op1": [0, 25, 0, 25, 50]},
    "gensurgery": {"already extracted/x": [0, 25]},
}


def named(value: Any, feature: Any) -> Any:
    """A label as its names."""
    if isinstance(feature, datasets.ClassLabel):
        return None if value is None else feature.int2str(value)
    inner = getattr(feature, "feature", None)
    if isinstance(inner, datasets.ClassLabel) and value is not None:
        return [inner.int2str(number) for number in value]
    return value


def labels_by_video(frames: datasets.Dataset, columns: list[str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in frames.remove_columns("image"):
        found.setdefault(row["video_id"], []).append(
            {name: named(row[name], frames.features[name]) for name in columns}
        )
    return found


def test_every_data_set_has_a_layout_here():
    names = {info.name for info in list_datasets() if not info.name.startswith("surgrec_")}
    assert names - {"synthetic", "synthetic_views"} == set(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_frame_gets_its_labels(name: str, tmp_path: Path):
    expected = LAYOUTS[name](tmp_path / "raw")
    report = prepare_frame_set(name, tmp_path / "raw", tmp_path / "out")
    assert not report.failed
    frames = load_frame_set(name, tmp_path / "out", "all")
    columns = list(get_builder(name).info.labels)
    found = labels_by_video(frames, columns)
    assert set(found) == set(expected)
    for video, rows in expected.items():
        wanted = [{column: row.get(column) for column in columns} for row in rows]
        assert found[video] == [{key: _as_stored(value) for key, value in row.items()} for row in wanted], video
    for video, numbers in FRAMES.get(name, {}).items():
        chosen = frames.filter(lambda row, video=video: row["video_id"] == video)
        assert [number_of(np.asarray(image)) for image in chosen["image"]] == list(numbers)
    assert set(frames["source"]) == {name}


def _as_stored(value: Any) -> Any:
    """Numbers are stored with single precision."""
    if isinstance(value, list) and value and isinstance(value[0], float):
        return [float(np.float32(number)) for number in value]
    return value


@pytest.mark.parametrize("name", LAYOUTS)
def test_info_carries_license_citation_and_the_origin_of_the_split(name: str, tmp_path: Path):
    LAYOUTS[name](tmp_path / "raw")
    prepare_frame_set(name, tmp_path / "raw", tmp_path / "out")
    info = get_builder(name).info
    for protocol, content in info.protocols.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frames = load_frame_set(name, tmp_path / "out", "all", protocol=protocol)
        assert frames.info.license == info.license
        assert content.origin in frames.info.description
        assert frames.info.config_name == protocol

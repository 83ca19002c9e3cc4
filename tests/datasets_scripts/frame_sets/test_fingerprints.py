"""Fingerprints of frame sets: of frames and labels, not of where they lie or how they are opened."""

import hashlib
import json
import shutil
from pathlib import Path

import datasets
import pytest

from surgvista_hf.datasets_scripts.frame_sets.fingerprints import (
    folder_of,
    frames_fingerprint,
    stored_digests,
    video_fingerprints,
)
from surgvista_hf.datasets_scripts.frame_sets.load import load_frame_set
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set

SMALL = {"videos": "3", "seconds": "14", "height": "48", "width": "64"}


def prepared(folder: Path, seed: int = 0) -> Path:
    prepare_frame_set("synthetic", None, folder, settings={**SMALL, "seed": str(seed)})
    return folder


@pytest.fixture(scope="module")
def frame_set(tmp_path_factory) -> Path:
    return prepared(tmp_path_factory.mktemp("fingerprints") / "set")


def everything(folder: Path) -> datasets.Dataset:
    return load_frame_set("synthetic", folder, "all")


def test_the_same_frames_have_one_wherever_they_lie_and_whoever_made_them(frame_set, tmp_path):
    copy = shutil.copytree(frame_set, tmp_path / "copy")
    again = prepared(tmp_path / "again")
    assert len({frames_fingerprint(everything(folder)) for folder in (frame_set, copy, again)}) == 1
    assert frames_fingerprint(everything(frame_set)).startswith("3 videos ")
    assert folder_of(everything(copy)) == copy / "videos"


def test_other_operations_of_the_same_names_have_others(frame_set, tmp_path):
    one, two = (video_fingerprints(everything(folder)) for folder in (frame_set, prepared(tmp_path / "other", 7)))
    assert one.keys() == two.keys()
    assert not set(one.values()) & set(two.values())


def test_a_part_is_not_the_whole_and_columns_that_are_left_out_change_no_video(frame_set):
    frames = everything(frame_set)
    whole = video_fingerprints(frames)
    assert video_fingerprints(frames.select_columns(["source", "video_id", "image"])) == whole
    assert video_fingerprints(frames.select(range(14))) == {
        "synthetic/operation_000000": whole["synthetic/operation_000000"]
    }
    assert video_fingerprints(frames.select(range(13)))["synthetic/operation_000000"] not in whole.values()
    assert frames_fingerprint(frames.select(range(14))) != frames_fingerprint(frames)


def test_rows_of_other_data_sets_are_read(frame_set):
    frames = everything(frame_set)
    loose = datasets.Dataset.from_list(frames.cast_column("image", datasets.Image(decode=False)).to_list())
    assert folder_of(loose) is None
    before = video_fingerprints(loose)
    assert before.keys() == video_fingerprints(frames).keys()
    changed = video_fingerprints(
        loose.map(lambda row, number: {"phase": row["phase"] + (number == 20)}, with_indices=True)
    )
    assert [name for name in before if changed[name] != before[name]] == ["synthetic/operation_000001"]


def test_the_noted_digest_of_a_video_is_that_of_its_file(frame_set, tmp_path):
    files = sorted((frame_set / "videos").glob("*.arrow"))
    digests = stored_digests(files)
    assert digests == {f"synthetic/{file.stem}": hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files}
    stray = Path(shutil.copy(files[0], tmp_path))
    assert stored_digests([stray]) == {}
    note = json.loads(files[0].with_suffix(".json").read_text())
    stray.with_suffix(".json").write_text(json.dumps({**note, "digest": ""}))
    assert list(stored_digests([stray]).values()) == [digests["synthetic/operation_000000"]]


def test_corpora_of_several_frame_sets_keep_their_videos_apart(frame_set, tmp_path):
    other = everything(prepared(tmp_path / "other", 7))
    renamed = other.map(lambda row: {"source": "elsewhere"})
    both = video_fingerprints(datasets.concatenate_datasets([everything(frame_set), renamed]))
    assert len(set(both.values())) == len(both) == 6

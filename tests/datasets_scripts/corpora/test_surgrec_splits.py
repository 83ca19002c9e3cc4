"""Which video a clip comes from, which paths a list may name, and that no class is lost when clips are split by video."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.datasets_scripts.corpora.surgrec_splits import (
    SURGREC,
    ClipRow,
    SurgRecInfo,
    read_split,
    video_disjoint,
)
from surgvista_hf.datasets_scripts.schema.info import AnnotationError

CHOLEC80, LDPOLYP, LAPGYN4 = (SURGREC[f"surgrec_{name}"] for name in ("cholec80", "ldpolypvideo", "lapgyn4"))


@pytest.fixture
def published(shared_data) -> Path:
    return shared_data / "annotations" / "surgrec_splits" / "splits"


def _read(published: Path, info: SurgRecInfo, file: str) -> list[ClipRow]:
    return read_split(published / info.folder / f"{file}.csv", info)


def _classes_missing_in_a_part(parts: dict[str, list[ClipRow]], info: SurgRecInfo) -> set[int]:
    """Classes with a source for every part that some part is without."""
    pairs = {(row.label, info.source_of(row.path)) for rows in parts.values() for row in rows}
    sources = Counter(label for label, _ in pairs)
    held = [{row.label for row in rows} for rows in parts.values()]
    return {label for label, count in sources.items() if count >= 3 and not all(label in part for part in held)}


# ------------------------------------------------------------------------------------------- source videos


def test_polyp_videos_with_boxes_with_a_label_only_and_without_polyps_are_numbered_apart():
    names = ("0_17_1_9_no_polyps", "1_17_0_94_polyps", "17_0_6_polyps", "1_17_94_polyps")
    assert [LDPOLYP.source_of(f"videos/{name}.mp4") for name in names] == ["0_17", "1_17", "17", "1"]


def test_both_counts_of_shared_polyp_clips_are_explained(published):
    train, test = (
        [LDPOLYP.source_of(row.path) for row in _read(published, LDPOLYP, file)] for file in ("train", "test")
    )
    shared = [source for source in test if source in set(train)]
    assert (len(shared), sum("_" in source for source in shared)) == (1369, 1349)
    assert max(int(source) for source in train + test if "_" not in source) <= 160
    assert max(int(source[2:]) for source in train + test if source.startswith("1_")) <= 42
    assert max(int(source[2:]) for source in train + test if source.startswith("0_")) <= 61


def test_cases_shared_within_a_sub_data_set_of_lapgyn4_are_84(published):
    train, test = (
        [(row.label, LAPGYN4.source_of(row.path)) for row in _read(published, LAPGYN4, file)]
        for file in ("train", "test")
    )
    assert sum(case in set(train) for case in test) == 84


# ------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("path", ["", "a/../b.mp4", "..", "./a.mp4", "a//b.mp4", "/a.mp4", "a/"])
@pytest.mark.parametrize("root", ["__DATA_ROOT__/cholec80/", "/mine/cholec80/", "cholec80/"])
def test_only_plain_paths_below_the_folder_are_taken(tmp_path, root, path):
    (tmp_path / "test.csv").write_text(f"{root}ok.mp4 0\n{root}{path} 1\n")
    with pytest.raises(AnnotationError, match=r"test\.csv:2: the path .* does not lie below cholec80/"):
        read_split(tmp_path / "test.csv", CHOLEC80)


@pytest.mark.parametrize("label", ["9" * 5000, "-1", "1.0", "²", "٣"])
def test_numbers_of_no_class_are_refused_with_their_line(tmp_path, label):
    (tmp_path / "test.csv").write_text(f"__DATA_ROOT__/cholec80/a.mp4 {label}\n", encoding="utf-8")
    with pytest.raises(AnnotationError, match=r"test\.csv:1 is .* a class from 0 to 6 are expected"):
        read_split(tmp_path / "test.csv", CHOLEC80)


# ------------------------------------------------------------------------------------------- splitting


@pytest.mark.parametrize("info", SURGREC.values(), ids=lambda info: info.name)
def test_published_classes_with_three_sources_are_in_every_part(info, published):
    rows = {row for file in ("train", "val", "test") for row in _read(published, info, file)}
    assert _classes_missing_in_a_part(video_disjoint(list(rows), info), info) == set()


def test_a_class_of_few_small_videos_is_in_every_part():
    rows = [ClipRow(f"split_video/cholec80_{video}_{k}.mp4", k % 6) for video in range(40) for k in range(12 + video)]
    rows += [ClipRow(f"split_video/cholec80_{video}_99.mp4", 6) for video in (0, 1, 2)]
    assert _classes_missing_in_a_part(video_disjoint(rows, CHOLEC80), CHOLEC80) == set()


@given(
    classes=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 9)), min_size=3, max_size=60), seed=st.integers(0, 3)
)
@settings(max_examples=80, deadline=None)
def test_where_a_video_has_one_class_no_class_of_three_videos_is_lost(classes, seed):
    rows = [
        ClipRow(f"split_video/cholec80_{video}_{k}.mp4", label)
        for video, (label, clips) in enumerate(classes)
        for k in range(clips)
    ]
    assert _classes_missing_in_a_part(video_disjoint(rows, CHOLEC80, seed), CHOLEC80) == set()

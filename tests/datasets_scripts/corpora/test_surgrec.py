"""The lists of SurgRec: read as published, their leaks counted, and a split without them."""

import json
import warnings
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf import load_frame_set
from surgvista_hf.datasets_scripts.corpora.surgrec_splits import (
    SURGREC,
    ClipRow,
    read_split,
    shared_clips,
    video_disjoint,
)
from surgvista_hf.datasets_scripts.frame_sets.load import FrameSetWarning
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.schema.info import AnnotationError, DatasetError, MissingFilesError
from tests.datasets_scripts.raw_layouts import number_of, write, write_video

CHOLEC80, CAPSULE, BYPASS = (SURGREC[f"surgrec_{name}"] for name in ("cholec80", "kvasir_capsule", "multibypass140"))
FILES = {"train": "train", "validation": "val", "test": "test"}


# ------------------------------------------------------------------------------------------- the published files


@pytest.fixture
def published(shared_data) -> Path:
    return shared_data / "annotations" / "surgrec_splits" / "splits"


@pytest.mark.parametrize("info", SURGREC.values(), ids=lambda info: info.name)
def test_the_published_lists_are_read_completely_and_share_what_is_said(info, published):
    lists = {split: read_split(published / info.folder / f"{file}.csv", info) for split, file in FILES.items()}
    assert tuple(len(rows) for rows in lists.values()) == info.counts
    assert (lists["validation"] == lists["test"]) == info.validation_is_test
    assert shared_clips(info, lists["train"], lists["test"]) == info.shared_test_clips
    assert {row.label for rows in lists.values() for row in rows} == set(range(len(info.classes)))
    lines = (published / info.folder / "train.csv").read_text().splitlines()
    assert [row.label for row in lists["train"]] == [int(line.rsplit(" ", 1)[1]) for line in lines if line.strip()]


@pytest.mark.parametrize("info", SURGREC.values(), ids=lambda info: info.name)
def test_published_clips_can_be_split_by_source_video(info, published):
    rows = list({row for file in FILES.values() for row in read_split(published / info.folder / f"{file}.csv", info)})
    parts = video_disjoint(rows, info)
    assert sum(len(part) for part in parts.values()) == len(rows)
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        assert shared_clips(info, parts[one], parts[other]) == 0
    assert 0.6 < len(parts["train"]) / len(rows) < 0.8
    assert len(parts["test"]) > len(parts["validation"]) > 0


def test_sixteen_data_sets_with_136_classes():
    benchmark = [info for info in SURGREC.values() if info.name != "surgrec_pitvis"]
    assert (len(benchmark), sum(len(info.classes) for info in benchmark)) == (16, 136)


def test_shipped_label_maps_agree_with_the_tables(published):
    maps = {
        name: json.loads((published / name / "label_map.json").read_text())
        for name in ("AlxSuture", "cataract-1k-phase")
    }
    workflow = json.loads((published / "M2CAI16-Workflow" / "label_mapping.json").read_text())["label_to_index"]
    assert list(maps["AlxSuture"]["index_to_label"].values()) == list(SURGREC["surgrec_aixsuture"].classes)
    assert {name: n for n, name in enumerate(SURGREC["surgrec_cataract1k"].classes)} == maps["cataract-1k-phase"]
    assert {name: n for n, name in enumerate(SURGREC["surgrec_m2cai16_workflow"].classes)} == workflow
    spellings = json.loads((published / "cholec80" / "label_map.json").read_text())["label_to_index"]
    assert all(spellings[name] == n for n, name in enumerate(CHOLEC80.classes) if name in spellings)


# ------------------------------------------------------------------------------------------- reading


def test_lists_are_read_however_paths_are_written(tmp_path):
    text = (
        "\ufeff# made by hand\r\n"
        '"__DATA_ROOT__/kvasir-capsule/videos/Ileocecal valve/04a78ef00c5245e0_48542-48622.mp4" 0\r\n'
        "/data/me/kvasir-capsule/videos/pylorus/04a78ef00c5245e0_1-9.mp4,5\r\n\r\n"
        "kvasir-capsule/videos/pylorus/14a78ef00c5245e0_1-9.mp4 5\n"
    )
    rows = read_split(write(tmp_path / "test.csv", text), CAPSULE)
    assert rows == [
        ClipRow("videos/Ileocecal valve/04a78ef00c5245e0_48542-48622.mp4", 0),
        ClipRow("videos/pylorus/04a78ef00c5245e0_1-9.mp4", 5),
        ClipRow("videos/pylorus/14a78ef00c5245e0_1-9.mp4", 5),
    ]
    assert CAPSULE.source_of(rows[0].path) == CAPSULE.source_of(rows[1].path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no clips"),
        ("__DATA_ROOT__/cholec80/a.mp4\n", r"test\.csv:1 is"),
        ("__DATA_ROOT__/cholec80/a.mp4 one\n", r"test\.csv:1 is"),
        ("__DATA_ROOT__/cholec80/a.mp4 7\n", "a class from 0 to 6"),
        ("__DATA_ROOT__/cholec80/a.mp4 1\n__DATA_ROOT__/cholec80/a.mp4 2\n", r"test\.csv:2: a\.mp4 is listed twice"),
        ("__DATA_ROOT__/cholec80/../../etc/passwd 1\n", "does not lie below"),
        ("/etc/passwd 1\n", "does not lie below"),
    ],
)
def test_spoilt_lists_are_refused_with_their_line(tmp_path, text, message):
    with pytest.raises(AnnotationError, match=message):
        read_split(write(tmp_path / "test.csv", text), CHOLEC80)


def test_a_path_of_another_data_set_has_no_source():
    with pytest.raises(AnnotationError, match="is no clip path of Cholec80"):
        CHOLEC80.source_of("split_video/label_01_2.mp4")


# ------------------------------------------------------------------------------------------- splitting


@given(
    clips=st.lists(st.tuples(st.integers(1, 25), st.integers(0, 6)), min_size=1, max_size=120),
    seed=st.integers(0, 3),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=80, deadline=None)
def test_no_source_is_ever_in_two_parts(clips, seed, order):
    rows = [
        ClipRow(f"split_video/cholec80_{video:02d}_{number}.mp4", label) for number, (video, label) in enumerate(clips)
    ]
    if len({CHOLEC80.source_of(row.path) for row in rows}) < 3:
        with pytest.raises(DatasetError):
            video_disjoint(rows, CHOLEC80, seed)
        return
    parts = video_disjoint(rows, CHOLEC80, seed)
    sources = {split: {CHOLEC80.source_of(row.path) for row in part} for split, part in parts.items()}
    assert not sources["train"] & sources["test"]
    assert not sources["validation"] & (sources["train"] | sources["test"])
    assert Counter(row for part in parts.values() for row in part) == Counter(rows)
    order.shuffle(rows)
    assert video_disjoint(rows, CHOLEC80, seed) == parts


# ------------------------------------------------------------------------------------------- frame sets


def _tree(root: Path, folder: str, lists: dict[str, list[tuple[str, int]]]) -> None:
    for file, rows in lists.items():
        write(
            root / f"splits/{folder}/{file}.csv",
            "".join(f"__DATA_ROOT__/{folder}/{path} {label}\n" for path, label in rows),
        )
        for path, _ in rows:
            write_video(root / folder / path, frames=30)


def _capsule_clips(letters: str, label: int) -> list[tuple[str, int]]:
    return [(f"videos/{CAPSULE.classes[label]}/{letter * 16}_0-9.mp4", label) for letter in letters]


def test_clips_become_a_frame_set_with_every_fourth_frame(tmp_path):
    held_out = [("videos/pylorus/aaaaaaaaaaaaaaaa_5-9.mp4", 5), *_capsule_clips("f", 5)]
    _tree(tmp_path, "kvasir-capsule", {"train": _capsule_clips("abcde", 5), "val": held_out, "test": held_out})
    report = prepare_frame_set("surgrec_kvasir_capsule", tmp_path, tmp_path / "out")
    assert {video.frames for video in report.videos} == {8}
    with pytest.warns(FrameSetWarning, match="81 of 82 test clips"):
        train = load_frame_set("surgrec_kvasir_capsule", tmp_path / "out", "train")
    assert [number_of(_pixels(image)) for image in train[:8]["image"]] == list(range(0, 30, 4))
    assert {train.features["label"].int2str(label) for label in train["label"]} == {"pylorus"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = [load_frame_set("surgrec_kvasir_capsule", tmp_path / "out", split) for split in ("validation", "test")]
        assert set(parts[0]["video_id"]) == set(parts[1]["video_id"]) == {path for path, _ in held_out}
    disjoint = [
        {
            name.split("/")[-1][:16]
            for name in load_frame_set("surgrec_kvasir_capsule", tmp_path / "out", split, protocol="by_video")[
                "video_id"
            ]
        }
        for split in ("train", "validation", "test")
    ]
    assert sum(len(part) for part in disjoint) == 6
    assert len(set.union(*disjoint)) == 6


def _pixels(image):
    import numpy as np

    return np.asarray(image)


def test_artefacts_can_be_left_out_without_renumbering(tmp_path):
    names = {"preparation": 12, "severe_index": 13, "out_of_body": 11}
    rows = [
        (f"split_videos/bern/phase/BBP01/BBP01_phase_{n:03d}_{name}_0-9.mp4", label)
        for n, (name, label) in enumerate(names.items())
    ]
    others = [
        (f"split_videos/bern/phase/{video}/{video}_phase_001_preparation_0-9.mp4", 12) for video in ("BBP02", "BBP03")
    ]
    _tree(tmp_path, "MultiBypass140", {"train": rows, "val": others[:1], "test": others[1:]})
    prepare_frame_set("surgrec_multibypass140", tmp_path, tmp_path / "out")
    load = lambda protocol: load_frame_set("surgrec_multibypass140", tmp_path / "out", "train", protocol=protocol)  # noqa: E731
    assert {BYPASS.classes[label] for label in load("surgrec")["label"]} == set(names)
    clean = load("surgrec_without_artefacts")
    assert {clean.features["label"].int2str(label) for label in clean["label"]} == {"preparation", "out_of_body"}
    assert clean.features["label"].num_classes == 13


def test_missing_clips_are_an_error_unless_a_part_is_asked_for(tmp_path):
    _tree(
        tmp_path,
        "kvasir-capsule",
        {"train": _capsule_clips("abc", 5), "val": _capsule_clips("d", 5), "test": _capsule_clips("e", 5)},
    )
    (tmp_path / "kvasir-capsule" / _capsule_clips("b", 5)[0][0]).unlink()
    with pytest.raises(MissingFilesError, match="1 of 5 clips are not in"):
        prepare_frame_set("surgrec_kvasir_capsule", tmp_path, tmp_path / "out")
    report = prepare_frame_set("surgrec_kvasir_capsule", tmp_path, tmp_path / "out", settings={"partial": "yes"})
    assert len(report.videos) == 4


def test_the_lists_may_lie_elsewhere_and_must_lie_somewhere(tmp_path):
    _tree(
        tmp_path / "clips",
        "kvasir-capsule",
        {"train": _capsule_clips("abc", 5), "val": _capsule_clips("d", 5), "test": _capsule_clips("e", 5)},
    )
    (tmp_path / "clips/splits").rename(tmp_path / "checkout")
    with pytest.raises(MissingFilesError, match="Get the lists from"):
        prepare_frame_set("surgrec_kvasir_capsule", tmp_path / "clips", tmp_path / "out")
    report = prepare_frame_set(
        "surgrec_kvasir_capsule", tmp_path / "clips", tmp_path / "out", settings={"splits": str(tmp_path / "checkout")}
    )
    assert len(report.videos) == 5

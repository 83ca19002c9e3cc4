"""Real annotation files and real clips, read in full. They may not be copied here, so they are read where they lie."""

import csv
import hashlib
import json
import shutil
from collections import Counter

import numpy as np
import pytest

from surgvista_hf import load_frame_set
from surgvista_hf.datasets_scripts.corpora import multibypass140
from surgvista_hf.datasets_scripts.corpora.lemon import PROCEDURES, read_labels, split_labels
from surgvista_hf.datasets_scripts.frame_sets.prepare import PreparationError, prepare_frame_set
from surgvista_hf.datasets_scripts.schema.builder import RawVideo
from surgvista_hf.datasets_scripts.schema.media import PreparationOptions
from tests.datasets_scripts.raw_layouts import write_frames

LABELS = [
    "bern/labels_by70/BBP03",
    "bern/labels_by70/BBP63",
    "strasbourg/labels_by70/SBP05",
    "strasbourg/labels_by70/SBP07",
]


@pytest.fixture
def bypass(shared_data):
    return shared_data / "annotations" / "multibypass140"


def test_phases_and_steps_of_multibypass140_are_those_of_its_tables(bypass):
    for name, names in (("phase", (*multibypass140.PHASES, multibypass140.ADVERSE)), ("step", multibypass140.STEPS)):
        rows = csv.reader((bypass / "tables" / f"{name}.csv").read_text().splitlines()[1:], skipinitialspace=True)
        assert [label for _, label in rows] == list(names)


@pytest.mark.parametrize("name", LABELS)
def test_every_second_of_a_real_bypass_has_the_label_of_its_intervals(bypass, name):
    path = bypass / "labels" / f"{name}.mp4.json"
    content = json.loads(path.read_text())
    tracks = multibypass140.tracks(RawVideo("x", {"labels": path}))
    end = max(entry["end"] for part in content.values() for entry in part)
    for second in range(0, end // 1000 + 2, 7):
        row = {}
        for track in tracks:
            row.update(track.at(second, 25.0) or {})
        # Written differently: what covers this moment in the file, the later and shorter interval on top.
        there = [entry for entry in content["phases"] if entry["start"] <= 1000 * second < entry["end"]]
        names = [entry["label_name"] for entry in there if entry["label_name"] != "severe_index"]
        expected = "out_of_body" if "out_of_body" in names else names[-1] if names else None
        found = row.get("phase")
        assert (None if found is None else multibypass140.PHASES[found]) == expected, second
        assert row.get("adverse_event", 0) == any(entry["label_name"] == "severe_index" for entry in there), second
        steps = [entry["label_id"] for entry in content["steps"] if entry["start"] <= 1000 * second < entry["end"]]
        assert row.get("step") == (steps[-1] if steps else None), second


def test_real_label_files_become_a_frame_set(bypass, tmp_path):
    for name in LABELS:
        video = name.rsplit("/", 1)[1]
        target = tmp_path / "raw" / f"labels/{name}.mp4.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(bypass / "labels" / f"{name}.mp4.json", target)
        write_frames(tmp_path / f"raw/frames/{video}", [f"{video}_{n:08d}.jpg" for n in range(1, 21)], range(20))
    with pytest.raises(
        PreparationError, match=r"4 of 4 .* the labels go on until second 3796\.7, the video ends at 20\.0"
    ):
        prepare_frame_set("multibypass140", tmp_path / "raw", tmp_path / "refused")
    beginning = PreparationOptions(tolerance_seconds=100_000)  # twenty seconds of operations of hours
    assert prepare_frame_set("multibypass140", tmp_path / "raw", tmp_path / "out", options=beginning).failed == ()
    frames = load_frame_set("multibypass140", tmp_path / "out", "all")
    assert Counter(frames["video_id"]) == {"BBP03": 20, "BBP63": 20, "SBP05": 20, "SBP07": 20}
    first = frames.filter(lambda row: row["video_id"] == "BBP03")
    # Out of the body until 3.221 s; the preparation begins after 4.781 s; between them nothing is annotated.
    phases = [None if number is None else multibypass140.PHASES[number] for number in first["phase"]]
    assert phases[:6] == ["out_of_body"] * 4 + [None, "preparation"]


def test_the_complete_lemon_annotation_has_the_published_totals(shared_data):
    labels = read_labels(shared_data / "annotations" / "lemon" / "labels.json")
    assert len(labels) == 4194
    assert Counter(len(label["procedures"]) for label in labels.values()) == {1: 3928, 2: 263, 3: 3}
    assert Counter(label["robotic"] for label in labels.values()) == {0: 2527, 1: 1667}
    counts = Counter(PROCEDURES[number] for label in labels.values() for number in label["procedures"])
    assert len(counts) == 35
    assert counts["colectomy"] == 308
    assert counts["cecectomy"] == 2
    robotic = Counter(
        PROCEDURES[number] for label in labels.values() if label["robotic"] for number in label["procedures"]
    )
    assert (robotic["prostatectomy"], robotic["hysterectomy"]) == (76, 23)


def test_the_splits_of_lemon_have_every_procedure_and_stay_as_they_are(shared_data):
    labels = read_labels(shared_data / "annotations" / "lemon" / "labels.json")
    splits = split_labels(labels)
    assert {name: len(ids) for name, ids in splits.items()} == {"train": 3348, "validation": 428, "test": 418}
    assert sorted(video for ids in splits.values() for video in ids) == sorted(labels)
    counts = {
        name: Counter(PROCEDURES[number] for video in ids for number in labels[video]["procedures"])
        for name, ids in splits.items()
    }
    assert [name for name in PROCEDURES if not counts["train"][name] or not counts["test"][name]] == []
    assert [name for name in PROCEDURES if not counts["validation"][name]] == ["cecectomy"]  # which has two videos
    assert [counts[name]["vaginectomy"] for name in splits] == [5, 1, 1]
    for ids in splits.values():
        assert abs(np.mean([labels[video]["robotic"] for video in ids]) - 1667 / 4194) < 0.02
    digest = hashlib.sha256(json.dumps(splits, sort_keys=True).encode()).hexdigest()
    assert digest.startswith("61ea69f351178ea5")


def test_real_clips_become_a_frame_set(shared_data, tmp_path):
    report = prepare_frame_set("folder", shared_data / "clips", tmp_path / "out")
    assert {video.video_id: video.frames for video in report.videos} == {
        "01_118.8_123.8_gallbladder-dissection": 5,
        "01_82.4_87.4_clipping-and-cutting": 5,
        "02_87.7_92.7_retract": 5,
        "cholecystectomy_720p_25fps": 10,
    }
    frames = load_frame_set("folder", tmp_path / "out", "all")
    assert {min(image.size) for image in frames["image"]} == {256}
    assert all(np.asarray(image).std() > 20 for image in frames["image"])
    np.testing.assert_allclose(frames[-10:]["timestamp"], range(10), atol=2e-3)

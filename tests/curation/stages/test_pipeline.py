"""The pipeline end to end, on a web of colors served by this machine: every second and every pixel is known."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pytest

from surgvista_hf.curation.collection.collect import remove
from surgvista_hf.curation.collection.manifest import Collection, CurationError, read_manifest
from surgvista_hf.curation.collection.overrides import apply_overrides
from surgvista_hf.curation.collection.reports import table
from surgvista_hf.curation.collection.results import read_result, summarize
from surgvista_hf.curation.stages import video_work
from surgvista_hf.curation.stages.pipeline import CurationOptions, run_pipeline, run_stage
from surgvista_hf.modeling.errors_surgvista import InputError

from ..color_web import CAPTION, LOGO, UPLOADS


@pytest.fixture
def corpus(curated, tmp_path):
    return shutil.copytree(curated, tmp_path / "corpus")


def rows(folder) -> dict[str, dict]:
    return {row["video_id"]: row for row in read_manifest(folder).to_pylist()}


def content(folder, stage: str, video: str) -> dict:
    result = read_result(Collection(folder), stage, video)
    assert result is not None
    return dict(result.content)


def test_the_result_is_what_was_uploaded_of_operations(curated):
    found = rows(curated)
    assert {name for name, row in found.items() if row["kept"]} == {"-first_logo", "bordered"}
    because = {name: (row["stage"], row["cause"]) for name, row in found.items() if row["kept"] is False}
    assert because == {
        "a-copy": ("deduplicate", "repeats another video"),
        "corrupt": ("collect", "unreadable"),
        "flashes": ("trim", "no surgical content"),
        "gone": ("collect", "removed"),
        "talk": ("classify-videos", "uninformative"),
        "truncated": ("classify-videos", "unreadable"),
    }
    assert found["a-copy"]["detail"] == "-first_logo"
    assert found["gone"]["reason"] == "the address answers 404"


@pytest.mark.parametrize("name", ["-first_logo", "a-copy", "bordered"])
def test_what_is_before_and_after_the_operation_is_cut_off_to_the_second(curated, name):
    video, found = UPLOADS[name], content(curated, "trim", name)
    assert (found["first"], found["last"]) == (video.before, video.before + video.during - 1)
    surgical = [second for second in range(video.seconds) if video.is_surgical(second)]
    assert found["surgical_seconds"] == len(surgical)
    assert [second for second, digit in enumerate(found["surgical"]) if digit == "1"] == surgical


def test_every_overlay_is_covered_by_a_box_and_nothing_else_is(curated):
    video, boxes = UPLOADS["-first_logo"], content(curated, "mask", "-first_logo")["boxes"]
    for second in range(video.seconds):
        expected = sorted(map(list, video.boxes(second))) if video.is_surgical(second) else []
        assert sorted(boxes.get(str(second), [])) == expected
    assert content(curated, "mask", "bordered")["boxes"] == {}
    assert content(curated, "mask", "bordered")["border"] == [12, 12, 116, 84]


def test_the_manifest_has_hash_size_and_format_and_no_titles(curated):
    found = rows(curated)["-first_logo"]
    assert (found["width"], found["height"], found["format"]) == (128, 96, "mp4/h264")
    assert len(found["sha256"]) == 64
    assert found["bytes"] == (curated / "videos" / "-first_logo.mp4").stat().st_size
    assert len(found["models"]) == 3
    assert "title" not in read_manifest(curated).column_names
    assert json.loads((curated / "metadata" / "-first_logo.json").read_text())["title"] == "-first_logo"


def test_counts_and_reasons_of_every_stage_are_reported(curated):
    stages = {stage["stage"]: stage for stage in json.loads((curated / "report.json").read_text())["stages"]}
    counts = {name: (stage["videos"], stage["kept"]) for name, stage in stages.items()}
    assert counts == {
        "collect": (8, 6),
        "classify-videos": (6, 4),
        "classify-frames": (4, 4),
        "trim": (4, 3),
        "hash": (3, 3),
        "deduplicate": (3, 2),
        "mask": (2, 2),
    }
    assert stages["classify-videos"]["dropped"] == {"uninformative": 1, "unreadable": 1}
    assert stages["collect"]["dropped"]["removed: the address answers 404"] == 1
    assert stages["trim"]["hours"] == round((16 + 10 + 8) / 3600, 4)
    text = table(summarize(Collection(curated)))
    assert "dropped: 1 repeats another video" in text


def files_of(folder) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != ".lock"
    }


def test_a_second_run_does_nothing_and_changes_no_byte(corpus, color_options, monkeypatch):
    before = files_of(corpus)
    monkeypatch.setattr("surgvista_hf.curation.stages.pipeline.run_task", None)  # whatever is done again fails
    run_pipeline(corpus, color_options)
    assert files_of(corpus) == before


def test_other_processes_give_the_same_bytes(corpus, curated):
    shutil.rmtree(corpus / "results" / "hash")
    run_stage(corpus, "hash", num_proc=2)
    assert files_of(corpus) == files_of(curated)


def test_other_options_redo_only_what_depends_on_them(corpus, color_options, curated):
    run_pipeline(corpus, replace(color_options, run=9))
    was, now = (
        {
            stage: {file.name: file.stat().st_mtime_ns for file in (folder / "results" / stage).iterdir()}
            for stage in ("classify-videos", "classify-frames", "trim")
        }
        for folder in (curated, corpus)
    )
    assert now["classify-frames"] == was["classify-frames"]
    assert all(now["trim"][name] != was["trim"][name] for name in was["trim"])
    assert rows(corpus)["bordered"]["cause"] == "no surgical content"  # eight seconds are no nine


def test_a_video_that_was_replaced_is_looked_at_again(corpus, color_options):
    collection = Collection(corpus)
    talk, flashes = collection.find("talk"), collection.find("flashes")
    shutil.copyfile(collection.video_file(flashes), collection.video_file(talk))
    collection.write_video(replace(flashes, video_id="talk", file="talk.mp4"))
    assert rows(corpus)["talk"]["cause"] == "uninformative"
    summarize(collection)
    assert rows(corpus)["talk"]["kept"] is None  # what was found out belongs to another file
    run_pipeline(corpus, color_options)
    assert rows(corpus)["talk"]["cause"] == "no surgical content"


def test_when_the_kept_video_is_removed_its_copy_takes_its_place(corpus, color_options):
    remove(corpus, ["-first_logo"], "asked by the owner")
    found = rows(corpus)
    assert found["a-copy"]["kept"] is None
    assert (found["-first_logo"]["status"], found["-first_logo"]["sha256"]) == ("removed", "")
    assert not list(corpus.rglob("-first_logo.mp4"))
    assert [file.parent.name for file in corpus.rglob("-first_logo*")] == ["records"]
    run_pipeline(corpus, color_options)
    assert rows(corpus)["a-copy"]["kept"] is True


# --------------------------------------------------------------------------------------------- overrides


def override(folder, tmp_path, *entries: dict) -> None:
    file = tmp_path / "overrides.json"
    file.write_text(json.dumps(entries))
    apply_overrides(folder, file)


def test_a_human_keeps_what_the_models_dropped_and_drops_what_they_kept(corpus, color_options, tmp_path):
    override(
        corpus,
        tmp_path,
        {"video": "talk", "decision": "keep", "start": 2, "end": 7, "note": "a demonstration"},
        {"video": "bordered", "decision": "drop"},
        {"video": "a-copy", "decision": "keep"},
        {"video": "truncated", "decision": "keep"},
    )
    reports = {report.stage: report for report in run_pipeline(corpus, color_options)}
    found = rows(corpus)
    assert (found["talk"]["kept"], found["talk"]["start"], found["talk"]["end"]) == (True, 2.0, 7.0)
    assert (found["bordered"]["kept"], found["bordered"]["stage"]) == (False, "review")
    assert (found["truncated"]["kept"], found["truncated"]["cause"]) == (False, "unreadable")
    # What a human keeps is never a copy: here the other one, with more of the operation, has to go.
    assert found["a-copy"]["kept"] is True
    assert (found["-first_logo"]["kept"], found["-first_logo"]["detail"]) == (False, "a-copy")
    assert found["talk"]["overridden"] is True
    assert reports["classify-videos"].overridden == 1
    assert reports["review"].dropped == {"dropped by a human": 1}


def test_results_of_earlier_versions_stay_valid(corpus, color_options, monkeypatch):
    before = rows(corpus)
    for file in (corpus / "results").glob("*/*.json"):
        result = json.loads(file.read_text())
        result["heeded"] = result.pop("overrides_hash")
        file.write_text(json.dumps(result))
    monkeypatch.setattr(video_work, "WORK", {})  # nothing is done again
    for stage in ("classify-videos", "classify-frames", "trim", "hash", "mask"):
        run_stage(corpus, stage, color_options)
    assert rows(corpus) == before


def test_a_human_corrects_seconds_and_boxes(corpus, color_options, tmp_path):
    override(
        corpus,
        tmp_path,
        {"video": "-first_logo", "decision": "non-surgical", "start": 4, "end": 6},
        {"video": "-first_logo", "decision": "surgical", "start": 14, "end": 15},
        {"video": "-first_logo", "decision": "unmask", "start": 7, "end": 9},
        {"video": "-first_logo", "decision": "mask", "box": [60, 40, 70, 50], "start": 9},
    )
    run_pipeline(corpus, color_options)
    trimmed, boxes = (content(corpus, stage, "-first_logo") for stage in ("trim", "mask"))
    assert trimmed["first"] == 6
    assert trimmed["surgical"][13:17] == "1101"
    assert "7" not in boxes["boxes"]
    assert sorted(boxes["boxes"]["9"]) == sorted([list(LOGO), list(CAPTION), [60, 40, 70, 50]])
    assert boxes["boxes"]["6"] == [list(LOGO)]


def test_overrides_redo_only_the_videos_that_they_name(corpus, color_options, tmp_path):
    before = {file: file.stat().st_mtime_ns for file in (corpus / "results").rglob("*.json")}
    override(corpus, tmp_path, {"video": "bordered", "decision": "mask", "box": [20, 20, 30, 30]})
    run_pipeline(corpus, color_options)
    changed = {file.name for file, time in before.items() if file.stat().st_mtime_ns != time}
    assert changed == {"bordered.json"}
    assert (corpus / "results" / "trim" / "bordered.json").stat().st_mtime_ns == before[
        corpus / "results" / "trim" / "bordered.json"
    ]


# --------------------------------------------------------------------------------------------- bad input


def test_a_stage_says_which_one_has_to_run_before_it(collected, tmp_path, color_options):
    folder = shutil.copytree(collected, tmp_path / "corpus")
    with pytest.raises(CurationError, match="trim needs the results of classify-frames"):
        run_stage(folder, "trim", color_options)


@pytest.mark.parametrize(
    ("stage", "changes", "reason"),
    [
        ("classify-video", {}, "did you mean classify-videos"),
        ("classify-frames", {"frame_models": ()}, "--frame-model"),
        ("classify-frames", {"surgical": "operation"}, "no class 'operation' but surgical, non-surgical"),
        ("mask", {"region_models": ()}, "--region-model"),
    ],
)
def test_a_stage_that_cannot_run_says_what_is_missing(curated, color_options, stage, changes, reason):
    with pytest.raises(InputError, match=reason):
        run_stage(curated, stage, replace(color_options, **changes))


def test_a_pipeline_without_detector_begins_nothing(collected, color_options, tmp_path):
    folder = shutil.copytree(collected, tmp_path / "corpus")
    with pytest.raises(InputError, match="--region-model"):
        run_pipeline(folder, replace(color_options, region_models=()))
    assert not (folder / "results").exists()


@pytest.mark.slow
def test_the_storyboard_classifier_can_be_left_out(collected, color_options, tmp_path):
    folder = shutil.copytree(collected, tmp_path / "corpus")
    run_pipeline(folder, replace(color_options, video_models=()))
    found = rows(folder)
    assert {name for name, row in found.items() if row["kept"]} == {"-first_logo", "bordered"}
    assert found["talk"]["cause"] == "no surgical content"
    assert (found["truncated"]["stage"], found["truncated"]["cause"]) == ("classify-frames", "unreadable")


@pytest.mark.parametrize("changes", [{"run": 0}, {"threshold": 1.5}, {"max_distance": 65}, {"batch_size": 0}])
def test_options_out_of_range_are_refused(changes):
    with pytest.raises(InputError):
        CurationOptions(**changes)


@pytest.mark.parametrize("text", ["{", "[]", '{"key": 1}', '{"key": "a", "sha256": "b", "color": 1}'])
def test_a_broken_result_is_named(corpus, text):
    file = corpus / "results" / "trim" / "bordered.json"
    file.write_text(text)
    with pytest.raises(CurationError, match=r"bordered\.json"):
        summarize(Collection(corpus))


def test_a_manifest_can_be_filtered_as_a_table(curated):
    kept = read_manifest(curated).filter(pc.field("kept"))
    assert kept.num_rows == 2
    assert np.isclose(
        pc.sum(kept["seconds"]).as_py(), sum(UPLOADS[name].seconds for name in ("-first_logo", "bordered"))
    )

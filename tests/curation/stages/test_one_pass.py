"""One decode for several stages: the same bytes as one stage after the other, whatever happens on the way."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from surgvista_hf.curation.collection.manifest import Collection
from surgvista_hf.curation.collection.overrides import apply_overrides
from surgvista_hf.curation.collection.results import STAGES, read_result
from surgvista_hf.curation.stages import one_pass, seconds, video_work
from surgvista_hf.curation.stages.pipeline import CurationOptions, run_pipeline, run_stage

from ..color_web import ColorVideo

OVERRIDES = [
    {"video": "-first_logo", "decision": "non-surgical", "start": 4, "end": 6},
    {"video": "-first_logo", "decision": "surgical", "start": 14, "end": 15},
    {"video": "-first_logo", "decision": "unmask", "start": 7, "end": 9},
    {"video": "-first_logo", "decision": "mask", "box": [60, 40, 70, 50], "start": 9},
    {"video": "talk", "decision": "keep"},
    {"video": "flashes", "decision": "keep", "start": 2, "end": 6},
    {"video": "bordered", "decision": "drop"},
]


@pytest.fixture
def small_batches(color_options) -> CurationOptions:
    """Batches that end within the operation, so that frames wait."""
    return replace(color_options, batch_size=3)


def stage_by_stage(folder: Path, options: CurationOptions) -> Path:
    for stage in STAGES:
        run_stage(folder, stage.name, options)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    found = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != ".lock")
    return {str(file.relative_to(folder)): file.read_bytes() for file in found}


def override(folder: Path, tmp_path: Path, entries: list[dict]) -> None:
    file = tmp_path / "decided.json"
    file.write_text(json.dumps(entries))
    apply_overrides(folder, file)


def copies(folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    return shutil.copytree(folder, tmp_path / "one"), shutil.copytree(folder, tmp_path / "other")


@pytest.fixture
def decodes(monkeypatch) -> list[str]:
    """Names of the videos that are decoded from beginning to end, or in a part of it."""
    found: list[str] = []
    whole = seconds.SubprocessVideo

    def noted(path: Path, *arguments: object, **options: object) -> object:
        if "spread" not in options:
            found.append(Path(path).stem)
        return whole(path, *arguments, **options)

    monkeypatch.setattr(seconds, "SubprocessVideo", noted)
    return found


@pytest.mark.parametrize(
    "entries",
    [pytest.param([], id="no overrides", marks=pytest.mark.slow), pytest.param(OVERRIDES, id="overrides")],
)
def test_one_pass_writes_the_bytes_of_one_stage_after_the_other(collected, small_batches, tmp_path, decodes, entries):
    one, other = copies(collected, tmp_path)
    for folder in (one, other):
        override(folder, tmp_path, entries)
    run_pipeline(one, small_batches)
    # Damaged videos are decoded again by the stage that tells so; all others once.
    passed = {name: decodes.count(name) for name in decodes if name != "truncated"}
    assert set(passed.values()) == {1}
    assert {"-first_logo", "a-copy", "flashes"} <= set(passed)
    assert files_of(one) == files_of(stage_by_stage(other, small_batches))


def test_a_stage_that_is_run_again_after_a_change_shares_a_decode_of_the_operation(
    curated, color_options, tmp_path, decodes
):
    one, other = copies(curated, tmp_path)
    for folder in (one, other):
        override(folder, tmp_path, [{"video": "-first_logo", "decision": "non-surgical", "start": 4, "end": 6}])
    run_pipeline(one, color_options)
    assert decodes == ["-first_logo"]
    assert files_of(one) == files_of(stage_by_stage(other, color_options))


def test_results_that_are_there_are_not_made_again(curated, color_options, tmp_path, decodes):
    one, other = copies(curated, tmp_path)
    for folder in (one, other):
        for stage in ("classify-frames", "mask"):
            (folder / "results" / stage / "bordered.json").unlink()
    kept = (one / "results" / "hash" / "bordered.json").stat().st_mtime_ns
    run_pipeline(one, color_options)
    assert decodes == ["bordered"]
    assert (one / "results" / "hash" / "bordered.json").stat().st_mtime_ns == kept
    assert files_of(one) == files_of(stage_by_stage(other, color_options)) == files_of(curated)


KILLED = """
import os, sys
from surgvista_hf.curation.stages import one_pass
from surgvista_hf.curation.stages.pipeline import CurationOptions, run_pipeline

write, count = one_pass.write_result, 0
def killed(*arguments):
    global count
    write(*arguments)
    count += 1
    if count == int(sys.argv[1]):
        os._exit(9)
one_pass.write_result = killed
video, frame, region = sys.argv[3:]
options = CurationOptions((video,), (frame,), (region,), device="cpu", dtype="float32", batch_size=3)
run_pipeline(sys.argv[2], options)
"""


@pytest.mark.slow
@pytest.mark.parametrize("written", [1, 3])
def test_after_a_kill_the_same_command_goes_on_and_ends_with_the_same_bytes(
    collected, color_models, small_batches, tmp_path, written
):
    one, other = copies(collected, tmp_path)
    models = (color_models.video, color_models.frame, color_models.region)
    program = [sys.executable, "-c", KILLED, str(written), str(one), *map(str, models)]
    assert subprocess.run(program, check=False).returncode == 9
    # Regions are no result before repetitions were looked for: nothing is exported that nobody compared.
    assert not (one / "results" / "mask").exists()
    run_pipeline(one, small_batches)
    assert files_of(one) == files_of(stage_by_stage(other, small_batches))


def test_regions_that_were_found_before_a_kill_are_taken_by_the_stage_alone(
    collected, small_batches, tmp_path, monkeypatch
):
    folder = shutil.copytree(collected, tmp_path / "corpus")
    run_pipeline(folder, small_batches)
    done = files_of(folder / "results" / "mask")
    early = folder / "results" / one_pass.early("mask")
    (folder / "results" / "mask").rename(early)
    monkeypatch.setattr(video_work, "WORK", {})  # nothing is done again
    run_stage(folder, "mask", small_batches)
    assert files_of(folder / "results" / "mask") == done
    assert files_of(early) == {}


@pytest.mark.slow
def test_a_video_in_which_too_many_frames_would_wait_is_left_to_its_stage(collected, color_options, tmp_path, decodes):
    options = replace(color_options, batch_size=1, run=8)  # eight frames wait where two may
    one, other = copies(collected, tmp_path)
    run_pipeline(one, options)
    assert decodes.count("bordered") == 2
    assert files_of(one) == files_of(stage_by_stage(other, options))


@pytest.mark.slow
def test_damage_that_only_hashes_meet_leaves_the_classification_as_it_is(
    collected, color_options, tmp_path, monkeypatch
):
    whole = seconds.SubprocessVideo

    def damaged(path: Path, *arguments: object, **options: object) -> object:
        if options.get("interval_seconds") == 1 / seconds.HASHES_PER_SECOND:
            raise seconds_error
        return whole(path, *arguments, **options)

    seconds_error = video_work.VideoReadError("the file is damaged at second 7.50")
    monkeypatch.setattr(seconds, "SubprocessVideo", damaged)
    one, other = copies(collected, tmp_path)
    run_pipeline(one, color_options)
    result = read_result(Collection(one), "hash", "bordered")
    assert result is not None
    assert (result.kept, result.detail) == (False, "the file is damaged at second 7.50")
    assert files_of(one) == files_of(stage_by_stage(other, color_options))


def test_frames_wait_only_until_it_is_certain_that_they_belong_to_the_operation(color_options, monkeypatch):
    searched: list[list[int]] = []
    monkeypatch.setattr(video_work, "_detector", lambda options: None)
    monkeypatch.setattr(video_work.RegionSearch, "add", lambda self, batch: searched.append([s for s, _ in batch]))
    task = video_work.Task(Path(), "mask", None, None, (), replace(color_options, batch_size=4))  # type: ignore[arg-type]
    waiting = one_pass._WaitingRegions(task, ())
    surgical = np.array([int(digit) for digit in "011011110101000011100001"], bool)
    most = 0
    for begin in range(0, len(surgical), 4):
        frames = [(second, np.empty(0)) for second in range(begin, begin + 4)]
        waiting.add(frames, surgical[: begin + 4])
        most = max(most, len(waiting._waiting))
    # 1 and 2 are no run of three; 9 and 11 belong to it only when the run of 16 to 18 is there; 23 never does.
    assert searched == [[4, 5, 6, 7], [9, 11, 16, 17]]
    assert [second for second, _ in waiting._waiting] == [18, 23]
    assert most <= 2


# --------------------------------------------------------------------------------------------- number formats


@pytest.mark.slow
def test_results_of_the_other_number_format_count_if_none_was_chosen(collected, color_options, tmp_path, monkeypatch):
    folder = shutil.copytree(collected, tmp_path / "corpus")
    run_pipeline(folder, replace(color_options, dtype="float32"))
    before = files_of(folder)
    monkeypatch.setattr("surgvista_hf.modeling.precision.bfloat16_hardware", lambda device: "AMX")
    video_work._load_classifier.cache_clear()
    video_work._load_detector.cache_clear()
    run_pipeline(folder, replace(color_options, dtype="auto"))
    assert files_of(folder) == before
    run_pipeline(folder, replace(color_options, dtype="bfloat16"))
    result = read_result(Collection(folder), "classify-frames", "bordered")
    assert result is not None
    assert result.content["dtype"] == "bfloat16"
    assert (
        result.content["surgical"]
        == json.loads(before["results/classify-frames/bordered.json"])["content"]["surgical"]
    )
    video_work._load_classifier.cache_clear()
    video_work._load_detector.cache_clear()


def test_a_part_beyond_the_end_of_a_video_leaves_nothing_to_keep(collected, color_options, tmp_path):
    folder = shutil.copytree(collected, tmp_path / "corpus")
    override(folder, tmp_path, [{"video": "bordered", "decision": "keep", "start": 100, "end": 200}])
    reports = {report.stage: report for report in run_pipeline(folder, color_options)}
    assert reports["trim"].dropped["no surgical content"] == 2


def test_hashes_of_small_images_are_those_of_whole_frames(tmp_path):
    path = ColorVideo(7, before=1, during=4, after=1).write(tmp_path / "video.mp4")
    frames = [frame for _, frame in seconds.frames_by_second(path, seconds.HASHES_PER_SECOND)]
    found = list(seconds.hashes_and_seconds(path))
    assert [value for _, value, _ in found] == seconds.perceptual_hashes(frames).tolist()
    whole = {number: frame for number, (_, _, frame) in enumerate(found) if frame is not None}
    assert list(whole) == list(range(0, len(found), seconds.HASHES_PER_SECOND))
    assert all((frame == frames[number]).all() for number, frame in whole.items())

"""A damaged stretch costs its own seconds only: in predictions, frame sets, copies and everything written of them."""

import csv
import json
import shutil
from itertools import pairwise, takewhile

import av
import numpy as np
import pytest
from datasets import load_from_disk

from surgvista_hf import SurgicalVideoPredictor, VideoReadError, load_frame_set
from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.schema.media import PreparationOptions
from surgvista_hf.inference import VideoPrediction
from surgvista_hf.inference.deidentification import deidentify_video
from surgvista_hf.inference.prediction.prediction import FORMATS
from surgvista_hf.inference.writers.contact_sheet import draw_contact_sheet
from surgvista_hf.inference.writers.timeline import draw_timeline
from surgvista_hf.modeling.video_reading_surgvista import VideoReader

from ..videos import INTERLACED, damage, numbered_frame, read_number, two_moments, write_numbered_video, write_pictures
from .tiny_models import Numbers, prediction

GROUPS = {"g": "50", "keyint_min": "50", "sc_threshold": "0"}


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """300 frames, ten a second; what begins after second 11 is damaged up to second 15."""
    folder = tmp_path_factory.mktemp("damaged")
    whole = write_numbered_video(folder / "whole.mp4", 300, options=GROUPS)
    (folder / "in").mkdir()
    (folder / "in" / "operation.mp4").write_bytes(damage(whole, 115))
    return folder / "in" / "operation.mp4"


def missing_seconds(video) -> list[int]:
    with VideoReader(video, damaged="skip") as reader:
        found = [round(second) for second, _ in reader.iterate(1.0)]
    missing = sorted(set(range(30)) - set(found))
    assert 2 <= len(missing) <= 5
    assert set(missing) <= set(range(11, 15))
    return missing


def test_every_other_second_is_predicted_as_if_the_last_sound_frame_had_stood_still(model_folder, video):
    predictor = SurgicalVideoPredictor(model_folder)
    found, missing = predictor.predict(video), missing_seconds(video)
    assert found.seconds.tolist() == [second for second in range(30) if second not in missing]
    assert found.missing == [(missing[0], missing[-1] + 1)]
    assert "left out" in found.remarks[0]
    with VideoReader(video, damaged="skip") as reader:
        frames = dict(reader.iterate(1.0))
    held = [frames[second if second in frames else missing[0] - 1] for second in range(30)]
    naive = predictor.predict_frames(enumerate(held))["model"]
    assert np.array_equal(found.probabilities, naive.probabilities[found.seconds.astype(int)])
    assert not np.isnan(found.probabilities).any()


def test_damage_can_be_refused(model_folder, video):
    with pytest.raises(VideoReadError, match="damaged"):
        SurgicalVideoPredictor(model_folder, damaged="refuse").predict(video)


def test_no_segment_crosses_what_is_missing():
    rows = prediction((0, 0, 0, 0, 1))
    gap = VideoPrediction("a.mp4", np.array([0.0, 1, 5, 6, 7]), rows.probabilities, rows.class_names)
    assert [(each.start, each.end, each.label) for each in gap.segments] == [
        (0, 2, "Preparation"),
        (5, 7, "Preparation"),
        (7, 8, "Dissection"),
    ]
    assert gap.missing == [(2, 5)]
    assert gap.regular_rows().tolist() == [0, 1, -1, -1, -1, 2, 3, 4]
    assert rows.missing == []
    assert [(a.end, b.start) for a, b in pairwise(rows.segments)] == [(4, 4)]


def test_every_format_says_what_is_missing_or_leaves_it_out(model_folder, video, tmp_path, capsys):
    options = ["--model", str(model_folder), "--formats", ",".join(FORMATS)]
    main(["predict", str(video), *options, "--output", str(tmp_path)])
    missing = missing_seconds(video)
    rows = list(csv.DictReader((tmp_path / FORMATS["csv"]).open()))
    assert [int(float(row["second"])) for row in rows] == [second for second in range(30) if second not in missing]
    content = json.loads((tmp_path / FORMATS["json"]).read_text())
    assert content["missing"] == [[missing[0], missing[-1] + 1]]
    assert "left out" in content["remarks"][0]
    for first, second in pairwise(content["segments"]):
        assert first["end"] <= second["start"]
    assert not any(each["start"] < missing[-1] and each["end"] > missing[0] for each in content["segments"])
    assert "left out" in (tmp_path / FORMATS["html"]).read_text()
    with VideoReader(tmp_path / FORMATS["mp4"]) as annotated:
        inside, outside = annotated.frames_at([missing[-1] + 0.2, 5.0])
        height = int(inside.shape[0] * 0.4)
        assert inside[:height].max() < 40 < outside[:height].max()  # black, not a frozen picture
    draw_contact_sheet(video, SurgicalVideoPredictor(model_folder).predict(video), tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_a_timeline_of_independent_classes_is_blank_where_there_is_no_answer(tmp_path):
    rows = prediction((0, 0, 0, 0, 1))
    for multi_label in (False, True):
        gap = VideoPrediction(
            "a.mp4", np.array([0.0, 1, 5, 6, 7]), rows.probabilities, rows.class_names, multi_label=multi_label
        )
        draw_timeline(gap, tmp_path / "a.png")
        assert (tmp_path / "a.png").stat().st_size > 5_000


def test_a_frame_set_lacks_the_damaged_rows_and_the_report_says_so(video, tmp_path, capsys):
    main(["prepare", "folder", "--data-dir", str(video.parent), "--output", str(tmp_path / "a"), "--json"])
    report = json.loads(capsys.readouterr().out)
    rows, missing = load_from_disk(str(tmp_path / "a")), missing_seconds(video)
    assert [round(second) for second in rows["timestamp"]] == [each for each in range(30) if each not in missing]
    assert [read_number(np.asarray(row["image"])) for row in rows][:5] == [0, 10, 20, 30, 40]
    assert "cannot be decoded and are left out (seconds 11." in report["remarks"]["operation"][0]
    assert main(
        ["prepare", "folder", "--data-dir", str(video.parent), "--output", str(tmp_path / "b"), "--damaged", "refuse"]
    )
    assert "is damaged at second" in capsys.readouterr().err


def test_of_every_frame_none_is_made_up_where_the_video_is_damaged(video, tmp_path):
    (tmp_path / "raw").mkdir()
    shutil.copy(video, tmp_path / "raw/op.mp4")
    options = PreparationOptions(frames_per_second=None)
    report = prepare_frame_set("folder", tmp_path / "raw", tmp_path / "set", options=options)
    times = load_frame_set("folder", tmp_path / "set", "all")["timestamp"][:]
    lost = missing_seconds(video)
    assert times
    assert not [time for time in times if lost[0] <= time < lost[-1] + 0.95]
    assert not any("stands still" in remark for remark in report.videos[0].remarks)


@pytest.mark.parametrize("stride", [0.2, 0.4, 1.5, 4])
def test_after_a_damaged_beginning_whole_seconds_are_answered(stride):
    """The first sound frame comes at 3.2 s; moments count from the beginning all the same."""
    predictor = SurgicalVideoPredictor(Numbers(3, stride))
    needed = takewhile(lambda second: second < 12, predictor.needed_seconds())
    frames = ((second, numbered_frame(round(second * 10))) for second in needed if second >= 3.2)
    (found,) = predictor.predict_frames(frames, origin=0.0).values()
    assert found.seconds.tolist() == list(range(4, 12))


def test_a_copy_is_black_where_the_video_is_damaged_and_keeps_all_times(video, tmp_path):
    done = deidentify_video(video, tmp_path / "a.mp4", None)
    missing = missing_seconds(video)
    ((start, end),) = done.damaged
    assert start <= missing[0] <= missing[-1] < end
    with VideoReader(tmp_path / "a.mp4") as copy:
        assert copy.last_second == pytest.approx(29.9, abs=0.01)
        for second, frame in copy.iterate(1.0):
            if second in missing:
                assert frame.max() < 30
            else:
                assert read_number(frame) == round(second * 10)


def test_a_copy_of_oblong_pixels_keeps_its_size_and_its_shape(tmp_path):
    from fractions import Fraction

    noise = np.random.default_rng(0).integers(0, 256, (144, 180, 3), np.uint8)
    path = write_pictures(tmp_path / "a.mp4", [noise] * 10, pixel_aspect=Fraction(64, 45))
    deidentify_video(path, tmp_path / "b.mp4", None)
    with av.open(str(tmp_path / "b.mp4")) as copy:
        stream = copy.streams.video[0]
        assert (stream.width, stream.height, stream.sample_aspect_ratio) == (180, 144, Fraction(64, 45))
    with VideoReader(path) as before, VideoReader(tmp_path / "b.mp4") as after:
        assert (after.info.width, after.info.height) == (before.info.width, before.info.height) == (256, 144)


def test_interlaced_recordings_are_taken_apart_in_every_verb_and_it_is_said(model_folder, tmp_path, capsys):
    codec, options = INTERLACED[".mpg"]
    (tmp_path / "in").mkdir()
    path = write_pictures(tmp_path / "in" / "a.mpg", map(two_moments, range(60)), codec=codec, options=options)

    def combing(pixels: np.ndarray) -> float:
        lines = pixels[..., 1].astype(int)
        return np.abs(lines[1:-1] - (lines[:-2] + lines[2:]) // 2).mean() / (np.abs(lines[2:] - lines[:-2]).mean() + 1)

    for mode, fewest, most in (("auto", 0, 4), ("off", 8, 99)):
        output = tmp_path / mode
        extra = ["--deinterlace", mode]
        main(["prepare", "folder", "--data-dir", str(path.parent), "--output", str(output / "set"), *extra])
        assert "interlaced" in capsys.readouterr().out
        images = [np.asarray(row["image"]) for row in load_from_disk(str(output / "set"))]
        assert all(fewest <= combing(image) < most for image in images)
        found = SurgicalVideoPredictor(model_folder, deinterlace=mode).predict(path)
        assert "interlaced" in found.remarks[0]
        done = deidentify_video(path, output / "a.mp4", None, deinterlace=mode)
        assert "interlaced" in done.remarks[0]
        with VideoReader(output / "a.mp4") as copy:
            assert all(fewest <= combing(frame) < most for _, frame in copy.iterate(1.0))

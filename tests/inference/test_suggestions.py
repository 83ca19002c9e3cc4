"""What to label next: chosen from videos and frame sets, written for annotators, and back in as labels."""

import csv
import json
import re
import shutil
from itertools import pairwise

import numpy as np
import pytest

from surgvista_hf import InputError, SurgicalVideoPredictor, VideoReadError, load_frame_set
from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.own_labels.phase_files import read_phase_file
from surgvista_hf.datasets_scripts.schema.media import PreparationOptions
from surgvista_hf.inference import VideoPrediction
from surgvista_hf.inference.models.out_of_body import OutOfBodyDetector
from surgvista_hf.inference.prediction.label_selection import uncertainty
from surgvista_hf.inference.prediction.label_suggestions import SUGGESTION_TIER
from surgvista_hf.inference.suggestions import (
    SuggestionSettings,
    files_to_label,
    frame_set_to_label,
    suggest_labels,
)
from surgvista_hf.inference.writers.suggestions import save_suggestions

from ..videos import write_numbered_video
from .tiny_models import NAMES, Numbers, Redness, processor, save_classifier, tiny_classifier


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder `videos` with three videos of 40 seconds, and a `model`."""
    root = tmp_path_factory.mktemp("suggestions")
    (root / "videos").mkdir()
    for number, name in enumerate(("a", "b", "c")):
        write_numbered_video(root / "videos" / f"{name}.mp4", count=40 * (number + 2), rate=number + 2)
    save_classifier(root / "model")
    return root


@pytest.fixture(scope="module")
def predictor(folder):
    return SurgicalVideoPredictor(folder / "model", device="cpu")


def spans(suggestions):
    return [(each.video, each.start, each.end) for each in suggestions.segments]


def test_labels_that_belong_to_no_video_are_said(folder, tmp_path, caplog):
    (tmp_path / "monday.csv").write_text("second,phase\n0,cut\n")
    files_to_label([folder / "videos"], [tmp_path])
    assert (
        "is named like a video, so nothing counts as labeled; it has monday.csv, and the videos are a.mp4"
        in caplog.text
    )
    caplog.clear()
    (tmp_path / "b.csv").write_text("second,phase\n0,cut\n")
    assert [bool(video.labels) for video in files_to_label([folder / "videos"], [tmp_path])] == [False, True, False]
    assert not caplog.text
    (tmp_path / "all.csv").write_text("video,second,phase\na,0,cut\nb,0,cut\n")
    with pytest.raises(InputError, match=r"labels of 2 videos \(a, b\), but one file for each video is expected"):
        files_to_label([folder / "videos"], [tmp_path])


def test_the_segments_are_whole_apart_and_the_same_every_time(folder, predictor):
    videos = files_to_label([folder / "videos"])
    settings = SuggestionSettings(seconds=30, length=4, gap=6)
    found = suggest_labels(predictor, videos, settings)
    assert len(found.segments) == 7
    assert [each.order for each in found.segments] == list(range(1, 8))
    assert all(end - start == 4 and start % 4 == 0 for _, start, end in spans(found))
    for video, segments in found.by_video().items():
        starts = [each.start for each in segments]
        assert all(after - before >= 10 for before, after in pairwise(starts)), video
    assert spans(suggest_labels(predictor, videos, settings)) == spans(found)
    assert spans(suggest_labels(predictor, videos[::-1], settings)) == spans(found)


def test_the_score_and_the_proposals_are_those_of_the_prediction(folder, predictor):
    found = suggest_labels(predictor, files_to_label([folder / "videos"]), SuggestionSettings(seconds=20, length=4))
    for each in found.segments:
        whole = predictor.predict(folder / "videos" / each.video)
        rows = (whole.seconds >= each.start) & (whole.seconds < each.end)
        assert each.score == pytest.approx(uncertainty(whole.probabilities)[rows].mean(), abs=1e-6)
        (proposals,) = each.proposals.values()
        at = {second: segment.label for segment in proposals for second in np.arange(segment.start, segment.end)}
        assert at == dict(zip(whole.seconds[rows], np.array(NAMES)[whole.labels[rows]], strict=True))
    for each in found.videos:
        whole = predictor.predict(folder / "videos" / each.video)
        assert each.uncertainty == pytest.approx(uncertainty(whole.probabilities).mean(), abs=1e-6)
        assert each.seconds == len(whole.seconds)


def test_the_first_segment_is_the_one_that_the_model_is_least_sure_of(folder, predictor):
    videos = files_to_label([folder / "videos"])
    everything = suggest_labels(predictor, videos, SuggestionSettings(seconds=10_000, length=4, gap=0))
    assert everything.seconds == sum(4 * (each.seconds // 4) for each in everything.videos)
    first = everything.segments[0]
    assert first.score == max(each.score for each in everything.segments)


def test_features_arrive_in_order_second_by_second(folder, predictor):
    """What a listener gets is what the classifier sees of each clip, whatever the size of the batches."""
    seen = {}
    for size in (1, 8):
        rows = []
        again = SurgicalVideoPredictor(folder / "model", device="cpu", batch_size=size)
        listener = lambda name, seconds, features, rows=rows: rows.extend(zip(seconds, features, strict=True))  # noqa: E731
        again.predict_all(folder / "videos/a.mp4", on_features=listener)
        seen[size] = rows
    assert [second for second, _ in seen[1]] == [float(number) for number in range(40)]
    assert [second for second, _ in seen[8]] == [second for second, _ in seen[1]]
    for (_, one), (_, other) in zip(seen[1], seen[8], strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_the_files_are_read_back_as_labels_of_exactly_these_seconds(folder, tmp_path, capsys):
    """From videos to ELAN, through a correction, into a frame set and its labels."""
    words = ["suggest-labels", str(folder / "model"), str(folder / "videos"), "--seconds", "20", "--length", "4"]
    assert main([*words, "--output", str(tmp_path / "ours"), "--device", "cpu", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert len(said["segments"]) == 5
    assert (tmp_path / "ours/classes.txt").read_text().split() == NAMES
    rows = list(csv.DictReader((tmp_path / "ours/suggestions.csv").open()))
    for file in (tmp_path / "ours/phases").glob("*.eaf"):
        written = [
            (float(row["start"]), float(row["end"]), row["label"])
            for row in rows
            if row["video"] == f"{file.stem}.mp4"
        ]
        assert [(span.start, span.stop, span.label) for span in read_phase_file(file).spans] == sorted(written)
    one = next((tmp_path / "ours/phases").glob("*.eaf"))
    (span, *_) = read_phase_file(one).spans
    one.write_text(one.read_text().replace(f"<ANNOTATION_VALUE>{span.label}<", "<ANNOTATION_VALUE>Packaging<"))
    shutil.copytree(folder / "videos", tmp_path / "ours/videos")
    assert (
        main(["prepare", "phase_folder", "--data-dir", str(tmp_path / "ours"), "--output", str(tmp_path / "set")]) == 0
    )
    frames = load_frame_set("phase_folder", tmp_path / "set", "all")
    assert frames.features["phase"].names == NAMES
    labels = {
        (row["video_id"], round(row["timestamp"])): row["phase"]
        for row in frames.remove_columns("image")
        if row["phase"] is not None and row["phase"] >= 0
    }
    videos = {row["video_id"] for row in frames.remove_columns("image")}
    expected = {
        (file.stem, second): NAMES.index(each.label)
        for file in (tmp_path / "ours/phases").glob("*.eaf")
        for each in read_phase_file(file).spans
        for second in range(int(each.start), int(each.stop))
        if file.stem in videos
    }
    assert labels == expected
    assert len(labels) == 20
    # What has a label is not suggested again.
    again = ["--labels", str(tmp_path / "ours/phases"), "--gap", "0", "--output", str(tmp_path / "next"), "--json"]
    capsys.readouterr()
    assert main([*words[:-4], "--seconds", "10000", "--length", "4", *again, "--device", "cpu"]) == 0
    second = json.loads(capsys.readouterr().out)["segments"]
    key = lambda each: (each["video"], each["start"])  # noqa: E731
    assert not {key(each) for each in said["segments"]} & {key(each) for each in second}
    assert len(said["segments"]) + len(second) == 30


def test_corrected_files_are_never_written_over(folder, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/corrected.eaf").write_text("work")
    words = ["suggest-labels", str(folder / "model"), str(folder / "videos"), "--output", str(tmp_path / "out")]
    assert main(words) == 1
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "out/corrected.eaf").read_text() == "work"


def test_blank_labels_count_as_none(folder, predictor, tmp_path):
    found = suggest_labels(predictor, files_to_label([folder / "videos"]), SuggestionSettings(seconds=20))
    save_suggestions(found, tmp_path, blank=True)
    for file in (tmp_path / "phases").glob("*.eaf"):
        assert all(span.is_unlabeled for span in read_phase_file(file).spans)
        assert [span.label for span in read_phase_file(file, SUGGESTION_TIER).spans] == [
            f"{each.order}: {each.reason}" for each in found.by_video()[f"{file.stem}.mp4"]
        ]
    again = suggest_labels(
        predictor, files_to_label([folder / "videos"], [tmp_path / "phases"]), SuggestionSettings(seconds=20)
    )
    assert spans(again) == spans(found)


def test_the_page_shows_every_segment_with_its_frame(folder, predictor, tmp_path):
    videos = files_to_label([folder / "videos"])
    found = suggest_labels(predictor, videos, SuggestionSettings(seconds=20))
    named = {video.name: video for video in videos}
    save_suggestions(found, tmp_path, frames_at=lambda name, seconds: named[name].frames_at(seconds))
    page = (tmp_path / "suggestions.html").read_text()
    assert page.count("data:image/jpeg;base64,") == len(found.segments)
    for each in found.segments:
        assert f"<strong>{each.order}. " in page
        assert each.reason in page
    assert "not a medical device" in page
    assert [row["video"] for row in csv.DictReader((tmp_path / "videos.csv").open())] == [
        each.video for each in found.videos
    ]


def test_elan_finds_the_video_from_where_its_document_lies(folder, predictor, tmp_path):
    found = suggest_labels(predictor, files_to_label([folder / "videos"]), SuggestionSettings(seconds=10))
    save_suggestions(found, tmp_path / "out")
    for file in (tmp_path / "out/phases").glob("*.eaf"):
        (path,) = re.findall('RELATIVE_MEDIA_URL="([^"]+)"', file.read_text())
        assert (file.parent / path).resolve() == (folder / "videos" / f"{file.stem}.mp4").resolve()


def test_independent_classes_have_a_tier_each_and_what_was_suggested_is_known_again(folder, tmp_path, capsys):
    model = tiny_classifier(problem_type="multi_label_classification")
    model.save_pretrained(tmp_path / "tools")
    processor().save_pretrained(tmp_path / "tools")
    words = ["suggest-labels", str(tmp_path / "tools"), str(folder / "videos"), "--device", "cpu", "--json"]
    assert main([*words, "--seconds", "20", "--output", str(tmp_path / "out")]) == 0
    said = json.loads(capsys.readouterr().out)["segments"]
    rows = list(csv.DictReader((tmp_path / "out/suggestions.csv").open()))
    assert {row["label"] for row in rows} <= {*NAMES, ""}
    assert all(row["tier"] == row["label"] for row in rows if row["label"])
    for file in (tmp_path / "out/labels").glob("*.eaf"):
        for name in {row["tier"] for row in rows if row["video"] == f"{file.stem}.mp4" and row["label"]}:
            assert {span.label for span in read_phase_file(file, name).spans} == {name}
    more = ["--seconds", "10000", "--gap", "0", "--labels", str(tmp_path / "out/labels")]
    assert main([*words, *more, "--output", str(tmp_path / "next")]) == 0
    second = json.loads(capsys.readouterr().out)["segments"]
    assert len(said) + len(second) == 24
    taken = {(each["video"], each["start"]) for each in said}
    assert not taken & {(each["video"], each["start"]) for each in second}


# ------------------------------------------------------------------------------------------- frame sets


@pytest.fixture(scope="module")
def frame_set(tmp_path_factory):
    out = tmp_path_factory.mktemp("frames") / "set"
    sizes = {"videos": "3", "seconds": "30", "height": "48", "width": "64"}
    prepare_frame_set("synthetic", None, out, settings=sizes, options=PreparationOptions(frames_per_second=2.0))
    return load_frame_set("synthetic", out, "all")


def test_a_frame_set_gives_what_its_frames_say(predictor, frame_set):
    videos = frame_set_to_label(frame_set)
    found = suggest_labels(predictor, videos, SuggestionSettings(seconds=20))
    assert len(found.segments) == 4
    rows = frame_set.filter(lambda row: row["video_id"] == found.segments[0].video)
    images = [(float(row["timestamp"]), np.asarray(row["image"])) for row in rows if row["timestamp"] % 1 == 0]
    whole = predictor.predict_frames(images, origin=0.0)["model"]
    start = int(found.segments[0].start)
    assert found.segments[0].score == pytest.approx(
        uncertainty(whole.probabilities)[start : start + 5].mean(), abs=1e-6
    )
    named = {video.name: video for video in videos}
    (frame,) = named[found.segments[0].video].frames_at([float(start)])
    assert np.array_equal(frame, images[start][1])


def test_frames_that_have_a_label_are_left_out(predictor, frame_set):
    with pytest.raises(InputError, match="no segment of 5 seconds of 3 videos is left to label"):
        suggest_labels(predictor, frame_set_to_label(frame_set, "phase"))
    values = np.array(frame_set.with_format("numpy")["phase"])
    unlabeled = np.array(frame_set.with_format("numpy")["timestamp"]) >= 20
    partly = frame_set.remove_columns("phase").add_column("phase", np.where(unlabeled, -1, values).tolist())
    found = suggest_labels(predictor, frame_set_to_label(partly, "phase"), SuggestionSettings(seconds=10_000, gap=0))
    assert len(found.segments) == 6
    assert min(each.start for each in found.segments) == 20
    assert {each.labeled_seconds for each in found.videos} == {20}
    apart = suggest_labels(predictor, frame_set_to_label(partly, "phase"), SuggestionSettings(seconds=10_000, gap=4))
    assert {each.start for each in apart.segments} == {25}  # the gap holds for what has a label too
    with pytest.raises(InputError, match="the frame set has no column 'step'"):
        frame_set_to_label(frame_set, "step")


def test_seconds_that_a_frame_set_left_out_are_not_suggested(predictor, frame_set):
    times = np.array(frame_set.with_format("numpy")["timestamp"])
    rows = np.flatnonzero((times < 10) | (times >= 20))
    partly = frame_set.select(rows)
    numbers = np.concatenate([np.arange(40)] * 3).astype(np.int32)
    partly = partly.remove_columns("frame_index").add_column("frame_index", numbers.tolist())
    found = suggest_labels(predictor, frame_set_to_label(partly), SuggestionSettings(seconds=10_000, gap=0))
    assert {each.start for each in found.segments} == {0, 5, 20, 25}


def test_a_model_that_needs_more_frames_than_there_are_is_refused(frame_set):
    fast = SurgicalVideoPredictor(Numbers(4, 0.2))
    with pytest.raises(InputError, match=r"are 0\.5 s apart; the model needs them every 0\.2 s"):
        suggest_labels(fast, frame_set_to_label(frame_set))


# ------------------------------------------------------------------------------------------- what must not be chosen


class Unsure(Numbers):
    """Say of every frame that both classes are as likely, and count what was seen; features are the numbers of frames."""

    source = fingerprint = "unsure"

    def run(self, clips):
        _, features = super().run(clips)
        return np.full((len(clips), 2), 0.5), clips[:, -1:].float().numpy() + features


@pytest.mark.slow
def test_memory_does_not_grow_with_the_video(monkeypatch):
    """Of ten hours, no more than the candidates of one video are remembered, each with one mean."""

    class Long:
        name, path = "long.mp4", None

        def labeled(self):
            return ()

        def predict(self, predictor, on_features):
            seconds = np.arange(36_000.0)
            for start in range(0, len(seconds), 8):
                on_features("model", seconds[start : start + 8], np.ones((8, 64), np.float32) * start)
            rows = np.random.default_rng(0).dirichlet(np.ones(3), len(seconds))
            return VideoPrediction("long.mp4", seconds, rows, ["a", "b", "c"])

        def frames_at(self, seconds):
            return []

    from surgvista_hf.inference import suggestions

    search = suggestions._Search(SurgicalVideoPredictor(Unsure(1, 1.0)), SuggestionSettings(seconds=50))
    monkeypatch.setattr(suggestions, "_OF_ALL", 100)
    for _ in range(3):
        search.scan(Long())
    assert len(search.candidates) <= 2 * suggestions._OF_ALL
    assert not any(array.base is not None for array in (each.features for each in search.candidates))
    assert all(each.features.shape == (64,) for each in search.candidates)


def test_seconds_outside_the_patient_are_neither_suggested_nor_shown(tmp_path):
    from surgvista_hf.datasets_scripts.synthetic.operating_room import SyntheticRecording
    from surgvista_hf.datasets_scripts.synthetic.surgery import write_video

    recording = SyntheticRecording(seed=8, duration_seconds=24, height=96, width=128, frames_per_second=5)
    write_video(recording, tmp_path / "a.mp4")
    outside = [second for second in range(24) if recording.outside(second)]
    save_classifier(tmp_path / "model")
    options = {"seconds": 10_000, "length": 2, "gap": 0}
    chosen = {}
    for name, detector in (("open", None), ("closed", OutOfBodyDetector(Redness(), margin=0.0))):
        predictor = SurgicalVideoPredictor(tmp_path / "model", device="cpu", out_of_body=detector)
        found = suggest_labels(predictor, files_to_label([tmp_path / "a.mp4"]), SuggestionSettings(**options))
        chosen[name] = {second for each in found.segments for second in range(int(each.start), int(each.end))}
    assert outside
    assert set(outside) <= chosen["open"]
    assert not set(outside) & chosen["closed"]
    assert chosen["closed"]


def test_a_video_that_cannot_be_read_is_said_and_skipped(folder, predictor, tmp_path, capsys):
    shutil.copy(folder / "videos/a.mp4", tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(b"no video " * 100)
    with pytest.raises(VideoReadError):
        suggest_labels(predictor, files_to_label([tmp_path]))
    words = ["suggest-labels", str(folder / "model"), str(tmp_path), "--device", "cpu", "--seconds", "10"]
    assert main([*words, "--output", str(tmp_path / "out"), "--skip-unreadable"]) == 0
    assert "unreadable: b.mp4" in capsys.readouterr().out
    assert "b.mp4 cannot be read" in (tmp_path / "out/suggestions.html").read_text()


def test_a_short_video_is_one_segment(predictor, tmp_path):
    write_numbered_video(tmp_path / "short.mp4", count=30)
    found = suggest_labels(predictor, files_to_label([tmp_path]), SuggestionSettings(seconds=10))
    assert spans(found) == [("short.mp4", 0.0, 3.0)]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"length": 0}, "a segment of 0 seconds"),
        ({"seconds": 3.0}, "3 seconds to label are less than one segment, which has 5"),
        ({"seconds": float("nan")}, "nan seconds"),
        ({"gap": -1.0}, "it cannot be negative"),
        ({"videos": 0}, "0 videos cannot be suggested"),
        ({"tier": SUGGESTION_TIER}, "cannot be called 'suggestion'"),
    ],
)
def test_settings_out_of_range_are_refused(options, reason):
    with pytest.raises(InputError, match=re.escape(reason)):
        SuggestionSettings(**options)


def test_videos_that_would_share_their_labels_are_refused(folder, tmp_path, capsys):
    for name in ("one/a.mp4", "two/a.mp4", "a.mov"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / "videos/a.mp4", tmp_path / name)
    with pytest.raises(InputError, match=r"would both be called a\.mp4; give the folder above them"):
        files_to_label([tmp_path / "one", tmp_path / "two"])
    with pytest.raises(InputError, match="several videos are called a apart from the suffix"):
        files_to_label([tmp_path / "one", tmp_path / "a.mov"])
    with pytest.raises(InputError, match="there is no folder"):
        files_to_label([tmp_path], [tmp_path / "nothing"])
    with pytest.raises(InputError, match="there are no videos to choose from"):
        suggest_labels(SurgicalVideoPredictor(Unsure(1, 1.0)), [])
    assert main(["suggest-labels", "model", "--output", str(tmp_path / "out")]) == 1
    assert "give either videos or --data" in capsys.readouterr().err
    words = ["suggest-labels", "model", "--data", "folder=x", "--labels", "y", "--output", str(tmp_path / "out")]
    assert main(words) == 1
    assert "--labels belongs to video files" in capsys.readouterr().err


def test_what_a_unsure_model_asks_for_differs(tmp_path):
    """With the same uncertainty everywhere, the seconds of the most different features are chosen first."""
    write_numbered_video(tmp_path / "a.mp4", count=40, rate=1)
    found = suggest_labels(
        SurgicalVideoPredictor(Unsure(1, 1.0)),
        files_to_label([tmp_path]),
        SuggestionSettings(seconds=3, length=1, gap=0),
    )
    starts = [each.start for each in found.segments]
    assert starts == [0, 39, 19] or starts == [0, 39, 20]

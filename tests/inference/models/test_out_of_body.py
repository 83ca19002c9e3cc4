"""What must not be shown is not shown: not in pictures, videos, reports, and not by its name."""

import base64
import hmac
import io
import json
import re
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import av
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from surgvista_hf import InputError, SurgicalVideoPredictor
from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.synthetic.operating_room import SyntheticRecording, draw_room
from surgvista_hf.datasets_scripts.synthetic.surgery import write_video
from surgvista_hf.inference.batch import deidentify_folder, predict_folder
from surgvista_hf.inference.deidentification import Cover, Pseudonyms, deidentify_video
from surgvista_hf.inference.models.out_of_body import OutOfBodyDetector, scan_video
from surgvista_hf.inference.prediction.redaction import TIME_TOLERANCE, OutOfBodyMask, blurred
from surgvista_hf.inference.writers.contact_sheet import draw_contact_sheet
from surgvista_hf.modeling.video_reading_surgvista import VideoReader
from surgvista_hf.util.files import OutputError

from ...videos import numbered_frame, tagged, write_numbered_video
from ..tiny_models import Redness


@pytest.fixture(scope="module")
def detector() -> OutOfBodyDetector:
    return OutOfBodyDetector(Redness(), margin=0.0)


@pytest.fixture(scope="module")
def recording() -> SyntheticRecording:
    return SyntheticRecording(seed=8, duration_seconds=24, height=96, width=128, frames_per_second=5)


@pytest.fixture(scope="module")
def video(recording, tmp_path_factory) -> Path:
    return write_video(recording, tmp_path_factory.mktemp("ward") / "Jane Doe 1964.mp4")


def detail(pixels: np.ndarray) -> float:
    """How much neighboring pixels differ."""
    return float(np.abs(np.diff(pixels.astype(float), axis=1)).mean())


# ------------------------------------------------------------------------------------- seconds


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=40),
    st.floats(0.05, 1),
    st.floats(0, 5),
    st.floats(0, 60),
)
def test_nothing_between_two_looks_is_shown_unless_both_were_inside(outside, threshold, margin, second):
    values = np.array(outside)
    mask = OutOfBodyMask(np.arange(float(len(values))), values, threshold, margin)
    before, after = int(np.floor(second)), int(np.ceil(second))
    seen = [values[place] >= threshold for place in (before, after) if place < len(values)]
    if any(seen) or before >= len(values):
        assert mask.covers(second)
    if not (values >= threshold).any() and second <= len(values) - 1:
        assert not mask.covers(second)


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.floats(0, 3))
@example([False, False, True], 0.998046875)  # a span that begins 2 ms after a frame, which counts as the same time
def test_spans_are_ordered_and_say_the_same_as_every_second(outside, margin):
    mask = OutOfBodyMask(np.arange(float(len(outside))), np.array(outside, float), margin=margin)
    assert all(a < b for a, b in mask.spans)
    assert all(first[1] < second[0] for first, second in zip(mask.spans, mask.spans[1:], strict=False))
    for second in np.arange(0, len(outside) - 0.9, 0.25):
        assert mask.covers(second) == any(a - TIME_TOLERANCE <= second < b for a, b in mask.spans)


@pytest.mark.parametrize(
    ("seconds", "shown", "hidden"),
    [
        ([0.0, 1.0, 2.0], [0.0, 0.5, 2.0], [2.1, 2.9, 60.0]),  # after the last look
        ([3.0, 4.0], [3.0, 3.7], [0.0, 2.9, 4.1]),  # before the first
        ([0.0, 1.0, 2.0, 5.0, 6.0], [2.0, 5.0, 5.5], [2.1, 3.5, 4.9]),  # further apart than the others
        ([0.0], [0.0], [0.5]),
    ],
)
def test_what_was_not_looked_at_is_hidden(seconds, shown, hidden):
    inside = OutOfBodyMask(np.array(seconds), np.zeros(len(seconds)))
    assert [inside.covers(second) for second in shown] == [False] * len(shown)
    assert [inside.covers(second) for second in hidden] == [True] * len(hidden)


def test_the_moments_between_two_looks_belong_to_the_worse_of_them_also_at_one_time_and_without_an_answer():
    mask = OutOfBodyMask(np.array([0.0, 0.1, 0.1, 0.2, 0.3]), np.array([0, 1, 0, 0, 0]), margin=0.0)
    assert [mask.covers(second) for second in (0.05, 0.1, 0.15, 0.2, 0.3)] == [True, True, True, False, False]
    assert OutOfBodyMask(np.array([0.0, 1.0]), np.array([0.0, np.nan])).covers(1.0)
    with pytest.raises(InputError, match="there are 0 frames and 0 probabilities"):
        OutOfBodyMask(np.zeros(0), np.zeros(0))


RED, GREEN = np.full((2, 2, 3), (200, 0, 0), np.uint8), np.full((2, 2, 3), (0, 200, 0), np.uint8)


@st.composite
def recordings(draw) -> tuple[list[float], list[bool]]:
    """Times of frames, with pauses and equal neighbors, and whether the camera is outside in each."""
    steps = draw(st.lists(st.sampled_from([0.0, 0.001, 0.04, 0.04, 0.04, 0.1, 0.5, 3.0]), min_size=1, max_size=60))
    times = np.cumsum([draw(st.sampled_from([0.0, 0.0, 7.0])), *steps[1:]]).tolist()
    changes = draw(st.sets(st.integers(0, len(times)), max_size=6))
    return times, [sum(change <= number for change in changes) % 2 == 1 for number in range(len(times))]


@given(recordings(), st.sampled_from([None, 0.5, 2.0, 10.0]), st.sampled_from([0.0, 0.3, 1.0]))
@example(([0.0, 0.5, 0.54, 0.54], [True, True, True, False]), 2.0, 0.0)  # the last two frames have one time
def test_whenever_the_camera_leaves_the_body_no_frame_of_it_and_of_the_margin_is_shown(recording, rate, margin):
    times, outside = recording
    frames = [(time, GREEN if out else RED) for time, out in zip(times, outside, strict=True)]
    reader = SimpleNamespace(iterate=lambda *_, **__: iter(frames), info=SimpleNamespace(num_frames=len(frames)))
    mask = scan_video(OutOfBodyDetector(Redness(), margin=margin, frames_per_second=rate), reader)
    assert {times[0], times[-1]} <= set(mask.seconds)
    for first, last in runs(outside):
        over = (
            times[last + 1] if last + 1 < len(times) else np.inf
        )  # so long the last of these frames is on the screen
        if rate is not None and over - times[first] <= mask.unseen_seconds:
            continue  # a glimpse that such a rate may miss, and it says so
        assert all(mask.covers(time) for time in times[first : last + 1])
        near = [time for time in times if times[first] - margin < time < times[last] + margin]
        assert all(mask.covers(time) for time in near)
    if rate is None:
        assert mask.unseen_seconds == 0.0
        if not any(outside):
            assert not any(mask.covers(time) for time in times)


def runs(flags: list[bool]) -> list[tuple[int, int]]:
    """First and last place of each run of true flags."""
    starts = [n for n, flag in enumerate(flags) if flag and not (n and flags[n - 1])]
    ends = [n for n, flag in enumerate(flags) if flag and not (n + 1 < len(flags) and flags[n + 1])]
    return list(zip(starts, ends, strict=True))


def test_of_a_hidden_picture_one_color_is_left():
    room = draw_room(2, 0.0, scene="people")
    seen = blurred(room)
    assert seen.shape == room.shape
    assert (seen == seen[0, 0]).all()
    assert np.abs(seen[0, 0] - room.reshape(-1, 3).mean(axis=0)).max() <= 1


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"threshold": 1.1}, {"margin": -1.0}])
def test_a_careless_setting_is_refused_before_a_video_is_read(options):
    with pytest.raises(InputError, match="must lie in"):
        OutOfBodyDetector(Redness(), **options)


def test_a_model_without_a_class_for_the_outside_is_no_detector(model_folder):
    with pytest.raises(InputError, match="means that the camera is outside: it knows Preparation, Dissection"):
        OutOfBodyDetector.load(model_folder)


# ------------------------------------------------------------------------------------- what leaves


def test_the_recording_is_hidden_where_the_camera_is_outside(detector, recording, video):
    with VideoReader(video) as reader:
        mask = detector.scan(reader.iterate(1.0))
    for second in np.arange(0, 24, 0.2):
        if recording.outside(second):
            assert mask.covers(second), second
    shown = [second for second in np.arange(0, 24, 0.2) if not mask.covers(second)]
    assert len(shown) > 60  # and not everywhere


def test_reports_sheets_and_annotated_videos_are_blurred(detector, recording, video, model_folder, tmp_path):
    prediction = SurgicalVideoPredictor(model_folder, out_of_body=detector).predict(video)
    page, annotated = prediction.save(tmp_path, ["html", "mp4"], video=video)
    assert "Outside the patient, as a classifier says, and hidden: 0:00–0:0" in page.read_text()
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(found))))
        for found in re.findall(r"base64,([^\"]+)\"", page.read_text())
    ]
    times = [(segment.start + segment.end - 1) // 2 for segment in prediction.segments]
    assert [detail(picture) < 1.5 for picture in pictures] == [
        prediction.out_of_body_mask.covers(time) for time in times
    ]
    with VideoReader(annotated) as result:
        for second, pixels in result.iterate(0.5):
            assert (detail(pixels[:80]) < 2.0) == prediction.out_of_body_mask.covers(second), second
    draw_contact_sheet(video, prediction, tmp_path / "redacted.png")
    object.__setattr__(prediction, "out_of_body_mask", None)
    draw_contact_sheet(video, prediction, tmp_path / "open.png")
    assert (tmp_path / "redacted.png").read_bytes() != (tmp_path / "open.png").read_bytes()
    (plain,) = prediction.save(tmp_path / "plain", ["html"], video=video)
    assert "Outside the patient" not in plain.read_text()


def test_json_says_what_is_hidden_and_streams_say_it_at_once(detector, recording, video, model_folder):
    predictor = SurgicalVideoPredictor(model_folder, out_of_body=detector)
    prediction = predictor.predict(video)
    assert prediction.to_dict()["redacted"] == prediction.out_of_body_mask.spans
    with VideoReader(video) as reader:
        steps = list(predictor.stream(reader.iterate(1.0)))
    looked = dict(
        zip(np.round(prediction.out_of_body_mask.seconds, 3), prediction.out_of_body_mask.outside, strict=True)
    )
    assert [step.outside for step in steps] == [looked[step.second] for step in steps]
    assert len(looked) == 5 * len(steps)  # `predict` looks at every frame
    assert "redacted" not in SurgicalVideoPredictor(model_folder).predict(video).to_dict()


def glimpses(path: Path, outside: set[int], count: int = 40, rate: int = 10, start: int = 0) -> Path:
    """A red video in which the frames of these numbers show something else, sharp."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=rate, options={"qp": "10", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 160, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate)
        for number in range(count):
            pixels = (
                numbered_frame(512 + number) if number in outside else np.full((64, 160, 3), (200, 0, 0), np.uint8)
            )
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = start + number, Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


@settings(max_examples=8, deadline=None)
@given(st.sets(st.integers(0, 39), max_size=25), st.sampled_from([7, 10, 25]), st.sampled_from([0, 13]))
def test_no_sharp_frame_of_a_glimpse_outside_is_in_the_copy_also_at_the_very_end(outside, rate, start):
    with TemporaryDirectory() as folder:
        source = glimpses(Path(folder) / "a.mkv", outside, rate=rate, start=start)
        done = deidentify_video(source, Path(folder) / "b.mp4", OutOfBodyDetector(Redness(), margin=0.0))
        with VideoReader(Path(folder) / "b.mp4") as reader:
            frames = [pixels for _, pixels in reader.iterate(None)]
    assert len(frames) == done.frames == done.frames_checked == 40
    assert done.unseen_seconds == 0.0
    assert max((detail(frames[number]) for number in outside), default=0.0) < 2.0


def test_a_glimpse_between_two_predicted_seconds_is_in_no_picture_of_a_prediction(model_folder, tmp_path):
    video = glimpses(tmp_path / "a.mp4", {23, 24, 25, 38, 39})
    detector = OutOfBodyDetector(Redness(), margin=0.0)
    prediction = SurgicalVideoPredictor(model_folder, out_of_body=detector).predict(video)
    assert prediction.out_of_body_mask.unseen_seconds == 0.0
    (annotated,) = prediction.save(tmp_path, ["mp4"], video=video)
    with VideoReader(annotated) as reader:
        assert all(detail(pixels[:64]) < 2.0 for _, pixels in reader.iterate(None))
    rare = OutOfBodyDetector(Redness(), margin=0.0, frames_per_second=1.0)
    seldom = SurgicalVideoPredictor(model_folder, out_of_body=rare).predict(video)
    assert seldom.out_of_body_mask.unseen_seconds == pytest.approx(1.0)
    assert [seldom.out_of_body_mask.covers(second) for second in (2.4, 3.9)] == [
        False,
        True,
    ]  # the last frame is looked at


def test_a_deidentified_video_keeps_its_frames_and_loses_people_sound_and_metadata(
    detector, recording, video, tmp_path
):
    source = tagged(video, tmp_path / "source.mp4")
    done = deidentify_video(source, tmp_path / "out.mp4", detector, covers=[Cover(0, 0, 40, 20)])
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        text = json.dumps({**container.metadata, **container.streams.video[0].metadata})
        assert not re.search("Jane|ward|2024", text)
    assert b"Jane" not in (tmp_path / "out.mp4").read_bytes()
    with VideoReader(source) as before, VideoReader(tmp_path / "out.mp4") as after:
        pairs = list(zip(before.iterate(None), after.iterate(None), strict=True))
    assert len(pairs) == done.frames == 120
    for (time, _), (again, pixels) in pairs:
        assert again == pytest.approx(time, abs=1e-3)
        assert pixels[2:18, 2:38].max() < 40  # the covered corner
        if recording.outside(time):
            assert detail(pixels[24:]) < 2.0, time
    assert any(detail(pixels[24:]) > 4 for _, (_, pixels) in pairs)


def test_the_original_is_never_replaced_and_covers_must_hit(detector, video, tmp_path):
    before = video.read_bytes()
    with pytest.raises(InputError, match="is the video itself"):
        deidentify_video(video, video, detector)
    assert video.read_bytes() == before
    with pytest.raises(InputError, match="outside the image of 128×96"):
        deidentify_video(video, tmp_path / "out.mp4", None, covers=[Cover(500, 0, 10, 10)])
    with pytest.raises(InputError, match="covers nothing"):
        Cover(0, 0, 0, 10)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------- names


def test_a_pseudonym_is_the_same_for_everybody_with_the_mapping_and_says_nothing(tmp_path):
    jane, john = tmp_path / "Jane Doe.mp4", tmp_path / "John Doe.mp4"
    jane.write_bytes(b"her operation")
    john.write_bytes(b"his operation")
    names = Pseudonyms(tmp_path / "names.json")
    first = names.of(jane, tmp_path)
    assert re.fullmatch(r"video-[a-z2-7]{12}", first)
    assert Pseudonyms(tmp_path / "names.json").of(jane, tmp_path) == first
    assert names.of(john, tmp_path) != first
    assert Pseudonyms(tmp_path / "other.json").of(jane, tmp_path) != first  # nobody can try videos without the key
    assert json.loads((tmp_path / "names.json").read_text())["names"][first] == "Jane Doe.mp4"
    assert stat.S_IMODE((tmp_path / "names.json").stat().st_mode) == 0o600


def test_those_that_share_a_mapping_lose_no_name(tmp_path):
    def work(own: str) -> None:
        names = Pseudonyms(tmp_path / "names.json")  # a lock of its own, as in a process of its own
        for number in range(20):
            video = tmp_path / f"{own}-{number}.mp4"
            video.write_text(video.name)
            names.of(video, tmp_path)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, "abc"))
    assert len(json.loads((tmp_path / "names.json").read_text())["names"]) == 60


def test_namesakes_in_two_folders_never_share_a_pseudonym(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "op1.mp4").write_bytes(b"one patient")
    (tmp_path / "b" / "op1.mp4").write_bytes(b"another patient")
    names = Pseudonyms(tmp_path / "names.json")
    one, two = (names.of(tmp_path / root / "op1.mp4", tmp_path / root) for root in "ab")
    assert one != two
    originals = json.loads((tmp_path / "names.json").read_text())["originals"]
    assert originals[two]["files"] == [{"folder": str(tmp_path / "b"), "name": "op1.mp4"}]
    assert originals[one]["fingerprint"].startswith("11-")


def test_an_unchanged_video_keeps_its_pseudonym_where_it_is_moved_and_a_copy_shares_it(tmp_path, caplog):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "op1.mp4").write_bytes(b"one patient")
    names = Pseudonyms(tmp_path / "names.json")
    first = names.of(tmp_path / "a" / "op1.mp4", tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "archive")
    assert names.of(tmp_path / "archive" / "op1.mp4", tmp_path / "archive") == first
    assert caplog.text == ""
    (tmp_path / "archive" / "copy.mp4").write_bytes(b"one patient")
    (tmp_path / "archive" / "op1.mp4").rename(tmp_path / "archive" / "op0.mp4")
    assert names.of(tmp_path / "archive" / "op0.mp4", tmp_path / "archive") == first
    assert len(json.loads((tmp_path / "names.json").read_text())["names"]) == 1


def test_the_same_video_twice_and_a_replaced_one_are_remarked(tmp_path, caplog):
    video, copy = tmp_path / "op1.mp4", tmp_path / "copy.mp4"
    video.write_bytes(b"one patient")
    copy.write_bytes(b"one patient")
    names = Pseudonyms(tmp_path / "names.json")
    first = names.of(video, tmp_path)
    assert names.of(copy, tmp_path) == first
    assert f"{copy} is the same video as {video}: both are {first}" in caplog.text
    video.write_bytes(b"another patient")
    second = names.of(video, tmp_path)
    assert second != first
    assert f"is {second} now; what was made of the old content stays as {first}" in caplog.text


def test_a_mapping_of_an_earlier_version_keeps_its_pseudonyms_and_gives_none_twice(tmp_path, caplog):
    key = "00" * 32
    old = "video-" + base64.b32encode(hmac.digest(bytes.fromhex(key), b"op1.mp4", "sha256")).decode().lower()[:12]
    (tmp_path / "names.json").write_text(json.dumps({"key": key, "names": {old: "op1.mp4"}}))
    for root in "ab":
        (tmp_path / root).mkdir()
        (tmp_path / root / "op1.mp4").write_text(f"patient of {root}")
    names = Pseudonyms(tmp_path / "names.json")
    assert names.of(tmp_path / "a" / "op1.mp4", tmp_path / "a") == old
    assert "from now on it stands for the content of" in caplog.text
    assert names.of(tmp_path / "b" / "op1.mp4", tmp_path / "b") != old
    assert Pseudonyms(tmp_path / "names.json").of(tmp_path / "a" / "op1.mp4", tmp_path / "a") == old


def test_two_folders_deidentified_into_one_give_a_copy_each_and_a_copy_of_one_gives_none(tmp_path):
    for root, count in (("a", 10), ("b", 20)):
        (tmp_path / root).mkdir()
        write_numbered_video(tmp_path / root / "op1.mp4", count=count)
    shutil.copyfile(tmp_path / "a" / "op1.mp4", tmp_path / "b" / "same.mp4")
    names = Pseudonyms(tmp_path / "names.json")
    one, two = (deidentify_folder(tmp_path / root, tmp_path / "out", None, names) for root in "ab")
    assert (len(one.done), len(two.done), len(two.earlier)) == (1, 1, 1)
    assert two.earlier == one.done
    assert len(list((tmp_path / "out").glob("*.mp4"))) == 2


def test_a_replaced_video_gets_a_copy_of_its_own(tmp_path):
    (tmp_path / "a").mkdir()
    write_numbered_video(tmp_path / "a" / "op1.mp4", count=10)
    names = Pseudonyms(tmp_path / "names.json")
    first = deidentify_folder(tmp_path / "a", tmp_path / "out", None, names)
    write_numbered_video(tmp_path / "a" / "op1.mp4", count=20)
    second = deidentify_folder(tmp_path / "a", tmp_path / "out", None, names)
    assert second.done != first.done
    assert json.loads((tmp_path / "out" / f"{second.done[0]}.json").read_text())["frames"] == 20
    (tmp_path / "out" / f"{second.done[0]}.mp4").unlink()  # a note without its copy counts for nothing
    assert deidentify_folder(tmp_path / "a", tmp_path / "out", None, names).done == second.done


@pytest.mark.parametrize(
    "content", ["no json", "[]", "{}", '{"key": "xyz", "names": {}}', '{"key": "00", "names": 3}']
)
def test_something_else_is_not_taken_for_a_mapping_and_not_overwritten(content, tmp_path):
    file = tmp_path / "names.json"
    file.write_text(content)
    with pytest.raises(InputError, match="no mapping of pseudonyms"):
        Pseudonyms(file)
    assert file.read_text() == content


def test_the_mapping_must_not_lie_in_what_is_shared(tmp_path):
    with pytest.raises(InputError, match="would leave together with"):
        Pseudonyms(tmp_path / "shared" / "names.json", tmp_path / "shared")
    assert not (tmp_path / "shared").exists()


def test_no_file_of_a_shared_folder_knows_a_name(detector, video, model_folder, tmp_path):
    (video.parent / "Doe broken.mp4").write_bytes(b"no video")
    names = Pseudonyms(tmp_path / "names.json", tmp_path / "shared")
    predictor = SurgicalVideoPredictor(model_folder, out_of_body=detector)
    report = predict_folder(
        predictor,
        video.parent,
        tmp_path / "shared",
        formats=["csv", "json", "svg", "vtt", "eaf", "html", "mp4"],
        pseudonyms=names,
        skip_unreadable=True,
    )
    again = deidentify_folder(video.parent, tmp_path / "shared videos", detector, names, skip_unreadable=True)
    broken = names.of(video.parent / "Doe broken.mp4", video.parent)
    (video.parent / "Doe broken.mp4").unlink()
    assert report.done == again.done == [names.of(video, video.parent)]
    assert list(report.unreadable) == list(again.unreadable) == [broken]
    files = [
        path for folder in ("shared", "shared videos") for path in (tmp_path / folder).rglob("*") if path.is_file()
    ]
    assert len(files) == 7 + 1 + 2 + 2 + 2
    for path in files:
        content = str(path.relative_to(tmp_path)).encode() + path.read_bytes()
        assert b"Doe" not in content, path
        assert str(tmp_path).encode() not in content, path


def test_a_stopped_run_goes_on_and_other_settings_are_refused(detector, video, tmp_path):
    names = Pseudonyms(tmp_path / "names.json")
    first = deidentify_folder(video, tmp_path / "out", detector, names)
    second = deidentify_folder(video, tmp_path / "out", detector, names)
    assert first.done == second.earlier == [names.of(video, video.parent)]
    with pytest.raises(OutputError, match="other settings"):
        deidentify_folder(video, tmp_path / "out", None, names)


# ------------------------------------------------------------------------------------- as a user calls it


def test_the_verbs_take_a_detector(detector_folder, model_folder, video, tmp_path, capsys):
    shared = ["--out-of-body", str(detector_folder), "--device", "cpu"]
    words = ["--mapping", str(tmp_path / "names.json"), "--output", str(tmp_path / "videos"), "--json"]
    assert main(["deidentify", str(video), *shared, "--threshold", "0.9", "--cover", "0,0,10,10", *words]) == 0
    said = capsys.readouterr()
    (name,) = json.loads(said.out)["done"]
    log = Path(said.err.splitlines()[-1].removeprefix("log: "))
    assert video.name in log.read_text()  # so it lies neither beside the results nor where others can read it
    assert {file.suffix for file in (tmp_path / "videos").iterdir()} == {".mp4", ".json"}
    assert log.stat().st_mode & 0o77 == 0
    done = json.loads((tmp_path / "videos" / f"{name}.json").read_text())
    assert (done["covers"], done["frames_checked"], done["unseen_seconds"]) == (1, 120, 0.0)
    words = ["--mapping", str(tmp_path / "names.json"), "--output", str(tmp_path / "out"), "--formats", "json"]
    assert main(["predict", str(video), "--model", str(model_folder), *shared, *words]) == 0
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["video"] == f"{name}.mp4"
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["predictions.json"]
    picture = ["--second", "0", "--output"]
    explain = ["explain", str(video), "--model", str(model_folder), *picture]
    assert main([*explain, str(tmp_path / "open.png")]) == 0
    assert main([*explain, str(tmp_path / "redacted.png"), *shared, "--threshold", "0.01"]) == 0
    assert (tmp_path / "open.png").read_bytes() != (tmp_path / "redacted.png").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --out-of-body with a detector, or --no-detector"),
        (["--out-of-body", "x", "--no-detector"], "give --out-of-body with a detector, or --no-detector"),
        (["--no-detector", "--cover", "1,2,3"], "--cover takes four whole numbers"),
        (["--no-detector", "--cover", "a,b,c,d"], "--cover takes four whole numbers"),
        (["--out-of-body", "nowhere"], "no video classifier with its processor can be loaded from nowhere"),
    ],
)
def test_wrong_words_are_answered_and_nothing_is_written(words, message, tmp_path, capsys):
    video = write_numbered_video(tmp_path / "a.mp4", count=12)
    mapping = ["--mapping", str(tmp_path / "names.json"), "--output", str(tmp_path / "out")]
    assert main(["deidentify", str(video), *words, *mapping]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "option", ["--detector-fps", "--looks-per-second"]
)  # the second is the name of earlier versions
def test_the_detector_may_be_asked_less_often(option, detector_folder, video, tmp_path):
    words = ["--mapping", str(tmp_path / "names.json"), "--output", str(tmp_path / "out"), option, "1"]
    assert main(["deidentify", str(video), "--out-of-body", str(detector_folder), "--device", "cpu", *words]) == 0
    done = [json.loads(file.read_text()) for file in (tmp_path / "out").glob("video-*.json")]
    assert [0 < each["frames_checked"] < each["frames"] for each in done] == [True]

"""What must not be shown is not shown: not in pictures, videos, reports, and not by its name."""

import base64
import io
import json
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from surgvista_hf import InputError, SurgicalVideoPredictor
from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.synthetic_room import SyntheticRecording, draw_room
from surgvista_hf.datasets_scripts.synthetic_surgery import write_video
from surgvista_hf.inference.batch import deidentify_folder, predict_folder
from surgvista_hf.inference.clip_model import ClipModel
from surgvista_hf.inference.contact_sheet import draw_contact_sheet
from surgvista_hf.inference.deidentification import Cover, Pseudonyms, deidentify_video
from surgvista_hf.inference.privacy import HiddenSeconds, OutOfBodyDetector, blurred
from surgvista_hf.modeling.families import load_classifier, processor_of
from surgvista_hf.modeling.video_reading_surgvista import VideoReader
from surgvista_hf.util.files import OutputError

from ..videos import tagged, write_numbered_video
from .test_predictor import model_folder  # noqa: F401  # a fixture

MODEL = {
    "model_type": "surgical_encoder",
    "encoder_config": {
        "model_type": "convnext",
        "image_size": 32,
        "hidden_sizes": [8, 16],
        "depths": [1, 1],
        "num_stages": 2,
    },
    "num_frames": 1,
    "frame_feature": "pooler",
}


class Redness(ClipModel):
    """A detector for tests that can be reasoned about: rooms are less red than the inside of a patient."""

    source = "redness"
    num_frames, class_names, multi_label = 1, ["inside", "outside"], False

    def __init__(self) -> None:
        pass

    def prepare(self, images: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(images.copy()).movedim(-1, 1).float()

    def run(self, clips: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        red, green, _ = clips[:, 0].mean((-1, -2)).T.numpy()
        outside = (red < 1.35 * green).astype(np.float32)
        return np.stack([1 - outside, outside], axis=1), np.zeros((len(clips), 1), np.float32)


@pytest.fixture(scope="module")
def detector() -> OutOfBodyDetector:
    return OutOfBodyDetector(Redness(), margin=0.0)


@pytest.fixture(scope="module")
def recording() -> SyntheticRecording:
    return SyntheticRecording(seed=8, duration_seconds=24, height=96, width=128, frames_per_second=5)


@pytest.fixture(scope="module")
def video(recording, tmp_path_factory) -> Path:
    return write_video(recording, tmp_path_factory.mktemp("ward") / "Jane Doe 1964.mp4")


@pytest.fixture
def detector_folder(tmp_path) -> Path:
    """A real classifier without training."""
    torch.manual_seed(0)
    model = load_classifier(MODEL, ["inside", "outside"], "single_label_classification")
    model.save_pretrained(tmp_path / "detector")
    processor_of(model, MODEL, 1).save_pretrained(tmp_path / "detector")
    return tmp_path / "detector"


def detail(pixels: np.ndarray) -> float:
    """How much neighbouring pixels differ."""
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
    hidden = HiddenSeconds(np.arange(float(len(values))), values, threshold, margin)
    before, after = int(np.floor(second)), int(np.ceil(second))
    seen = [values[place] >= threshold for place in (before, after) if place < len(values)]
    if any(seen) or before >= len(values):
        assert hidden.hides(second)
    if not (values >= threshold).any() and second < len(values):
        assert not hidden.hides(second)


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.floats(0, 3))
def test_spans_are_ordered_and_say_the_same_as_every_second(outside, margin):
    hidden = HiddenSeconds(np.arange(float(len(outside))), np.array(outside, float), margin=margin)
    assert all(a < b for a, b in hidden.spans)
    assert all(first[1] < second[0] for first, second in zip(hidden.spans, hidden.spans[1:], strict=False))
    for second in np.arange(0, len(outside), 0.25):
        assert hidden.hides(second) == any(a <= second < b for a, b in hidden.spans)


def test_a_hidden_picture_keeps_a_few_colours_only():
    room = draw_room(2, 0.0, scene="people")
    seen = blurred(room)
    assert seen.shape == room.shape
    assert detail(seen) < 0.25 * detail(room)
    twin = room.copy()
    twin[100:104, 100:104] = 255 - twin[100:104, 100:104]  # a detail of a face
    assert np.abs(blurred(twin).astype(int) - seen).max() <= 3


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"threshold": 1.1}, {"margin": -1.0}])
def test_a_careless_setting_is_refused_before_a_video_is_read(options):
    with pytest.raises(InputError, match="must lie in"):
        OutOfBodyDetector(Redness(), **options)


def test_a_model_without_a_class_for_the_outside_is_no_detector(model_folder):  # noqa: F811
    with pytest.raises(InputError, match="means that the camera is outside: it knows Preparation, Dissection"):
        OutOfBodyDetector.load(model_folder)


# ------------------------------------------------------------------------------------- what leaves


def test_the_recording_is_hidden_where_the_camera_is_outside(detector, recording, video):
    with VideoReader(video) as reader:
        hidden = detector.watch(reader.iterate(1.0))
    for second in np.arange(0, 24, 0.2):
        if recording.outside(second):
            assert hidden.hides(second), second
    shown = [second for second in np.arange(0, 24, 0.2) if not hidden.hides(second)]
    assert len(shown) > 60  # and not everywhere


def test_reports_sheets_and_annotated_videos_are_blurred(detector, recording, video, model_folder, tmp_path):  # noqa: F811
    prediction = SurgicalVideoPredictor(model_folder, out_of_body=detector).predict(video)
    page, annotated = prediction.save(tmp_path, ["html", "mp4"], video=video)
    assert "Outside the patient, as a classifier says, and blurred: 0:00–0:0" in page.read_text()
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(found))))
        for found in re.findall(r"base64,([^\"]+)\"", page.read_text())
    ]
    times = [(segment.start + segment.end) / 2 for segment in prediction.segments]
    assert [detail(picture) < 1.5 for picture in pictures] == [prediction.hidden.hides(time) for time in times]
    with VideoReader(annotated) as result:
        for second, pixels in result.iterate(0.5):
            assert (detail(pixels[:80]) < 2.0) == prediction.hidden.hides(second), second
    draw_contact_sheet(video, prediction, tmp_path / "veiled.png")
    object.__setattr__(prediction, "hidden", None)
    draw_contact_sheet(video, prediction, tmp_path / "open.png")
    assert (tmp_path / "veiled.png").read_bytes() != (tmp_path / "open.png").read_bytes()
    (plain,) = prediction.save(tmp_path / "plain", ["html"], video=video)
    assert "Outside the patient" not in plain.read_text()


def test_json_says_what_is_hidden_and_streams_say_it_at_once(detector, recording, video, model_folder):  # noqa: F811
    predictor = SurgicalVideoPredictor(model_folder, out_of_body=detector)
    prediction = predictor.predict(video)
    assert prediction.to_dict()["hidden"] == prediction.hidden.spans
    with VideoReader(video) as reader:
        steps = list(predictor.stream(reader.iterate(1.0)))
    assert [step.outside for step in steps] == prediction.hidden.outside.tolist()
    assert "hidden" not in SurgicalVideoPredictor(model_folder).predict(video).to_dict()


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
    with pytest.raises(InputError, match="outside the picture of 128×96"):
        deidentify_video(video, tmp_path / "out.mp4", None, covers=[Cover(500, 0, 10, 10)])
    with pytest.raises(InputError, match="covers nothing"):
        Cover(0, 0, 0, 10)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------- names


def test_a_pseudonym_is_the_same_for_everybody_with_the_mapping_and_says_nothing(tmp_path):
    names = Pseudonyms(tmp_path / "names.json")
    first = names["Jane Doe.mp4"]
    assert re.fullmatch(r"video-[a-z2-7]{12}", first)
    assert Pseudonyms(tmp_path / "names.json")["Jane Doe.mp4"] == first
    assert names["John Doe.mp4"] != first
    assert Pseudonyms(tmp_path / "other.json")["Jane Doe.mp4"] != first  # nobody can try names without the key
    assert json.loads((tmp_path / "names.json").read_text())["names"][first] == "Jane Doe.mp4"
    assert stat.S_IMODE((tmp_path / "names.json").stat().st_mode) == 0o600


def test_those_that_share_a_mapping_lose_no_name(tmp_path):
    def work(own: str) -> None:
        names = Pseudonyms(tmp_path / "names.json")  # a lock of its own, as in a process of its own
        for number in range(20):
            names[f"{own}-{number}"]

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, "abc"))
    assert len(json.loads((tmp_path / "names.json").read_text())["names"]) == 60


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


def test_no_file_of_a_shared_folder_knows_a_name(detector, video, model_folder, tmp_path):  # noqa: F811
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
    (video.parent / "Doe broken.mp4").unlink()
    assert report.done == again.done == [names[video.name]]
    assert list(report.unreadable) == list(again.unreadable) == [names["Doe broken.mp4"]]
    files = [
        path for folder in ("shared", "shared videos") for path in (tmp_path / folder).rglob("*") if path.is_file()
    ]
    assert len(files) == 7 + 2 + 2 + 2
    for path in files:
        content = str(path.relative_to(tmp_path)).encode() + path.read_bytes()
        assert b"Doe" not in content, path
        assert str(tmp_path).encode() not in content, path


def test_a_stopped_run_goes_on_and_other_settings_are_refused(detector, video, tmp_path):
    names = Pseudonyms(tmp_path / "names.json")
    first = deidentify_folder(video, tmp_path / "out", detector, names)
    second = deidentify_folder(video, tmp_path / "out", detector, names)
    assert (first.done, second.earlier) == ([names[video.name]], [names[video.name]])
    with pytest.raises(OutputError, match="other settings"):
        deidentify_folder(video, tmp_path / "out", None, names)


# ------------------------------------------------------------------------------------- as a user calls it


def test_the_verbs_take_a_detector(detector_folder, model_folder, video, tmp_path, capsys):  # noqa: F811
    shared = ["--out-of-body", str(detector_folder), "--device", "cpu"]
    words = ["--mapping", str(tmp_path / "names.json"), "--output", str(tmp_path / "videos"), "--json"]
    assert main(["deidentify", str(video), *shared, "--threshold", "0.9", "--cover", "0,0,10,10", *words]) == 0
    said = capsys.readouterr()
    (name,) = json.loads(said.out)["done"]
    log = Path(said.err.splitlines()[-1].removeprefix("log: "))
    assert video.name in log.read_text()  # so it lies neither beside the results nor where others can read it
    assert {file.suffix for file in (tmp_path / "videos").iterdir()} == {".mp4", ".json"}
    assert log.stat().st_mode & 0o77 == 0
    assert json.loads((tmp_path / "videos" / f"{name}.json").read_text())["covers"] == 1
    words = ["--mapping", str(tmp_path / "names.json"), "--output", str(tmp_path / "out"), "--formats", "json"]
    assert main(["predict", str(video), "--model", str(model_folder), *shared, *words]) == 0
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["video"] == f"{name}.mp4"
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["predictions.json"]
    picture = ["--second", "0", "--output"]
    explain = ["explain", str(video), "--model", str(model_folder), *picture]
    assert main([*explain, str(tmp_path / "open.png")]) == 0
    assert main([*explain, str(tmp_path / "veiled.png"), *shared, "--threshold", "0.01"]) == 0
    assert (tmp_path / "open.png").read_bytes() != (tmp_path / "veiled.png").read_bytes()


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

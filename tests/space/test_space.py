"""The web demo without a browser: files of visitors, errors in words, a folder that is a Space."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from surgvista_hf import InputError, SurgicalVideoPredictor
from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.synthetic.operating_room import SyntheticRecording
from surgvista_hf.datasets_scripts.synthetic.surgery import write_video
from surgvista_hf.inference.models.out_of_body import OutOfBodyDetector
from surgvista_hf.modeling.confidence import Confidence
from surgvista_hf.modeling.familiarity import Familiarity, VideoAppearance
from surgvista_hf.modeling.subprocess_decoding import VideoLimits
from surgvista_hf.space import SpaceSettings, build_app, find_models
from surgvista_hf.space.app import Demo, likely
from surgvista_hf.space.example import rendered_operation
from surgvista_hf.space.export import export_space, requirements
from surgvista_hf.space.sessions import VisitorFiles
from surgvista_hf.util.files import OutputError

from ..inference.tiny_models import Redness, prediction
from ..videos import damage, write_numbered_video

TEMPLATE = Path(__file__).resolve().parents[2] / "spaces" / "surgvista"


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Path:
    """Render the example."""
    return rendered_operation(tmp_path_factory.mktemp("example"))


@pytest.fixture(autouse=True)
def _every_demo_has_a_copy_of_the_example(example, monkeypatch):
    """Copy the example into the folder of a demo: it takes seconds to render, and is the same file every time."""
    monkeypatch.setattr("surgvista_hf.space.app.rendered_operation", lambda folder: Path(shutil.copy(example, folder)))


def test_a_file_stays_as_long_as_somebody_needs_it(tmp_path):
    files, shared, own = VisitorFiles(), tmp_path / "shared.mp4", tmp_path / "folder"
    shared.write_text("x")
    own.mkdir()
    (own / "report.html").write_text("x")
    files.keep("a", shared)
    files.keep("b", shared)
    files.keep("a", own)
    files.forget("a")
    assert shared.exists()
    assert not own.exists()
    files.release("b", shared)
    assert not shared.exists()
    files.forget("nobody")


def visit(demo: Demo, video: Path | None, visitor: str = "a", labels: Path | None = None):
    said = []
    progress = lambda fraction, desc="": said.append((fraction, desc))  # noqa: E731
    request, file = SimpleNamespace(session_hash=visitor), str(labels) if labels else None
    return demo.predict(str(video) if video else None, "m", request, progress, file), said


def test_a_prediction_is_shown_and_gone_when_the_visitor_is(model_folder, tmp_path):
    demo = Demo(SpaceSettings({"m": str(model_folder)}))
    video = write_numbered_video(tmp_path / "upload.mp4", count=80)
    (timeline, rows, heatmaps, files, _, classes, state, *_), said = visit(demo, video)
    assert 'role="img"' in timeline
    assert len(rows) == 8
    assert (rows[0][0], rows[0][3]) == ("0:00", "unknown")  # a model without a summary of its training videos
    assert "is unknown" in timeline
    assert 1 <= len(heatmaps) <= 6
    assert all(picture.dtype == np.uint8 for picture, _ in heatmaps)
    assert [Path(file).name for file in files] == [
        "report.html",
        "predictions.csv",
        "predictions.json",
        "chapters.vtt",
        "annotations.eaf",
    ]
    assert classes == likely(state, 0)
    assert [fraction for fraction, _ in said] == sorted(fraction for fraction, _ in said)
    page = Path(files[0]).read_text()
    assert page.count("<img") == len(state.segments)
    offline = demo.predictor("m").predict(video)
    assert np.array_equal(offline.probabilities, state.probabilities)  # small frames are not reduced
    demo.leave(SimpleNamespace(session_hash="a"))
    assert not video.exists()
    assert not Path(files[0]).parent.exists()


def test_dicom_and_damaged_recordings_are_predicted_and_it_is_said_what_is_missing(model_folder, tmp_path):
    pytest.importorskip("pydicom")
    from ..modeling.dicom_files import jpeg_dicom  # needs pydicom

    demo = Demo(SpaceSettings({"m": str(model_folder)}))
    (_, rows, *_), _ = visit(demo, jpeg_dicom(tmp_path / "IM000001"))
    assert [time for time, *_ in rows] == ["0:00", "0:01", "0:02"]
    groups = {"g": "20", "keyint_min": "20", "sc_threshold": "0"}
    (tmp_path / "a.mp4").write_bytes(damage(write_numbered_video(tmp_path / "whole.mp4", 80, options=groups), 27))
    (timeline, rows, _, files, _, _, state, *_), _ = visit(demo, tmp_path / "a.mp4")
    assert len(rows) == 7
    assert "left out" in timeline
    assert "left out" in Path(files[0]).read_text()
    assert likely(state, 3.0) is None


def test_the_example_stays_for_the_next_visitor(model_folder, tmp_path):
    demo = Demo(SpaceSettings({"m": str(model_folder)}))
    copy = tmp_path / "rendered_operation.mp4"
    copy.write_bytes(demo.example.read_bytes())
    visit(demo, copy)
    demo.leave(SimpleNamespace(session_hash="a"))
    assert copy.exists()


def test_the_example_stays_when_it_cannot_be_predicted(model_folder, tmp_path):
    demo = Demo(SpaceSettings({"m": str(model_folder)}, VideoLimits(minutes=0.1)))
    copy = tmp_path / "rendered_operation.mp4"
    copy.write_bytes(demo.example.read_bytes())
    with pytest.raises(gr.Error, match=r"at most 0\.1 are allowed"):
        visit(demo, copy)
    assert copy.exists()


def test_what_is_outside_the_patient_is_blurred_in_all_that_is_shown(model_folder, tmp_path):
    demo = Demo(SpaceSettings({"m": str(model_folder)}))
    open_one = SurgicalVideoPredictor(model_folder)
    detector = OutOfBodyDetector(Redness(), margin=0.0)
    recording = SyntheticRecording(seed=8, duration_seconds=24, height=96, width=128, frames_per_second=5)
    for predictor in (open_one, SurgicalVideoPredictor(model_folder, out_of_body=detector)):
        demo._predictors["m"] = predictor
        video = write_video(recording, tmp_path / "upload.mp4")
        (_, _, heatmaps, files, _, _, state, *_), _ = visit(demo, video)
        pages = Path(files[0]).read_text()
        shown = [caption.split()[0] for _, caption in heatmaps]
        if predictor is open_one:
            everything, before = pages, shown
    assert any(recording.outside(int(time[2:])) for time in before)
    assert shown == [time for time in before if not state.out_of_body_mask.covers(int(time[2:]))]
    assert len(shown) > 1
    assert "as a classifier says, and hidden" in pages
    assert "as a classifier says, and hidden" not in everything


def test_the_likely_classes_are_those_of_the_nearest_second():
    assert likely(None, 3) is None
    found = likely(prediction(), 4.6)
    assert next(iter(found)) == "Packaging"
    assert found["Packaging"] == pytest.approx(0.7)


def test_errors_are_said_to_the_visitor_and_the_upload_is_deleted(model_folder, tmp_path):
    demo = Demo(SpaceSettings({"m": str(model_folder)}, VideoLimits(minutes=0.1)))
    with pytest.raises(gr.Error, match="Upload a video first"):
        visit(demo, None)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(gr.Error, match="the file cannot be decoded"):
        visit(demo, tmp_path / "text.mp4")
    assert not (tmp_path / "text.mp4").exists()
    with pytest.raises(gr.Error, match=r"at most 0\.1 are allowed"):
        visit(demo, write_numbered_video(tmp_path / "long.mp4", count=200))


def test_what_cannot_be_shown_is_known_before_anybody_visits(tmp_path, monkeypatch, capsys):
    with pytest.raises(InputError, match="the demo needs a model"):
        build_app(SpaceSettings({}))
    with pytest.raises(InputError, match="there is no folder"):
        build_app(SpaceSettings({"m": str(tmp_path / "nothing")}))
    monkeypatch.chdir(tmp_path)
    assert main(["space"]) == 1
    assert "run `make demo`" in capsys.readouterr().err


@pytest.mark.slow
def test_an_exported_space_is_whole(model_folder, detector_folder, tmp_path, capsys):
    words = ["--out-of-body", str(detector_folder), "--export", str(tmp_path / "space")]
    assert main(["space", "--model", f"tiny={model_folder}", *words]) == 0
    folder = tmp_path / "space"
    assert find_models(folder / "models") == {"tiny": str(folder / "models" / "tiny")}
    front = (folder / "README.md").read_text().split("---")[1]
    assert "sdk: gradio" in front
    program = (
        "import json, sys; sys.path.insert(0, '.'); import app, surgvista_hf; "
        "from surgvista_hf.space import build_app, SpaceSettings; build_app(app.settings); "
        "print(json.dumps([surgvista_hf.__file__, app.models, app.settings.out_of_body]))"
    )
    environment = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=folder, capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    file, models, detector = json.loads(done.stdout.splitlines()[-1])
    assert Path(file).is_relative_to(folder)
    assert list(models) == ["tiny"]
    assert detector == str(folder / "out_of_body")
    with pytest.raises(OutputError, match="exists already"):
        export_space({"tiny": str(model_folder)}, folder)
    with pytest.raises(InputError, match="is no folder of a model"):
        export_space({"hub": "user/model"}, tmp_path / "other")


@pytest.mark.parametrize(
    ("rendered", "warned"), [({"rendered": True}, True), ({"rendered": False}, False), ({}, False)], ids=str
)
def test_a_model_that_saw_only_rendered_images_says_so_whatever_its_data_set_is_called(model_folder, rendered, warned):
    Confidence(trained_on={"title": "Rendered?", "procedure": "rendering", **rendered}).save(model_folder)
    about = Demo(SpaceSettings({"m": str(model_folder)})).about("m")
    assert ("These are rendered images: its predictions for real surgery mean nothing." in about) == warned


def test_every_component_of_the_page_has_a_value(model_folder, tmp_path):
    app = build_app(SpaceSettings({"m": str(model_folder)}))
    (predict,) = [call for call in app.fns.values() if call.api_name == "predict"]
    kinds = {component.elem_id: type(component) for component in predict.outputs}
    assert kinds == {
        "timeline": gr.HTML,
        "table": gr.Dataframe,
        "gallery": gr.Gallery,
        "files": gr.File,
        "second": gr.Slider,
        "classes": gr.Label,
        None: gr.State,
        "segments": gr.Dataframe,
        "corrected": gr.File,
        "corrections": gr.HTML,
    }
    assert [component.elem_id for component in predict.outputs[:2]] == ["timeline", "table"]


def test_the_space_in_the_repository_asks_for_what_the_package_needs():
    assert (TEMPLATE / "requirements.txt").read_text() == requirements()


def test_a_video_unlike_the_training_is_called_so_before_anything_else(model_folder, tmp_path):
    random = np.random.default_rng(0)
    seen = [VideoAppearance(np.arange(20.0), random.normal(size=(20, 36))) for _ in range(4)]
    trained_on = {"title": "Synthetic surgery", "procedure": "rendered cholecystectomy"}
    Confidence(trained_on=trained_on, familiarity=Familiarity.fit(seen)).save(model_folder)
    demo = Demo(SpaceSettings({"m": str(model_folder)}))
    assert "It learned from Synthetic surgery (rendered cholecystectomy)" in demo.about("m")
    (timeline, rows, *_), _ = visit(demo, write_numbered_video(tmp_path / "upload.mp4", count=80))
    assert timeline.index('role="alert"') < timeline.index("<svg")
    assert {row[3] for row in rows} == {"no"}

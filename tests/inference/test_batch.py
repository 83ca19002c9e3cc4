"""Folders of videos: every video once, resumed, shared by processes, broken ones noted."""

import json
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from surgvista_hf import InputError, SurgicalVideoPredictor, VideoReadError
from surgvista_hf.cli.batch_outcome import print_outcome
from surgvista_hf.cli.main import main
from surgvista_hf.inference.batch import BatchReport, predict_folder
from surgvista_hf.util.files import OutputError

from ..videos import write_numbered_video
from .test_predictor import model_folder  # noqa: F401  # a fixture

LAUNCH = "-m torch.distributed.run --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint localhost:0"
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def videos(tmp_path) -> Path:
    folder = tmp_path / "videos"
    (folder / "ward 2").mkdir(parents=True)
    for number, name in enumerate(("a.mp4", "b.mkv", "ward 2/a.mp4")):
        write_numbered_video(folder / name, count=30 + 10 * number)
    (folder / "notes.txt").write_text("no video")
    (folder / ".hidden.mp4").write_text("no video")
    return folder


def test_every_video_is_predicted_as_if_alone(videos, model_folder, tmp_path):  # noqa: F811
    predictor = SurgicalVideoPredictor(model_folder)
    report = predict_folder(predictor, videos, tmp_path / "out", formats=["csv", "json"])
    assert report.done == ["a.mp4", "b.mkv", "ward 2/a.mp4"]
    for name in report.done:
        alone = predictor.predict(videos / name)
        assert json.loads((tmp_path / "out" / name / "predictions.json").read_text()) == json.loads(
            json.dumps(alone.to_dict())
        )
        assert len(list((tmp_path / "out" / name).iterdir())) == 2


def test_what_is_there_is_not_predicted_again_and_what_was_stopped_is(videos, model_folder, tmp_path, monkeypatch):  # noqa: F811
    predictor = SurgicalVideoPredictor(model_folder)
    original = SurgicalVideoPredictor.predict_all

    def stops(self, video, **options):
        if video.name == "b.mkv":
            raise KeyboardInterrupt
        return original(self, video, **options)

    monkeypatch.setattr(SurgicalVideoPredictor, "predict_all", stops)
    with pytest.raises(KeyboardInterrupt):
        predict_folder(predictor, videos, tmp_path / "out")
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.mp4", "settings.json"]
    report = predict_folder(predictor, videos, tmp_path / "out")
    assert (report.earlier, report.done) == (["a.mp4"], ["b.mkv", "ward 2/a.mp4"])
    with pytest.raises(OutputError, match="other settings"):
        predict_folder(predictor, videos, tmp_path / "out", formats=["csv"])


def test_a_broken_video_stops_the_run_or_is_noted(videos, model_folder, tmp_path):  # noqa: F811
    (videos / "b.mkv").write_text("no video")
    predictor = SurgicalVideoPredictor(model_folder)
    with pytest.raises(VideoReadError, match=r"b\.mkv cannot be decoded"):
        predict_folder(predictor, videos, tmp_path / "out", formats=["csv"])
    report = predict_folder(predictor, videos, tmp_path / "out", formats=["csv"], skip_unreadable=True)
    assert list(report.unreadable) == ["b.mkv"]
    assert report.done == ["ward 2/a.mp4"]
    noted = json.loads((tmp_path / "out" / "unreadable_0.json").read_text())
    assert "cannot be decoded" in noted["b.mkv"]
    assert not (tmp_path / "out" / "b.mkv").exists()


def test_processes_share_the_videos(videos, model_folder, tmp_path):  # noqa: F811
    program = (
        "import sys\nfrom surgvista_hf import SurgicalVideoPredictor\n"
        "from surgvista_hf.inference.batch import predict_folder\n"
        "from accelerate import PartialState; PartialState(cpu=True)\n"
        "report = predict_folder(SurgicalVideoPredictor(sys.argv[1]), sys.argv[2], sys.argv[3], formats=['csv'])\n"
        "open(sys.argv[3] + f'/{PartialState().process_index}.txt', 'w').write(','.join(report.done))\n"
    )
    (tmp_path / "program.py").write_text(program)
    words = [model_folder, videos, tmp_path / "out"]
    words = [sys.executable, *LAUNCH.split(), tmp_path / "program.py", *words]
    subprocess.run(
        [str(word) for word in words],
        check=True,
        capture_output=True,
        cwd=REPOSITORY,
        timeout=300,
    )
    shares = [(tmp_path / "out" / f"{rank}.txt").read_text().split(",") for rank in (0, 1)]
    assert sorted(name for share in shares for name in share) == ["a.mp4", "b.mkv", "ward 2/a.mp4"]
    assert all(shares)


def test_of_several_processes_one_prints_what_all_did(monkeypatch, capsys):
    own, other = BatchReport(["a.mp4"], [], {"c.mp4": "broken"}), BatchReport(["b.mkv"], ["d.mp4"], {})
    monkeypatch.setattr("accelerate.utils.gather_object", lambda reports: [*reports, other])
    print_outcome(own, Namespace(json=True), "predicted")
    expected = {"done": ["a.mp4", "b.mkv"], "earlier": ["d.mp4"], "unreadable": {"c.mp4": "broken"}}
    assert json.loads(capsys.readouterr().out) == expected


def test_the_command_takes_folders_names_and_formats(videos, model_folder, tmp_path, capsys):  # noqa: F811
    shutil.copytree(model_folder, tmp_path / "other")
    models = ["--model", f"phase={model_folder}", "--model", f"again={tmp_path / 'other'}"]
    assert main(["predict", str(videos), *models, "--output", str(tmp_path / "out"), "--formats", "csv,html"]) == 0
    assert "predicted 3 videos, 0 were done before" in capsys.readouterr().out
    found = {
        path.relative_to(tmp_path / "out" / "a.mp4").as_posix() for path in (tmp_path / "out" / "a.mp4").rglob("*.*")
    }
    assert found == {"phase/predictions.csv", "again/predictions.csv", "report.html"}
    assert main(["predict", str(videos / "a.mp4"), *models, "--output", str(tmp_path / "one"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["segments"]["phase"] == said["segments"]["again"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--model", "a", "--model", "b"], "several models need different names"),
        (["--model", "a", "--formats", "csv,doc"], "there is no format 'doc'"),
        (["--model", "a", "--dtype", "int7"], "no video classifier"),
    ],
)
def test_what_makes_no_sense_is_refused(words, reason, videos, tmp_path, capsys):
    assert main(["predict", str(videos), *words, "--output", str(tmp_path / "out")]) == 1
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_without_videos_is_refused(model_folder, tmp_path):  # noqa: F811
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no videos"):
        predict_folder(SurgicalVideoPredictor(model_folder), tmp_path / "empty", tmp_path / "out")

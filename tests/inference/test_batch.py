"""Folders of videos: every video once, resumed, shared by processes, broken ones noted."""

import json
import re
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from surgvista_hf import InputError, SurgicalVideoPredictor, VideoReadError
from surgvista_hf.cli.common import print_outcome
from surgvista_hf.cli.main import main
from surgvista_hf.inference.batch import BatchReport, predict_folder
from surgvista_hf.inference.models.clip_model import ClipModel
from surgvista_hf.modeling.configuration_ms_tcn import MsTcnConfig
from surgvista_hf.modeling.modeling_ms_tcn import MsTcnForFrameClassification
from surgvista_hf.util.files import OutputError

from ..videos import write_numbered_video
from .tiny_models import processor, tiny_classifier

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


def test_every_video_is_predicted_as_if_alone(videos, model_folder, tmp_path):
    predictor = SurgicalVideoPredictor(model_folder)
    report = predict_folder(predictor, videos, tmp_path / "out", formats=["csv", "json"])
    assert report.done == ["a.mp4", "b.mkv", "ward 2/a.mp4"]
    for name in report.done:
        alone = predictor.predict(videos / name)
        assert json.loads((tmp_path / "out" / name / "predictions.json").read_text()) == json.loads(
            json.dumps(alone.to_dict())
        )
        assert len(list((tmp_path / "out" / name).iterdir())) == 3  # with the note of what was predicted


def test_what_is_there_is_not_predicted_again_and_what_was_stopped_is(videos, model_folder, tmp_path, monkeypatch):
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
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".origins.json", "a.mp4", "settings.json"]
    report = predict_folder(predictor, videos, tmp_path / "out")
    assert (report.earlier, report.done) == (["a.mp4"], ["b.mkv", "ward 2/a.mp4"])
    with pytest.raises(OutputError, match="other settings"):
        predict_folder(predictor, videos, tmp_path / "out", formats=["csv"])


def test_a_broken_video_stops_the_run_or_is_noted(videos, model_folder, tmp_path):
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


@pytest.mark.slow
def test_processes_share_the_videos(videos, model_folder, tmp_path):
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
    fractions = [(tmp_path / "out" / f"{rank}.txt").read_text().split(",") for rank in (0, 1)]
    assert sorted(name for fraction in fractions for name in fraction) == ["a.mp4", "b.mkv", "ward 2/a.mp4"]
    assert all(fractions)


def test_of_several_processes_one_prints_what_all_did(monkeypatch, capsys):
    own, other = BatchReport(["a.mp4"], [], {"c.mp4": "broken"}), BatchReport(["b.mkv"], ["d.mp4"], {})
    monkeypatch.setattr("accelerate.utils.gather_object", lambda reports: [*reports, other])
    print_outcome(own, Namespace(json=True), "predicted")
    expected = {"done": ["a.mp4", "b.mkv"], "earlier": ["d.mp4"], "unreadable": {"c.mp4": "broken"}}
    assert json.loads(capsys.readouterr().out) == expected


def test_the_command_takes_folders_names_and_formats(videos, model_folder, tmp_path, capsys):
    shutil.copytree(model_folder, tmp_path / "other")
    models = ["--model", f"phase={model_folder}", "--model", f"again={tmp_path / 'other'}"]
    assert main(["predict", str(videos), *models, "--output", str(tmp_path / "out"), "--formats", "csv,html"]) == 0
    assert "predicted 3 videos, 0 were done before" in capsys.readouterr().out
    found = {
        path.relative_to(tmp_path / "out" / "a.mp4").as_posix() for path in (tmp_path / "out" / "a.mp4").rglob("*.*")
    }
    assert found == {"phase/predictions.csv", "again/predictions.csv", "report.html", "source.json"}
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


def test_a_folder_without_videos_is_refused(model_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no videos"):
        predict_folder(SurgicalVideoPredictor(model_folder), tmp_path / "empty", tmp_path / "out")


# ------------------------------------------------------------------------------------------- same name, other content


@pytest.fixture
def hospitals(tmp_path) -> tuple[Path, Path]:
    """Two folders with a video of the same name: 3 s and 5 s."""
    for name, count in (("a", 30), ("b", 50)):
        (tmp_path / name).mkdir()
        write_numbered_video(tmp_path / name / "op1.mp4", count=count, rate=10)
    return tmp_path / "a", tmp_path / "b"


def seconds(result: Path) -> int:
    return len((result / "predictions.csv").read_text().splitlines()) - 1


def test_a_replaced_video_is_predicted_anew_and_the_others_are_kept(hospitals, model_folder, tmp_path, caplog):
    a, b = hospitals
    write_numbered_video(a / "op2.mp4", count=20, rate=10)
    predictor = SurgicalVideoPredictor(model_folder)
    predict_folder(predictor, a, tmp_path / "out", formats=["csv"])
    shutil.copyfile(b / "op1.mp4", a / "op1.mp4")
    report = predict_folder(predictor, a, tmp_path / "out", formats=["csv"])
    assert (report.done, report.earlier) == (["op1.mp4"], ["op2.mp4"])
    assert seconds(tmp_path / "out" / "op1.mp4") == 5
    assert "op1.mp4 has another content than before: it is done anew" in caplog.text
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".op1")]


def test_a_replaced_video_keeps_its_old_result_until_the_new_one_is_whole(hospitals, model_folder, tmp_path):
    a, b = hospitals
    predictor = SurgicalVideoPredictor(model_folder)
    predict_folder(predictor, a, tmp_path / "out", formats=["csv"])
    shutil.copyfile(b / "op1.mp4", a / "op1.mp4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("surgvista_hf.inference.batch.save_predictions", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            predict_folder(predictor, a, tmp_path / "out", formats=["csv"])
    assert seconds(tmp_path / "out" / "op1.mp4") == 3
    assert predict_folder(predictor, a, tmp_path / "out", formats=["csv"]).done == ["op1.mp4"]


def test_a_namesake_in_another_folder_is_refused_with_both_named(hospitals, model_folder, tmp_path, capsys):
    a, b = hospitals
    words = ["--model", str(model_folder), "--output", str(tmp_path / "out"), "--formats", "csv"]
    assert main(["predict", str(a), *words]) == 0
    assert main(["predict", str(b), *words]) == 1
    said = capsys.readouterr().err
    assert "holds op1.mp4 of another folder, a (content" in said
    assert f"op1.mp4 of {b} has another content" in said
    assert seconds(tmp_path / "out" / "op1.mp4") == 3
    shutil.copyfile(a / "op1.mp4", b / "op1.mp4")  # the same video is no namesake
    assert main(["predict", str(b), *words]) == 0
    assert "predicted 0 videos, 1 were done before" in capsys.readouterr().out


def test_a_folder_may_be_moved_and_called_otherwise(hospitals, model_folder, tmp_path):
    a, _ = hospitals
    predict_folder(SurgicalVideoPredictor(model_folder), a, tmp_path / "out", formats=["csv"])
    moved = Path(shutil.move(a, tmp_path / "archive"))
    model = Path(shutil.move(model_folder, tmp_path / "renamed"))
    report = predict_folder(SurgicalVideoPredictor(model), moved, tmp_path / "out", formats=["csv"])
    assert (report.done, report.earlier) == ([], ["op1.mp4"])


def test_results_of_a_model_that_was_trained_anew_in_its_place_are_refused(
    hospitals,
    model_folder,
    tmp_path,
    capsys,
):
    words = [str(hospitals[0]), "--model", str(model_folder), "--output", str(tmp_path / "out"), "--formats", "csv"]
    assert main(["predict", *words]) == 0
    before = (tmp_path / "out" / "op1.mp4" / "predictions.csv").read_bytes()
    shutil.rmtree(model_folder)
    other = tiny_classifier()
    with torch.no_grad():
        other.classifier.bias[0] += 1e-3
    other.save_pretrained(model_folder)
    processor().save_pretrained(model_folder)
    assert main(["predict", *words]) == 1
    assert re.search(r"models\.model was model \(\w+\), is now model \(\w+\)", capsys.readouterr().err)
    assert (tmp_path / "out" / "op1.mp4" / "predictions.csv").read_bytes() == before


def test_results_of_an_earlier_version_are_refused_in_one_line(hospitals, model_folder, tmp_path, capsys):
    (tmp_path / "out" / "op1.mp4").mkdir(parents=True)
    (tmp_path / "out" / "op1.mp4" / "predictions.csv").write_text("second\n")
    (tmp_path / "out" / "settings.json").write_text('{"models": {"model": "m"}}')
    words = ["predict", str(hospitals[0]), "--model", str(model_folder), "--output", str(tmp_path / "out")]
    assert main([*words, "--formats", "csv"]) == 1
    assert "begun by a version that did not note the contents" in capsys.readouterr().err
    (tmp_path / "out" / "settings.json").unlink()
    assert main([*words, "--formats", "csv"]) == 1
    assert "does not note the content that it was made of" in capsys.readouterr().err


def test_what_lies_in_the_place_of_a_result_is_never_removed(hospitals, model_folder):
    a, _ = hospitals
    before = (a / "op1.mp4").read_bytes()
    with pytest.raises(OutputError, match=r"op1\.mp4 is there"):
        predict_folder(SurgicalVideoPredictor(model_folder), a, a, formats=["csv"])
    assert (a / "op1.mp4").read_bytes() == before


@pytest.mark.slow
def test_two_runs_over_one_folder_end_without_a_traceback_and_with_whole_results(
    hospitals,
    model_folder,
    tmp_path,
    processes,
):
    a, _ = hospitals
    for number in range(2, 5):
        write_numbered_video(a / f"op{number}.mp4", count=30, rate=10)
    command = ["surgvista_hf.cli.main", "predict", a, "--model", model_folder]
    command += ["--output", tmp_path / "out", "--formats", "csv", "--device", "cpu"]
    runs = [processes.start(*command) for _ in range(2)]
    said = [run.wait().stderr for run in runs]
    assert {run.returncode for run in runs} <= {0, 1}
    assert 0 in {run.returncode for run in runs}
    assert not any("Traceback" in text for text in said)
    assert all("another run is at work" in text for run, text in zip(runs, said, strict=True) if run.returncode)
    assert [seconds(path) for path in sorted((tmp_path / "out").glob("op*"))] == [3, 3, 3, 3]


# ------------------------------------------------------------------------------------------- temporal models


def test_a_temporal_model_of_another_models_features_is_refused(model_folder, tmp_path, caplog):
    model = ClipModel.load(model_folder)
    sizes = {"input_size": 64, "num_labels": 4, "num_layers": 2, "num_feature_maps": 8, "frames_per_second": 1.0}
    for name, features_from in (("own", model.fingerprints[1:]), ("other", ["0123"]), ("old", None)):
        MsTcnForFrameClassification(MsTcnConfig(features_from=features_from, **sizes)).save_pretrained(tmp_path / name)
    SurgicalVideoPredictor(model_folder, temporal=tmp_path / "own")
    assert caplog.text == ""
    with pytest.raises(InputError, match=r"fingerprint 0123.*Train the temporal model again"):
        SurgicalVideoPredictor(model_folder, temporal=tmp_path / "other")
    SurgicalVideoPredictor(model_folder, temporal=tmp_path / "old")
    assert "does not say whose features it was trained on" in caplog.text


def test_another_precision_or_other_seconds_between_predictions_are_noticed(videos, model_folder, tmp_path):
    predict_folder(SurgicalVideoPredictor(model_folder, dtype="float32"), videos, tmp_path / "out", formats=["csv"])
    noted = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert not {"dtype", "every"} & set(noted)  # as earlier versions noted nothing of them
    for changed, named in (
        ({"dtype": "bfloat16"}, "dtype.model was not given, is now bfloat16"),
        ({"every": 3}, "every"),
    ):
        with pytest.raises(OutputError, match=named):
            predict_folder(SurgicalVideoPredictor(model_folder, **changed), videos, tmp_path / "out", formats=["csv"])
    seldom = SurgicalVideoPredictor(model_folder, dtype="bfloat16", every=3)
    predict_folder(seldom, videos, tmp_path / "seldom", formats=["csv"])
    assert len(predict_folder(seldom, videos, tmp_path / "seldom", formats=["csv"]).earlier) == 3
    with pytest.raises(OutputError, match="every was 3, is now not given"):
        predict_folder(
            SurgicalVideoPredictor(model_folder, dtype="bfloat16"), videos, tmp_path / "seldom", formats=["csv"]
        )

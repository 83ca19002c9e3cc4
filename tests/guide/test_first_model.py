"""From recordings and labels to a first model: every step can be repeated, and the test is on operations it has not seen."""

import json
import shlex

import numpy as np
import pytest
import torch

from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.frame_sets.load import load_frame_set
from surgvista_hf.datasets_scripts.synthetic.surgery import PHASES, write_video
from surgvista_hf.evaluation.tasks import ClipPredictions
from surgvista_hf.guide import training
from surgvista_hf.guide.first_model import StartOptions, prepare_and_inspect
from surgvista_hf.guide.recordings import prepare_own
from surgvista_hf.inference import SurgicalVideoPredictor
from surgvista_hf.trainers.features.extraction import VideoFeatureExtractor, load_video_features

from ..trainers import tiny
from .recordings import SECONDS, operations, save_encoder, write_labels, write_recordings

COUNT = 6


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """Return the folder in which a first model was trained, with what the command has printed."""
    folder = tmp_path_factory.mktemp("first")
    write_recordings(folder, COUNT)
    save_encoder(folder / "encoder")
    return folder


def start(folder, output, *more):
    words = ["start", str(folder / "recordings"), str(folder / "labels"), "--output", str(output)]
    return main([*words, "--model", str(folder / "encoder"), "--yes", *more])


def accuracy_on_unseen(predictor, folder):
    unseen = operations(COUNT + 1)[-1]
    video = write_video(unseen, folder / "unseen.mp4")
    prediction = predictor.predict(video)
    truth = np.array([unseen.labels(second).phase for second in prediction.seconds])
    assert prediction.class_names == list(PHASES)
    return float((prediction.labels == truth).mean()), float(np.bincount(truth).max() / len(truth))


@pytest.mark.slow
def test_a_first_model_is_trained_tested_reported_and_can_be_used(started, tmp_path, capsys):
    assert start(started, tmp_path / "out", "--head", "probe", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    usual, found = printed["most_frequent"], printed["by_video"]
    assert set(found) == {f"own/day{number}" for number in range(COUNT)}
    assert np.mean(list(found.values())) > np.mean(list(usual.values())) + 0.15
    page = (tmp_path / "out" / "report.html").read_text()
    for text in (
        "Prediction over truth",
        "Where it is most wrong",
        "every one of the 6 operations is held out once",
        *PHASES,
    ):
        assert text in page
    assert page.count("<svg") == COUNT
    assert "data:image/jpeg" in page
    assert "day0" in (tmp_path / "out" / "inspection.html").read_text()
    assert (tmp_path / "out" / "tested" / "tables.md").is_file()
    right, most = accuracy_on_unseen(SurgicalVideoPredictor(printed["model"]), tmp_path)
    assert right > most + 0.1

    # Typed again, the same command trains nothing; after a label has changed it trains anew.
    predictions = tmp_path / "out" / "trained" / "predictions.parquet"
    before = predictions.stat().st_mtime_ns
    assert start(started, tmp_path / "out", "--head", "probe", "--json") == 0
    assert predictions.stat().st_mtime_ns == before
    file = started / "labels" / "day0.csv"
    text = file.read_text()
    try:
        write_labels(file, operations(COUNT)[1])
        assert start(started, tmp_path / "out", "--head", "probe", "--json") == 0
    finally:
        file.write_text(text)
    assert predictions.stat().st_mtime_ns != before
    changed = ClipPredictions.load(predictions)
    assert changed.by_video(changed.labels)["own/day0"].tolist() == [
        operations(COUNT)[1].labels(second).phase for second in range(SECONDS)
    ]

    # The commands that were written down run as they are.
    for line in (tmp_path / "out" / "commands.sh").read_text().splitlines():
        words = shlex.split(line, comments=True)
        if words and words[1] in ("prepare", "inspect"):
            assert main(words[1:]) == 0


@pytest.mark.slow
def test_a_temporal_head_learns_and_belongs_to_the_model_beside_it(started, tmp_path, capsys, monkeypatch):
    for name, value in {"_TEMPORAL_STEPS": 90, "_LEAST_EPOCHS": 15, "_RATE": 5e-3}.items():
        monkeypatch.setattr(training, name, value)
    assert start(started, tmp_path / "out", "--head", "tcn", "--json", "--no-images") == 0
    printed = json.loads(capsys.readouterr().out)
    assert np.mean(list(printed["by_video"].values())) > np.mean(list(printed["most_frequent"].values())) + 0.1
    predictor = SurgicalVideoPredictor(printed["model"], temporal=printed["temporal"])
    right, most = accuracy_on_unseen(predictor, tmp_path)
    assert right > most
    assert "data:image" not in (tmp_path / "out" / "report.html").read_text()
    assert "--temporal" in (tmp_path / "out" / "commands.sh").read_text()


@pytest.mark.slow
def test_an_adapter_is_trained_by_a_recipe_that_can_be_repeated(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training, "_ADAPTER_EPOCHS", 1)
    write_recordings(tmp_path, 10)
    save_encoder(tmp_path / "encoder")
    assert start(tmp_path, tmp_path / "out", "--head", "lora", "--device", "cpu", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert len(printed["by_video"]) == 2
    assert (tmp_path / "out" / "report.html").read_text().count("<svg") == 2
    commands = [shlex.split(line) for line in (tmp_path / "out" / "commands.sh").read_text().splitlines()]
    (again,) = [words for words in commands if words[1:2] == ["finetune"]]
    assert main([*again[1:], "--check"]) == 0


@pytest.mark.slow
def test_several_classes_a_frame_are_learned_from_a_frame_set(started, tmp_path, capsys):
    settings = [
        f"--set={name}={value}" for name, value in {"videos": 4, "seconds": 30, "height": 64, "width": 96}.items()
    ]
    assert main(["prepare", "synthetic", "--output", str(tmp_path / "set"), *settings]) == 0
    words = ["--data", f"synthetic={tmp_path / 'set'}", "--label", "instruments", "--model", str(started / "encoder")]
    capsys.readouterr()
    assert main(["start", *words, "--output", str(tmp_path / "out"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["most_frequent"] == {}
    assert printed["metrics"]["mean_average_precision"] > 0.3
    assert "each class predicted above labeled" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_the_saved_model_of_a_video_encoder_sees_the_clips_that_it_was_trained_on(tmp_path, capsys):
    write_recordings(tmp_path, 3)
    tiny.model().save_pretrained(tmp_path / "encoder")
    words = ["--output", str(tmp_path / "out"), "--model", str(tmp_path / "encoder"), "--frame-stride", "2", "--json"]
    assert main(["start", str(tmp_path / "recordings"), str(tmp_path / "labels"), *words]) == 0
    predictor = SurgicalVideoPredictor(json.loads(capsys.readouterr().out)["model"])
    assert (predictor.num_frames, predictor.models["model"].frame_stride) == (4, 2)
    (features,) = (tmp_path / "out" / "features").iterdir()
    eps = predictor.models["model"].model.fc_norm.eps
    frames = load_frame_set("own", tmp_path / "out" / "frame_set", "all")
    VideoFeatureExtractor(predictor.models["model"].source).extract(frames, tmp_path / "again", progress=False)
    for before, after in zip(load_video_features(features), load_video_features(tmp_path / "again"), strict=True):
        normalized = torch.nn.functional.layer_norm(
            torch.from_numpy(before.values.copy()), before.values.shape[1:], eps=eps
        )
        np.testing.assert_allclose(after.values, normalized, atol=1e-5)


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_with_the_operations_that_are_left(started, tmp_path, capsys, monkeypatch):
    predict = training._predict_fold
    calls = []

    def stops(*args, **options):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return predict(*args, **options)

    monkeypatch.setattr(training, "_predict_fold", stops)
    assert start(started, tmp_path / "out", "--head", "probe", "--json") == 130
    assert start(started, tmp_path / "out", "--head", "probe", "--json") == 0
    assert len(calls) == 6  # of five trainings two were done and one was stopped
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["by_video"]) == COUNT


def test_one_operation_is_looked_at_and_then_refused_with_the_reason(tmp_path, capsys):
    write_recordings(tmp_path, 1)
    save_encoder(tmp_path / "encoder")
    assert start(tmp_path, tmp_path / "out") == 1
    assert "one labeled operation is not enough" in capsys.readouterr().err
    assert "day0" in (tmp_path / "out" / "inspection.html").read_text()


def test_checking_trains_nothing_and_says_what_would_be_done(tmp_path, capsys):
    write_recordings(tmp_path, 2)
    save_encoder(tmp_path / "encoder")
    assert start(tmp_path, tmp_path / "out", "--check") == 0
    printed = capsys.readouterr().out
    assert "2 labeled operations are few" in printed
    assert "linear probe" in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")) == [
        "frame_set",
        "inspection.html",
    ]


def test_checking_says_the_plan_that_is_carried_out_when_patients_are_known(tmp_path, capsys):
    _, labels = write_recordings(tmp_path, 4)
    for number, file in enumerate(sorted(labels.glob("*.csv"))):
        header, *rows = file.read_text().splitlines()
        file.write_text("\n".join([f"{header},patient", *(f"{row},p{number // 2}" for row in rows)]))
    assert start_words(tmp_path, "--check") == 0
    assert "is held out once, in 2 trainings: a frame is never tested by a model that has seen its patient" in (
        " ".join(capsys.readouterr().out.split())
    )


def start_words(folder, *more):
    words = [str(folder / "recordings"), str(folder / "labels"), "--output", str(folder / "out")]
    return main(["start", *words, *more])


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--data", "own=nowhere"), "would not be used: give one or the other"),
        (("--model", "nomodel", "--check"), "there is no folder nomodel"),
        (("--model", "{folder}/recordings", "--check"), "holds no config.json"),
        (("--mapping", "{folder}/nothing.yaml", "--check"), "nothing.yaml with the meaning of the labels"),
    ],
)
def test_words_that_would_be_ignored_or_name_nothing_are_refused_at_once(tmp_path, capsys, more, complaint):
    write_recordings(tmp_path, 2)
    assert start_words(tmp_path, *(word.format(folder=tmp_path) for word in more)) == 1
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out" / "frame_set").exists()


def test_a_mapping_says_what_the_labels_mean_and_stands_in_the_command(tmp_path):
    videos, labels = write_recordings(tmp_path, 2)
    words = ["--videos", str(videos), "--labels", str(labels)]
    mapping = tmp_path / "mapping.yaml"
    assert main(["prepare", "own", *words, "--propose", str(mapping)]) == 0
    mapping.write_text(mapping.read_text().replace("phase:", "stage:", 1))
    options = StartOptions(images=False, mapping=mapping)
    prepared = prepare_and_inspect(videos, labels, tmp_path / "out", options)
    assert prepared.column.name == "stage"
    assert ("--mapping", str(mapping)) in zip(prepared.data.command, prepared.data.command[1:], strict=False)


def test_without_an_encoder_it_says_what_to_download(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("surgvista_hf.guide.plan.SMALL_ENCODER", "facebook/not-on-this-machine")
    write_recordings(tmp_path, 2)
    words = [
        str(tmp_path / "recordings"),
        str(tmp_path / "labels"),
        "--output",
        str(tmp_path / "out"),
        "--device",
        "cpu",
    ]
    assert main(["start", *words, "--yes"]) == 1
    printed = capsys.readouterr().err
    assert "hf download facebook/not-on-this-machine --local-dir not-on-this-machine" in printed
    assert "--model" in printed


def test_the_page_shows_most_of_the_column_that_is_learned(tmp_path):
    """Labels with two columns of classes: the ribbon with the frames below it is that of the chosen one."""
    videos, labels = write_recordings(tmp_path, 2)
    for file in labels.glob("*.csv"):
        header, *rows = file.read_text().splitlines()
        file.write_text(
            "\n".join([f"{header},surgeon", *(f"{row},{'anna' if k % 2 else 'ben'}" for k, row in enumerate(rows))])
        )
    data = prepare_own(videos, labels, tmp_path / "out")
    for label in ("phase", "surgeon"):
        options = StartOptions(label=label, model="none", images=False)
        prepared = prepare_and_inspect(None, None, tmp_path / "out", options, data=data)
        assert prepared.inspection.main is not None
        assert prepared.inspection.main.name == prepared.column.name == label

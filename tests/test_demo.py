"""The main job from end to end, as small as it goes."""

import json

import pytest
from PIL import Image

import surgvista_hf.demo
from surgvista_hf import SurgicalVideoPredictor
from surgvista_hf.cli.main import main
from surgvista_hf.demo import DemoResult


@pytest.mark.slow
def test_the_demo_pre_trains_asks_every_protocol_and_predicts(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--operations", "6", "--seconds", "20", "--pretraining-epochs", "1", "--epochs", "1"]
    assert main(["demo", *small, "--json"]) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    log, *lines = (
        line for line in said.err.splitlines() if not line.startswith("  ")
    )  # on a slow machine: how far it is
    assert log == "log: demo/surgvista.log"
    assert [line.partition(" ")[0] for line in lines] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    assert "eval_video_accuracy" in (tmp_path / "demo" / "surgvista.log").read_text()
    assert {"full", "lora", "linear", "knn", "tcn"} <= set(result["video_accuracy"])
    for file in result["files"]:
        assert (tmp_path / file).stat().st_size
        if file.endswith(".png"):
            with Image.open(tmp_path / file) as picture:
                assert min(picture.size) > 200
    assert SurgicalVideoPredictor("demo/model").predict("demo/unseen_operation.mp4").class_names[0] == "Preparation"
    assert json.loads((tmp_path / "demo" / "result.json").read_text())["settings"]["operations"] == 6


def test_the_demo_ends_with_a_table_and_the_names_of_the_pictures(tmp_path, capsys, monkeypatch):
    files = ["demo/predictions.csv", "demo/timeline.png", "demo/benchmark/plots/phases.png"]
    result = DemoResult({"full": 0.912, "lora": 0.5}, 0.31, 0.875, 0.4, 0.2, files)
    monkeypatch.setattr(surgvista_hf.demo, "run_demo", lambda *args, **kwargs: result)
    assert main(["demo"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "protocol                   seconds right  most frequent phase",
        "full                               91.2%                31.0%",
        "lora                               50.0%                31.0%",
        "unseen operation, by full          87.5%                40.0%",
        "images: demo/timeline.png demo/benchmark/plots/",
        "see it work: surgvista space --model demo/model",
    ]

"""The main job from end to end, as small as it goes."""

import json

import pytest
from PIL import Image

from surgvista_hf import SurgicalVideoPredictor
from surgvista_hf.cli.main import main


@pytest.mark.slow
def test_the_demo_pre_trains_asks_every_protocol_and_predicts(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--operations", "6", "--seconds", "20", "--pretraining-epochs", "1", "--epochs", "1"]
    assert main(["demo", *small, "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"full", "lora", "linear", "knn", "tcn"} <= set(result["video_accuracy"])
    for file in result["files"]:
        assert (tmp_path / file).stat().st_size
        if file.endswith(".png"):
            with Image.open(tmp_path / file) as picture:
                assert min(picture.size) > 200
    assert SurgicalVideoPredictor("demo/model").predict("demo/unseen_operation.mp4").class_names[0] == "Preparation"
    assert json.loads((tmp_path / "demo" / "result.json").read_text())["settings"]["operations"] == 6

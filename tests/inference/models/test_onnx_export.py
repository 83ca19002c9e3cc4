"""Exported graphs compute what the model does, for any batch, and can take its place."""

import json

import numpy as np
import pytest
import torch

from surgvista_hf import InputError, SurgicalVideoPredictor
from surgvista_hf.cli.main import main
from surgvista_hf.inference.models.clip_model import ClipModel
from surgvista_hf.inference.models.onnx_export import OnnxClipModel, export_model
from surgvista_hf.modeling.loading import load_classifier, make_classifier_processor
from surgvista_hf.util.files import OutputError

from ...modeling.conversion.families import LABELS, SINGLE, encoder
from ...videos import write_numbered_video


@pytest.mark.slow
def test_an_onnx_graph_takes_the_place_of_the_model(model_folder, tmp_path, capsys):
    assert main(["export", str(model_folder), "--output", str(tmp_path / "graph"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["largest_difference"] < 1e-5 * report["largest_logit"]
    assert report["agreement"] == 1
    video = write_numbered_video(tmp_path / "a.mp4", count=110)
    expected = SurgicalVideoPredictor(model_folder).predict(video)
    found = SurgicalVideoPredictor(tmp_path / "graph", runtime="onnx", batch_size=3).predict(video)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    assert found.class_names == expected.class_names
    words = ["--runtime", "onnx", "--formats", "json", "--output", str(tmp_path / "out")]
    assert main(["predict", str(video), "--model", str(tmp_path / "graph"), *words]) == 0


def test_features_are_those_of_the_model(model_folder, tmp_path):
    model = ClipModel.load(model_folder, device="cpu")
    export_model(model, tmp_path / "graph")
    clips = torch.randn(3, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(OnnxClipModel(tmp_path / "graph").run(clips), model.run(clips), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.slow
def test_8_bits_are_smaller_and_near(model_folder, tmp_path):
    model = ClipModel.load(model_folder, device="cpu")
    whole = export_model(model, tmp_path / "whole")
    small = export_model(model, tmp_path / "small", int8=True)
    assert small.bytes < whole.bytes
    assert 1e-6 < small.largest_difference < 0.2 * small.largest_logit


@pytest.mark.parametrize("family", ["videomae", "vit", "convnext"])
def test_every_family_can_be_exported(family, tmp_path):
    start = encoder(family, tmp_path / "encoder")
    classifier = load_classifier(start, LABELS, SINGLE, num_frames=4)
    with torch.no_grad():
        classifier.classifier.weight.normal_(generator=torch.Generator().manual_seed(1))
    report = export_model(
        ClipModel(classifier, make_classifier_processor(classifier, start), device="cpu"), tmp_path / "graph"
    )
    assert report.largest_difference < 1e-4 * max(report.largest_logit, 1)


def test_torch_export_can_be_loaded_without_this_package(model_folder, tmp_path):
    model = ClipModel.load(model_folder, device="cpu")
    export_model(model, tmp_path / "graph", "torch-export")
    graph = torch.export.load(tmp_path / "graph" / "model.pt2").module()
    clips = torch.randn(7, 4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(graph(clips)[0], model.model(clips).logits, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_exported_or_run_is_refused(model_folder, tmp_path):
    model = ClipModel.load(model_folder, device="cpu")
    with pytest.raises(InputError, match="format is 'tflite'"):
        export_model(model, tmp_path / "graph", "tflite")
    with pytest.raises(InputError, match="8 bits are for format onnx only"):
        export_model(model, tmp_path / "graph", "torch-export", int8=True)
    assert not (tmp_path / "graph").exists()
    with pytest.raises(InputError, match=r"holds no model\.onnx"):
        SurgicalVideoPredictor(model_folder, runtime="onnx")
    with pytest.raises(InputError, match="runtime is 'tpu'"):
        SurgicalVideoPredictor(model_folder, runtime="tpu")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    with pytest.raises(OutputError, match="exists already"):
        export_model(model, tmp_path / "full")

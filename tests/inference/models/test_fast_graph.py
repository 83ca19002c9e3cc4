"""8 bits at first use: exported once, kept for the weights it was made of, refused where it cannot be had."""

import numpy as np
import pytest

from surgvista_hf import InputError, SurgicalVideoPredictor
from surgvista_hf.cli.main import main
from surgvista_hf.inference.models import fast_graph
from surgvista_hf.inference.models.clip_model import ClipModel

from ...videos import write_numbered_video
from ..tiny_models import processor, tiny_classifier


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(fast_graph.constants, "HF_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "surgvista_hf" / "graphs"


@pytest.mark.slow
def test_the_graph_is_exported_once_and_goes_by_the_name_of_the_model(
    cache, model_folder, tmp_path, monkeypatch, capsys
):
    video = write_numbered_video(tmp_path / "operation.mp4", count=110)
    words = [
        "predict",
        str(video),
        "--model",
        str(model_folder),
        "--formats",
        "json",
        "--output",
        str(tmp_path / "out"),
    ]
    assert main([*words, "--fast"]) == 0
    assert "computes in int8 (ONNX Runtime)" in capsys.readouterr().err
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1
    exported = fast_graph.export_model
    monkeypatch.setattr(fast_graph, "export_model", None)
    predictor = SurgicalVideoPredictor(model_folder, fast=True)
    full = SurgicalVideoPredictor(model_folder, dtype="float32")
    graph, model = predictor.models["model"], full.models["model"]
    assert (graph.dtype, graph.fingerprint, graph.source) == ("int8", model.fingerprint, model.source)
    assert set(model.fingerprints) <= set(graph.fingerprints)
    assert predictor.computing == {"dtype": {"model": "int8"}}
    ours, theirs = predictor.predict(video), full.predict(video)
    np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=0.2)
    assert not np.array_equal(ours.probabilities, theirs.probabilities)
    # Other weights under the same name are another graph.
    monkeypatch.setattr(fast_graph, "export_model", exported)
    other = tiny_classifier()
    other.classifier.weight.data.neg_()
    other.save_pretrained(model_folder)
    anew = SurgicalVideoPredictor(model_folder, fast=True).predict(video)
    assert np.abs(anew.probabilities - ours.probabilities).max() > 0.2
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 2


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"dtype": "bfloat16"}, "dtype bfloat16"),
        ({"dtype": "float32"}, "dtype float32"),
        ({"runtime": "onnx"}, "runtime onnx"),
        ({"device": "cuda"}, "not on cuda"),
    ],
)
def test_what_cannot_be_had_together_is_refused_before_anything_is_loaded(cache, tmp_path, options, named):
    with pytest.raises(InputError, match=named):
        SurgicalVideoPredictor(tmp_path / "nothing", fast=True, **options)


def test_a_model_in_memory_has_no_graph_to_keep(cache, model_folder):
    for model in (tiny_classifier(), ClipModel.load(model_folder)):
        with pytest.raises(InputError, match="saved model"):
            SurgicalVideoPredictor(model, processor(), fast=True)
    assert not cache.exists()


def test_a_model_that_is_not_there_leaves_nothing_in_the_cache(cache, tmp_path):
    with pytest.raises(InputError, match="nothing"):
        SurgicalVideoPredictor(tmp_path / "nothing", fast=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        SurgicalVideoPredictor(tmp_path / "empty", fast=True)
    assert [path for path in cache.glob("*") if path.is_dir()] == []

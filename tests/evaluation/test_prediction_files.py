"""Predictions of any program, from its files."""

import json

import numpy as np
import pytest

from surgvista_hf.evaluation.prediction_files import find_predictions, read_predictions
from surgvista_hf.inference import VideoPrediction
from surgvista_hf.modeling.errors_surgvista import InputError

NAMES = ["cut", "sew", "tie"]
SECONDS = np.arange(6.0)
SCORES = np.array(
    [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.0, 0.1, 0.9]]
)
CHOSEN = [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("form", ["csv", "json"])
def test_what_predict_writes_is_read_back_with_its_probabilities(tmp_path, form):
    VideoPrediction("op1.mp4", SECONDS, SCORES, NAMES).save(tmp_path / "op1.mp4", [form, "eaf"])
    (file,) = find_predictions(tmp_path).values()
    read = read_predictions(file if form == "csv" else file.with_name("predictions.json"), NAMES)
    assert read.are_probabilities
    np.testing.assert_allclose(read.at(SECONDS), SCORES, atol=1e-6)


def test_scores_come_in_the_order_of_the_labels(tmp_path):
    VideoPrediction("op1.mp4", SECONDS, SCORES, NAMES).save(tmp_path, ["csv"])
    read = read_predictions(tmp_path / "predictions.csv", ["tie", "cut", "sew"])
    np.testing.assert_allclose(read.at(SECONDS), SCORES[:, [2, 0, 1]], atol=1e-6)


def test_corrected_elan_files_tables_and_arrays_say_the_chosen_class(tmp_path):
    VideoPrediction("op1.mp4", SECONDS, SCORES, NAMES).save(tmp_path, ["eaf"])
    (tmp_path / "op2.csv").write_text("start,end,phase\n0,2,cut\n2,4,sew\n4,6,tie\n")
    (tmp_path / "op3.txt").write_text("".join(f"{second} {number}\n" for second, number in enumerate(CHOSEN)))
    np.save(tmp_path / "op4.npy", np.array(CHOSEN))
    (tmp_path / "op5.json").write_text(json.dumps(CHOSEN))
    for name in ("annotations.eaf", "op2.csv", "op3.txt", "op4.npy", "op5.json"):
        read = read_predictions(tmp_path / name, NAMES)
        assert not read.are_probabilities
        assert read.at(SECONDS).argmax(axis=1).tolist() == CHOSEN, name


def test_arrays_may_hold_scores_at_another_rate(tmp_path):
    np.save(tmp_path / "op1.npy", np.repeat(SCORES, 5, axis=0))
    read = read_predictions(tmp_path / "op1.npy", NAMES, every=0.2)
    np.testing.assert_allclose(read.at(SECONDS), SCORES)


def test_a_moment_without_a_prediction_is_named(tmp_path):
    (tmp_path / "op1.csv").write_text("start,end,phase\n1,2,cut\n3,5,sew\n")
    read = read_predictions(tmp_path / "op1.csv", NAMES)
    with pytest.raises(InputError, match=r"predicts nothing for 3 of 6 labeled moments, the first at second 0"):
        read.at(SECONDS)
    np.save(tmp_path / "op2.npy", np.array(CHOSEN[:3]))
    with pytest.raises(InputError, match=r"nothing for 2 of 6 labeled moments, the first at second 4"):
        read_predictions(tmp_path / "op2.npy", NAMES).at(SECONDS)


def test_files_are_found_by_video_in_both_layouts(tmp_path):
    VideoPrediction("a.mp4", SECONDS, SCORES, NAMES).save(tmp_path / "site/a.mp4", ["csv", "json", "eaf"])
    (tmp_path / "settings.json").write_text("{}")
    (tmp_path / "site/a.mp4/source.json").write_text("{}")  # `predict` notes there what it predicted
    np.save(tmp_path / "b.npy", np.array(CHOSEN))
    found = {name: path.name for name, path in find_predictions(tmp_path).items()}
    assert found == {"site/a": "predictions.csv", "b": "b.npy"}


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("op1.npy", b"not an array", "is not a NumPy array"),
        ("op1.json", b"{}", "holds no predictions as"),
        ("op1.json", b"[0, 1, 7]", r"holds classes 0 … 7; there are 3"),
        ("op1.json", b"not json", "holds no predictions as"),
        ("op1.csv", b"second,p(cut),p(sew)\n0,0.5,0.5\n", r"no scores of the classes tie; it has cut, sew"),
        ("op1.csv", b"second,p(cut),p(sew),p(tie)\n0,0.5,half,0\n", "is no table as"),
        ("op1.csv", b"frame,phase\n0,cut\n", "counts frames of the video"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_name(tmp_path, name, content, complaint):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        read_predictions(tmp_path / name, NAMES)


def test_pickled_arrays_are_not_loaded(tmp_path):
    np.save(tmp_path / "op1.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="is not a NumPy array of numbers"):
        read_predictions(tmp_path / "op1.npy", NAMES)


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(InputError, match="there are no predictions at"):
        find_predictions(tmp_path)
    for suffix in (".npy", ".csv"):
        (tmp_path / f"op1{suffix}").write_bytes(b"")
    with pytest.raises(InputError, match="both look like predictions of op1"):
        find_predictions(tmp_path)

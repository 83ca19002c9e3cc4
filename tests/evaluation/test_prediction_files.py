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


@pytest.mark.parametrize("header", ["second", "Time", "timestamp", "t_sec"])
def test_a_table_with_a_column_for_each_class_may_hold_scores_or_choices(tmp_path, header):
    columns = [NAMES[2], header, NAMES[0], "note", NAMES[1]]
    rows = [f"{s[2]};{t};{s[0]};-;{s[1]}" for t, s in zip(SECONDS, SCORES, strict=True)]
    (tmp_path / "op1.csv").write_text("\n".join([";".join(columns), *rows]))
    read = read_predictions(tmp_path / "op1.csv", NAMES)
    assert read.are_probabilities
    np.testing.assert_allclose(read.at(SECONDS), SCORES)
    chosen = ["frame\tcut\tsew\ttie", *(f"{25 * t}\t{c == 0:d}\t{c == 1:d}\t{c == 2:d}" for t, c in enumerate(CHOSEN))]
    (tmp_path / "op2.txt").write_text("\n".join(chosen))
    with pytest.raises(InputError, match="counts frames"):
        read_predictions(tmp_path / "op2.txt", NAMES)
    read = read_predictions(tmp_path / "op2.txt", NAMES, every=0.04)
    assert not read.are_probabilities
    assert read.at(SECONDS).argmax(axis=1).tolist() == CHOSEN


def test_frames_are_compared_where_their_distance_is_given(tmp_path):
    (tmp_path / "op1.csv").write_text("start_frame,end_frame,phase\n0,49,cut\n50,99,sew\n100,149,tie\n")
    read = read_predictions(tmp_path / "op1.csv", NAMES, every=0.04)
    assert read.at(SECONDS).argmax(axis=1).tolist() == CHOSEN


def test_lists_may_hold_names_and_rows_with_a_single_one(tmp_path):
    (tmp_path / "op1.json").write_text(json.dumps([NAMES[number] for number in CHOSEN]))
    (tmp_path / "op2.json").write_text(json.dumps(np.eye(3, dtype=int)[CHOSEN].tolist()))
    np.save(tmp_path / "op3.npy", np.eye(3, dtype=bool)[CHOSEN])
    (tmp_path / "op4.json").write_text(json.dumps(SCORES.tolist()))
    for name in ("op1.json", "op2.json", "op3.npy"):
        read = read_predictions(tmp_path / name, NAMES)
        assert not read.are_probabilities
        assert read.at(SECONDS).argmax(axis=1).tolist() == CHOSEN, name
    np.testing.assert_allclose(read_predictions(tmp_path / "op4.json", NAMES).at(SECONDS), SCORES)


PRESENT = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]])


def elan(path, tiers: dict[str, list[tuple[int, int, str]]]) -> None:
    """Write an annotation document with tiers of (start, stop in milliseconds, text)."""
    slots, parts = [], []
    for tier, spans in tiers.items():
        inside = ""
        for start, stop, text in spans:
            first = len(slots)
            slots += [start, stop]
            inside += (
                f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{first}" TIME_SLOT_REF1="ts{first}" '
                f'TIME_SLOT_REF2="ts{first + 1}"><ANNOTATION_VALUE>{text}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>'
                "</ANNOTATION>"
            )
        parts.append(f'<TIER TIER_ID="{tier}" LINGUISTIC_TYPE_REF="x">{inside}</TIER>')
    order = "".join(f'<TIME_SLOT TIME_SLOT_ID="ts{number}" TIME_VALUE="{time}"/>' for number, time in enumerate(slots))
    header = '<HEADER TIME_UNITS="milliseconds"/>'
    path.write_text(
        f"<ANNOTATION_DOCUMENT>{header}<TIME_ORDER>{order}</TIME_ORDER>{''.join(parts)}</ANNOTATION_DOCUMENT>"
    )


def test_several_classes_at_once_are_read_from_every_format(tmp_path):
    np.save(tmp_path / "op1.npy", PRESENT)
    (tmp_path / "op2.json").write_text(json.dumps([[NAMES[n] for n in np.flatnonzero(row)] for row in PRESENT]))
    (tmp_path / "op3.json").write_text(json.dumps([np.flatnonzero(row).tolist() for row in PRESENT]))
    (tmp_path / "op4.csv").write_text("start,end,label\n0,3,cut\n1,4,sew\n5,6,tie\n")
    elan(tmp_path / "op5.eaf", {"tools": [(0, 3000, "cut"), (1000, 4000, "sew")], "tie": [(5000, 6000, "")]})
    elan(tmp_path / "op6.eaf", {"cut": [(0, 3000, "yes")], "sew": [(1000, 4000, "sew")], "tie": [(5000, 6000, "x")]})
    rows = [f"{t},{row[0]},{row[1]},{row[2]}" for t, row in enumerate(PRESENT)]
    (tmp_path / "op7.csv").write_text("\n".join(["second,cut,sew,tie", *rows]))
    for file in sorted(tmp_path.iterdir()):
        read = read_predictions(file, NAMES, multi_label=True)
        assert not read.are_probabilities
        np.testing.assert_array_equal(read.at(SECONDS), PRESENT, err_msg=file.name)


def test_what_predict_writes_of_several_classes_is_read_back(tmp_path):
    prediction = VideoPrediction("op1.mp4", SECONDS, np.where(PRESENT == 1, 0.8, 0.1), NAMES, multi_label=True)
    prediction.save(tmp_path, ["csv", "json", "eaf"])
    for name, is_scored in (("predictions.csv", True), ("predictions.json", True), ("annotations.eaf", False)):
        read = read_predictions(tmp_path / name, NAMES, multi_label=True)
        assert read.are_probabilities == is_scored
        np.testing.assert_array_equal(read.at(SECONDS) > 0.5, PRESENT == 1, err_msg=name)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("op1.json", b'[["cut"], ["knot"]]', "row 1 holds 'knot', which is no class; known are cut, sew, tie"),
        ("op1.json", b"[[0], [3]]", "row 1 holds 3, which is no class"),
        ("op1.json", b"[0, 1, 2]", r"expected are scores or 0 and 1 \(steps, 3\)"),
        ("op1.csv", b"start,end,label\n0,3,cut\n1,4,knot\n", r"op1\.csv:3 holds 'knot', which is no class"),
        ("op1.csv", b"second,cut,sew,tie\n0,1,0,x\n", "holds something else than numbers"),
        ("op1.csv", b"second,cut,sew,tie\n1,1,0,0\n0,1,0,0\n", "times that do not ascend"),
        (
            "op1.csv",
            b"place,cut,sew,tie\n1,1,0,0\n",
            "has the columns place, cut, sew, tie; predictions are compared by seconds",
        ),
    ],
)
def test_what_several_classes_cannot_be_is_refused(tmp_path, name, content, complaint):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        read_predictions(tmp_path / name, NAMES, multi_label=True)


def test_an_elan_file_of_other_classes_is_refused(tmp_path):
    elan(tmp_path / "op1.eaf", {"remarks": [(0, 1000, "smoke")]})
    with pytest.raises(InputError, match="holds smoke and none of the classes cut, sew, tie"):
        read_predictions(tmp_path / "op1.eaf", NAMES, multi_label=True)


def test_scores_that_are_not_numbers_are_refused(tmp_path):
    np.save(tmp_path / "op1.npy", np.where(SCORES > 0.8, np.nan, SCORES))
    with pytest.raises(InputError, match="infinite or not a number"):
        read_predictions(tmp_path / "op1.npy", NAMES)


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

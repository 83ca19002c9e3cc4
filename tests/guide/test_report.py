"""The report of a first model: the worst moments last and are sure, and sentences say what a number is worth."""

from time import perf_counter

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PillowImage

from surgvista_hf.datasets_scripts.frame_sets.inspection import inspect_frames
from surgvista_hf.evaluation.tasks import ClipPredictions, Task
from surgvista_hf.guide.plan import Plan
from surgvista_hf.guide.report import Answer, worst_moments, write_answer
from surgvista_hf.inference.evaluation import measure_predictions

NAMES = ("cut", "sew", "<rest>")


def answer(labels, scores, baseline=None, warnings=()):
    """Return what a report says, for videos of one frame a second.

    Args:
        labels: class indices of each video by its name, -1 without a label.
        scores: probabilities (frames, 3) of each video.
    """
    image = PillowImage.new("RGB", (16, 12), "gray")
    features = Features(
        source=Value("string"),
        video_id=Value("string"),
        frame_index=Value("int32"),
        timestamp=Value("float32"),
        image=Image(),
        phase=ClassLabel(names=list(NAMES)),
    )
    rows = [
        {
            "source": "ours",
            "video_id": name,
            "frame_index": k,
            "timestamp": k,
            "image": image,
            "phase": None if v < 0 else v,
        }
        for name, values in labels.items()
        for k, v in enumerate(values)
    ]
    inspection = inspect_frames(Dataset.from_list(rows, features=features))
    known = {name: np.flatnonzero(np.array(values) >= 0) for name, values in labels.items()}
    predictions = ClipPredictions(
        np.concatenate([np.full(len(index), f"ours/{name}") for name, index in known.items()]),
        np.concatenate(list(known.values())),
        np.concatenate(list(known.values())).astype(float),
        np.concatenate([np.array(labels[name])[index] for name, index in known.items()]),
        np.concatenate([np.array(scores[name], float)[index] for name, index in known.items()]),
    )
    task = Task("workflow", NAMES)
    parameters = {"trained": 0, "all": 0, "bytes": 0}
    evaluation = measure_predictions(task, predictions, parameters, start=perf_counter(), resamples=10)
    usual = baseline or dict.fromkeys(evaluation.by_video, 0.4)
    return Answer(
        inspection, inspection.columns[0], Plan("ours", "probe", (), ("why",), warnings), evaluation, usual, ("a",)
    )


def sure(number, confidence=0.8):
    row = [(1 - confidence) / 2] * 3
    row[number] = confidence
    return row


def test_the_worst_moment_lasts_longest_and_shows_its_surest_frame():
    labels = {"a": [0] * 10 + [1] * 10, "b": [0] * 20}
    scores = {
        "a": [sure(0)] * 10 + [sure(2, 0.6)] * 3 + [sure(2, 0.9)] + [sure(2, 0.6)] * 2 + [sure(1)] * 4,
        "b": [sure(0)] * 5 + [sure(1, 0.9)] * 2 + [sure(0)] * 13,
    }
    first, second = worst_moments(answer(labels, scores))
    assert (first.video, first.start, first.stop, first.predicted, first.labeled) == ("a", 10, 16, "<rest>", "sew")
    assert first.frame == 13
    assert (second.video, second.frame, second.predicted, second.labeled) == ("b", 5, "sew", "cut")


def test_no_operation_fills_the_sheet_alone():
    labels = {"a": [0] * 60, "b": [0] * 60}
    flicker = [sure(1, 0.9), sure(2, 0.9)] * 30
    scores = {"a": flicker, "b": [sure(0)] * 57 + [sure(1, 0.5)] * 3}
    chosen = worst_moments(answer(labels, scores), 10)
    assert len(chosen) == 9
    assert sum(moment.video == "a" for moment in chosen) == 8


def test_unlabeled_frames_are_neither_right_nor_wrong():
    labels = {"a": [0, 0, -1, -1, 0, 0], "b": [1, 1, 1, 1, 1, 1]}
    scores = {"a": [sure(1)] * 6, "b": [sure(1)] * 6}
    chosen = worst_moments(answer(labels, scores))
    assert [(moment.start, moment.stop) for moment in chosen] == [(0, 2), (4, 6)]


def test_a_model_that_is_no_better_than_the_most_frequent_class_is_said_to_have_learned_nothing():
    labels = {name: [0, 0, 0, 1] for name in "abcdef"}
    poor = answer(labels, {name: [sure(1)] * 4 for name in labels}, dict.fromkeys((f"ours/{n}" for n in labels), 0.75))
    assert any("learned nothing that helps" in text for text in poor.sentences)
    good = answer(labels, {name: [sure(v) for v in labels[name]] for name in labels})
    assert not any("nothing" in text or "do not rely" in text for text in good.sentences)
    assert "right in 100%" in good.sentences[0]
    few = {name: labels[name] for name in "ab"}
    unsure = answer(few, {name: [sure(v) for v in few[name]] for name in few})
    assert any("Chance alone could explain" in text for text in unsure.sentences)


def test_the_page_holds_names_as_text_and_frames_only_if_wanted(tmp_path):
    labels = {"<a>": [0, 2], "b": [1, 1]}
    content = answer(labels, {"<a>": [sure(1)] * 2, "b": [sure(1)] * 2}, warnings=("too few <b>",))
    write_answer(content, tmp_path / "with.html")
    write_answer(content, tmp_path / "without.html", images=False)
    page = (tmp_path / "with.html").read_text()
    assert "patient data" in page
    assert "data:image" in page
    assert "<rest>" not in page
    assert "&lt;rest&gt;" in page
    assert "too few &lt;b&gt;" in page
    assert "data:image" not in (tmp_path / "without.html").read_text()

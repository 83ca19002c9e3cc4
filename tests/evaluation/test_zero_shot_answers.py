"""Answers in words: what the published rules make of them, what they clearly mean, and how often they are right."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.evaluation.zero_shot_answers import (
    NO_ANSWER,
    answer_metrics,
    option_letters,
    prompt_sensitivity,
    read_careful,
    read_published,
    spoken,
)
from surgvista_hf.modeling.errors_surgvista import InputError

NAMES = ("Preparation", "CalotTriangleDissection", "ClippingCutting", "dissection", "knot_pushing", "knotting")


@pytest.mark.parametrize(
    ("answer", "published", "careful"),
    [
        ("B", 1, 1),
        ("(c)", NO_ANSWER, 2),
        ("**D**", 3, 3),
        ("E. knot_pushing", 4, 4),
        ("F) knotting", 5, 5),
        ("The answer is B.", 1, 1),
        ("Answer: C", 2, 2),
        ("Option D", 3, 3),
        ("A grasper holds tissue, so knotting", 0, 5),  # the article, which the published rule takes for an option
        ("A grasper", 0, NO_ANSWER),
        ("The answer is A clip applier", 0, NO_ANSWER),
        ("calottriangledissection", 1, 1),
        ("Calot triangle dissection", 3, 1),  # published: only the class dissection is contained as it is written
        ("knot pushing", 4, 4),
        ("This is predissection.", 3, NO_ANSWER),
        ("preparation or knotting", 0, NO_ANSWER),
        ("B. knotting", 1, NO_ANSWER),
        ("2", 2, NO_ANSWER),
        ("7", NO_ANSWER, NO_ANSWER),
        ("Z", NO_ANSWER, NO_ANSWER),
        ("I cannot tell", NO_ANSWER, NO_ANSWER),
        ("", NO_ANSWER, NO_ANSWER),
    ],
)
def test_answers_are_read_as_published_and_with_care(answer, published, careful):
    assert read_published(answer, NAMES) == published
    assert read_careful(answer, NAMES) == careful


@given(st.integers(1, 60), st.data())
@settings(max_examples=50, deadline=None)
def test_every_option_can_be_answered_by_its_letter_and_by_its_name(classes, data):
    names = [f"class {chr(97 + number % 26)}{number}x" for number in range(classes)]
    wanted = data.draw(st.integers(0, classes - 1))
    letter = option_letters(classes)[wanted]
    for reader in (read_published, read_careful):
        assert reader(letter, names) == wanted
        assert reader(f"{letter}. {names[wanted]}", names) == wanted
        assert reader(names[wanted], names) == wanted
        assert reader(names[wanted].upper().replace(" ", "_"), names) == wanted


@given(st.text(max_size=60), st.integers(1, 30))
@settings(max_examples=100, deadline=None)
def test_whatever_is_answered_is_an_option_or_none(answer, classes):
    names = [f"class {number}" for number in range(classes)]
    for reader in (read_published, read_careful):
        assert NO_ANSWER <= reader(answer, names) < classes


def test_options_go_on_after_z_as_in_a_spreadsheet():
    letters = option_letters(702)
    assert len(set(letters)) == 702
    assert (letters[25], letters[26], letters[51], letters[52], letters[701]) == ("Z", "AA", "AZ", "BA", "ZZ")
    with pytest.raises(InputError, match="703 classes cannot be options"):
        option_letters(703)
    assert spoken("lens_implant-setting-up") == "lens implant setting up"


@given(seed=st.integers(0, 10**6), samples=st.integers(1, 60), classes=st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_the_metrics_are_those_of_scikit_learn(seed, samples, classes):
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(seed)
    labels, answers = generator.integers(0, classes, samples), generator.integers(-1, classes, samples)
    result = answer_metrics(labels, answers, classes)
    read = answers != NO_ANSWER
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert result.accuracy == pytest.approx(metrics.accuracy_score(labels, answers))
        assert result.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, answers))
        seen = sorted(set(labels) | set(answers[read]))
        macro = metrics.f1_score(labels, answers, labels=seen, average="macro", zero_division=0)
        assert result.macro_f1 == pytest.approx(macro)
        if read.any():
            assert result.valid_accuracy == pytest.approx(metrics.accuracy_score(labels[read], answers[read]))
    assert result.answered == pytest.approx(read.mean())
    assert result.most_frequent == pytest.approx(np.bincount(labels).max() / samples)
    json.dumps(result.to_dict(), allow_nan=False)


def test_no_readable_answer_is_no_success_and_no_crash():
    result = answer_metrics(np.array([0, 1]), np.array([NO_ANSWER, NO_ANSWER]), 2)
    assert (result.accuracy, result.answered, result.macro_f1) == (0, 0, 0)
    assert result.to_dict()["valid_accuracy"] is None
    assert prompt_sensitivity({"one": 0.5}) is None
    assert prompt_sensitivity({"one": 0.5, "two": 0.75, "three": 0.25}) == 0.5


@pytest.mark.parametrize(
    ("labels", "answers", "message"),
    [([0], [0, 1], "is needed twice"), ([0, 2], [0, 1], "must lie in"), ([0, 1], [0, -2], "must lie in")],
)
def test_what_is_no_answer_is_refused(labels, answers, message):
    with pytest.raises(InputError, match=message):
        answer_metrics(np.array(labels), np.array(answers), 2)

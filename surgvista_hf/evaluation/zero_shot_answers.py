"""Classes from what a language model answers to a question with lettered options, and how often they are right.

The rules of SurgRec's evaluation (arXiv 2603.29966) and a careful reading beside them: the published one takes the article in
"A grasper holds …" for option A.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

import numpy as np

from ..util.errors import InputError

NO_ANSWER = -1
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ALONE = re.compile(r"^\W*([A-Za-z]{1,2})\W*$")
_LISTED = re.compile(r"^\W*([A-Z]{1,2})\s*[.):\]*]")
_SAID = re.compile(r"(?i:\b(?:answer|option|choice|letter)(?:\s+is)?)\W+([A-Z]{1,2})\b(?!\s+[a-z])")


def option_letters(classes: int) -> tuple[str, ...]:
    """Return the names of options: A … Z, then AA, AB, … as in a spreadsheet.

    Raises:
        InputError: more than two letters can tell apart, or none.

    Example:
        >>> option_letters(28)[25:]
        ('Z', 'AA', 'AB')
    """
    pairs = [first + second for first in ascii_uppercase for second in ascii_uppercase]
    letters = (*ascii_uppercase, *pairs)
    if not 0 < classes <= len(letters):
        raise InputError(f"{classes} classes cannot be options; 1 … {len(letters)} can")
    return letters[:classes]


def spoken(name: str) -> str:
    """A class name as words: `CalotTriangleDissection` and `calot_triangle-dissection` alike.

    Example:
        >>> spoken("CalotTriangleDissection")
        'calot triangle dissection'
    """
    return _words(_CAMEL.sub(" ", name))


def _words(text: str) -> str:
    """Lower case, everything that is no letter or digit one blank."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def read_published(answer: str, names: Sequence[str]) -> int:
    """The class that SurgRec's rules find.

    The first stand-alone capital letter that names an option; else the longest class name that the normalized answer
    contains; else the first whole number, as the number of a class from 0. How the original normalizes is not known: here
    lower case, everything that is no letter or digit one blank.

    Args:
        answer: of the model.
        names: of the classes, in the order of the options.

    Returns:
        The class, or `NO_ANSWER`.

    Example:
        >>> read_published("A grasper holds the gallbladder", ("cutting", "grasper"))
        0
    """
    letters = option_letters(len(names))
    for letter in re.findall(r"\b[A-Z]{1,2}\b", answer):
        if letter in letters:
            return letters.index(letter)
    said = _words(answer)
    contained = [number for number, name in enumerate(names) if _words(name) and _words(name) in said]
    if contained:
        return max(contained, key=lambda number: len(_words(names[number])))
    number = re.search(r"\d+", answer)
    return int(number[0]) if number and int(number[0]) < len(names) else NO_ANSWER


def read_careful(answer: str, names: Sequence[str]) -> int:
    """The class that an answer clearly means.

    A letter counts alone (`B`, `(b)`), as a list begins (`B. grasper`), or after words such as "the answer is"; a class
    name as whole words, written together or apart. An answer that names several classes, or a letter and another class, has
    none; whole numbers mean nothing, since nobody asked for one.

    Args:
        answer: of the model.
        names: of the classes, in the order of the options.

    Returns:
        The class, or `NO_ANSWER`.

    Example:
        >>> read_careful("A grasper holds the gallbladder", ("cutting", "grasper"))
        1
    """
    letters = option_letters(len(names))
    named = _named(answer, names)
    found = next((match[1] for rule in (_ALONE, _LISTED, _SAID) if (match := rule.search(answer))), "").upper()
    if found in letters:
        lettered = letters.index(found)
        return lettered if not named or lettered in named else NO_ANSWER
    return named.pop() if len(named) == 1 else NO_ANSWER


def _named(answer: str, names: Sequence[str]) -> set[int]:
    """Classes whose names occur as whole words, longer ones first; a part of a longer name is no other class."""
    said, found = f" {_words(answer)} | {spoken(answer)} ", set()
    forms = [
        (form, number) for number, name in enumerate(names) for form in {spoken(name), spoken(name).replace(" ", "")}
    ]
    for form, number in sorted(forms, key=lambda entry: (-len(entry[0]), entry[1])):
        if form and f" {form} " in said:
            found.add(number)
            said = said.replace(f" {form} ", " | ")
    return found


READINGS: dict[str, Callable[[str, Sequence[str]], int]] = {"published": read_published, "careful": read_careful}


@dataclass(frozen=True)
class AnswerMetrics:
    """Result of `answer_metrics`.

    Args:
        accuracy: right answers of all; what could not be read is wrong.
        valid_accuracy: right answers of those that could be read; NaN if none could.
        answered: share that could be read.
        balanced_accuracy: mean recall of the classes that occur.
        macro_f1: mean over the classes that occur or are answered.
        most_frequent: what always saying the most frequent class of the test gives; less than that is no result.
    """

    accuracy: float
    valid_accuracy: float
    answered: float
    balanced_accuracy: float
    macro_f1: float
    most_frequent: float

    def to_dict(self) -> dict[str, float | None]:
        """Return the numbers that JSON can hold; what is not defined is `None`."""
        return {name: None if np.isnan(value) else value for name, value in vars(self).items()}


def answer_metrics(labels: np.ndarray, answers: np.ndarray, classes: int) -> AnswerMetrics:
    """How often answers are right.

    Args:
        labels: (samples,) class numbers.
        answers: (samples,) class numbers, `NO_ANSWER` where none could be read.
        classes: number of classes.

    Returns:
        The result.

    Raises:
        InputError: shapes or numbers that do not fit.

    Example:
        >>> found = answer_metrics(np.array([0, 1, 1, 1]), np.array([0, 1, 0, NO_ANSWER]), 2)
        >>> found.accuracy, round(found.valid_accuracy, 3), found.most_frequent
        (0.5, 0.667, 0.75)
    """
    labels, answers = np.asarray(labels), np.asarray(answers)
    if labels.shape != answers.shape or labels.ndim != 1 or not len(labels):
        raise InputError(f"labels {labels.shape} and answers {answers.shape}; (samples,) is needed twice")
    if labels.min() < 0 or max(labels.max(), answers.max()) >= classes or answers.min() < NO_ANSWER:
        raise InputError(f"labels must lie in 0 … {classes - 1}, answers too or be {NO_ANSWER}")
    right, read = labels == answers, answers != NO_ANSWER
    hits = np.bincount(labels[right], minlength=classes)
    true, said = np.bincount(labels, minlength=classes), np.bincount(answers[read], minlength=classes)
    occurs, counted = true > 0, true + said > 0
    return AnswerMetrics(
        accuracy=float(right.mean()),
        valid_accuracy=float(right[read].mean()) if read.any() else float("nan"),
        answered=float(read.mean()),
        balanced_accuracy=float((hits[occurs] / true[occurs]).mean()),
        macro_f1=float((2 * hits[counted] / (true + said)[counted]).mean()),
        most_frequent=float(true.max() / len(labels)),
    )


def prompt_sensitivity(accuracies: Mapping[str, Any]) -> float | None:
    """The accuracy of the best prompt less that of the worst; none with one prompt."""
    return float(max(accuracies.values()) - min(accuracies.values())) if len(accuracies) > 1 else None

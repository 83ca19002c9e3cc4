"""Reading of a language model's answers to questions with lettered options, and the metrics of what was read.

There are two readings: the rules of SurgRec's evaluation (arXiv 2603.29966), and a careful one, since the published rules take
the article in "A grasper holds …" for option A.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

import numpy as np

from ..util.errors import InputError

NO_ANSWER = -1
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ALONE = re.compile(r"^\W*([A-Za-z]{1,2})\W*$")
_LISTED = re.compile(r"^\W*([A-Z]{1,2})\s*[.):\]*]")
_AFTER_CUE = re.compile(r"(?i:\b(?:answer|option|choice|letter)(?:\s+is)?)\W+([A-Z]{1,2})\b(?!\s+[a-z])")


def option_letters(classes: int) -> tuple[str, ...]:
    """Return the names of options: A … Z, then AA, AB, … as in a spreadsheet.

    Raises:
        InputError: there are more classes than two letters can tell apart, or none.

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
    """Return a class name as separate lower-case words, also for `CalotTriangleDissection` or `calot_triangle-dissection`.

    Example:
        >>> spoken("CalotTriangleDissection")
        'calot triangle dissection'
    """
    return _normalize(_CAMEL.sub(" ", name))


def _normalize(text: str) -> str:
    """Return a text in lower case, with one blank for everything that is no letter or digit."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def read_published(answer: str, names: Sequence[str]) -> int:
    """Read the class from an answer by SurgRec's rules.

    The class is that of the first stand-alone capital letter that names an option; else of the longest class name that the
    normalized answer contains; else of the first whole number, as an index from 0. How the original normalizes is not known;
    here a text becomes lower case, with one blank for everything that is no letter or digit.

    Args:
        answer: answer of the model.
        names: names of the classes, in the order of the options.

    Returns:
        The index of the class, or `NO_ANSWER`.

    Example:
        >>> read_published("A grasper holds the gallbladder", ("cutting", "grasper"))
        0
    """
    letters = option_letters(len(names))
    for letter in re.findall(r"\b[A-Z]{1,2}\b", answer):
        if letter in letters:
            return letters.index(letter)
    text = _normalize(answer)
    contained = [number for number, name in enumerate(names) if _normalize(name) and _normalize(name) in text]
    if contained:
        return max(contained, key=lambda number: len(_normalize(names[number])))
    number = re.search(r"\d+", answer)
    return int(number[0]) if number and int(number[0]) < len(names) else NO_ANSWER


def read_careful(answer: str, names: Sequence[str]) -> int:
    """Read the class that an answer clearly means.

    A letter counts alone (`B`, `(b)`), as a list begins (`B. grasper`), or after words such as "the answer is"; a class
    name as whole words, written together or apart. An answer that names several classes, or a letter and another class, has
    none; whole numbers are ignored, since no question requests one.

    Args:
        answer: answer of the model.
        names: names of the classes, in the order of the options.

    Returns:
        The index of the class, or `NO_ANSWER`.

    Example:
        >>> read_careful("A grasper holds the gallbladder", ("cutting", "grasper"))
        1
    """
    letters = option_letters(len(names))
    named = _find_names(answer, names)
    found = next((match[1] for rule in (_ALONE, _LISTED, _AFTER_CUE) if (match := rule.search(answer))), "").upper()
    if found in letters:
        lettered = letters.index(found)
        return lettered if not named or lettered in named else NO_ANSWER
    return named.pop() if len(named) == 1 else NO_ANSWER


def _find_names(answer: str, names: Sequence[str]) -> set[int]:
    """Return the classes whose names occur as whole words; a name within a longer class name does not count."""
    text, found = f" {_normalize(answer)} | {spoken(answer)} ", set()
    forms = [
        (form, number) for number, name in enumerate(names) for form in {spoken(name), spoken(name).replace(" ", "")}
    ]
    for form, number in sorted(forms, key=lambda entry: (-len(entry[0]), entry[1])):
        if form and f" {form} " in text:
            found.add(number)
            text = text.replace(f" {form} ", " | ")
    return found


READINGS: dict[str, Callable[[str, Sequence[str]], int]] = {"published": read_published, "careful": read_careful}


@dataclass(frozen=True)
class AnswerMetrics:
    """Result of `answer_metrics`.

    Args:
        accuracy: fraction of all answers that are right; what could not be read is wrong.
        valid_accuracy: fraction of right answers among those that could be read; NaN if none could.
        answered: fraction of the answers that could be read.
        balanced_accuracy: mean recall of the classes that occur.
        macro_f1: mean F1 over the classes that occur or are answered.
        most_frequent: accuracy of always answering the most frequent class of the test, which a model must exceed.
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
    """Compute how often answers are right.

    Args:
        labels: (samples,) class indices.
        answers: (samples,) class indices, `NO_ANSWER` where none could be read.
        classes: number of classes.

    Returns:
        The result.

    Raises:
        InputError: the shapes or numbers do not fit together.

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
    true, given = np.bincount(labels, minlength=classes), np.bincount(answers[read], minlength=classes)
    occurs, counted = true > 0, true + given > 0
    return AnswerMetrics(
        accuracy=float(right.mean()),
        valid_accuracy=float(right[read].mean()) if read.any() else float("nan"),
        answered=float(read.mean()),
        balanced_accuracy=float((hits[occurs] / true[occurs]).mean()),
        macro_f1=float((2 * hits[counted] / (true + given)[counted]).mean()),
        most_frequent=float(true.max() / len(labels)),
    )


def prompt_sensitivity(accuracies: Mapping[str, float | None]) -> float | None:
    """Return the accuracy of the best prompt minus that of the worst; `None` with fewer than two known accuracies."""
    known = [value for value in accuracies.values() if value is not None]
    return float(max(known) - min(known)) if len(known) > 1 else None

"""Values that people wrote: what an annotation says is what is taken, and the error names the path."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import Field

from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.util.values import Fraction, PositiveCount, check_fields, read_fields, read_value


@dataclass(frozen=True)
class Part:
    name: str
    size: PositiveCount = 1


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    weights: float | Mapping[str, float] | None = None
    mode: Literal["stop", "replace"] = "stop"
    pair: Annotated[tuple[float, ...], Field(min_length=2, max_length=2)] = (0.0, 1.0)
    first: Part | None = None

    def __post_init__(self) -> None:
        if self.mode == "replace" and not self.parts:
            raise InputError("nothing can be replaced")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"parts": "x"}, "whole.parts is 'x'; it must be a list"),
        ({"parts": [3]}, "whole.parts.0 is 3; a mapping"),
        ({"parts": [{"name": "a"}, {"name": 3}]}, "whole.parts.1.name is 3; it must be text"),
        ({"parts": [{"nam": "a"}]}, "whole.parts.0 has no key 'nam'; did you mean name"),
        ({"parts": [{"name": "a", "size": 0}]}, "whole.parts.0.size is 0; it must be greater than or equal to 1"),
        (
            {"parts": [{"name": "a", "size": "2"}]},
            "whole.parts.0.size is '2'; .* whole number; write it without quotes",
        ),
        ({"parts": [{"name": "a", "size": 2.0}]}, "whole number; write 2"),
        ({"parts": [{"name": "a", "size": True}]}, "whole.parts.0.size is True"),
        ({"parts": [], "weights": "many"}, "whole.weights is 'many'; it must be a number or a mapping"),
        ({"parts": [], "weights": {"a": "x"}}, "whole.weights.a is 'x'; it must be a number"),
        ({"parts": [], "weights": float("inf")}, "whole.weights is inf"),
        ({"parts": [], "first": 3}, "whole.first is 3; a mapping"),
        ({"parts": [], "first": {"name": []}}, r"whole.first.name is \[\]; it must be text"),
        ({"parts": [], "mode": "stpo"}, "did you mean stop"),
        ({"parts": [], "pair": [1.0]}, "whole.pair is .*; it must be a list of at least 2"),
        ({"parts": [], "mode": "replace"}, "whole: nothing can be replaced"),
        ({}, "whole: missing .*'parts'"),
        ([], "whole is .*; a mapping"),
    ],
)
def test_the_first_wrong_value_is_named_with_what_it_must_be(content, message):
    with pytest.raises(InputError, match=message):
        read_fields(Whole, "whole", content)


def test_what_fits_is_taken_as_it_is():
    content = {"parts": [{"name": "a", "size": 2}], "weights": {"a": 1}, "pair": [0, 2.5], "first": {"name": "b"}}
    assert read_fields(Whole, "whole", content) == Whole((Part("a", 2),), {"a": 1.0}, "stop", (0.0, 2.5), Part("b"))


def test_numbers_of_numpy_are_numbers():
    check_fields(Part("a", np.int64(3)))
    assert read_value("x", np.float32(0.5), Fraction) == 0.5


def test_a_long_choice_is_cut():
    kind: Any = Literal[tuple(f"kind_{number}" for number in range(30))]
    with pytest.raises(InputError, match=r"one of 'kind_0', .* and 25 more; did you mean kind_7\?"):
        read_value("x", "kind-7", kind)

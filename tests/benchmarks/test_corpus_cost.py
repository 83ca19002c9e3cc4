"""The costs of corpora: the recorded numbers and the page say what is computed from the measurements."""

import json

import pytest

from benchmarks import corpus_cost


def test_the_recorded_costs_are_those_of_the_measurements():
    assert json.loads(corpus_cost.OUTPUT.read_text()) == corpus_cost.compute()


def test_the_page_says_what_was_computed():
    page = corpus_cost.PAGE.read_text()
    assert f"<!-- made by corpus_cost.table -->\n{corpus_cost.table()}\n<!-- end -->" in page


def test_core_hours_are_hours_of_video_over_the_measured_rate():
    found = corpus_cost.compute()
    rate = json.loads((corpus_cost.RESULTS / "data_speed_cpu.json").read_text())["preparing"]
    expected = 938 / rate["video_hours_per_core_hour"]["frame set"]
    assert found["work"]["prepare"]["core_hours"]["LEMON"] == pytest.approx(expected, abs=0.1)
    assert found["corpora"]["SurgRec"]["hours"] == pytest.approx(214.5e6 / 25 / 3600, abs=0.1)


def test_a_measurement_under_another_key_is_found_and_a_missing_one_named():
    assert corpus_cost._number({"a": {"b": 2}}, ("c",), ("a", "b")) == 2
    assert corpus_cost._number({"a": {"median": 3}}, ("a",)) == 3
    with pytest.raises(KeyError, match=r"none of c\.d, e"):
        corpus_cost._number({"a": 1}, ("c", "d"), ("e",))

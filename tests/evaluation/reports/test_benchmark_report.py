"""Results of benchmark cells: written and read again, also as earlier versions wrote them."""

import json
from dataclasses import replace

import pytest

from surgvista_hf.evaluation.reports.benchmark_report import CellResult, latex, markdown, summarize

CELL = CellResult(
    model="tiny",
    data="phases",
    protocol="full",
    seed=0,
    task="workflow",
    classes=["Preparation", "Dissection"],
    main_metric="image_accuracy",
    metrics={"image_accuracy": 0.75},
    results={"strict": {"image_accuracy": 0.75}},
    by_video={"a/1": 0.75},
    parameters={"trained": 1, "all": 2, "bytes": 8},
    selected_on_test=False,
    fraction=1.0,
    seconds=3.5,
    environment={"torch": "2.9"},
    predictions="predictions.parquet",
)


def test_a_cell_is_read_as_it_was_written(tmp_path):
    CELL.save(tmp_path / "cell.json")
    assert CellResult.load(tmp_path / "cell.json") == CELL


def test_cells_of_earlier_versions_are_read(tmp_path):
    CELL.save(tmp_path / "cell.json")
    content = json.loads((tmp_path / "cell.json").read_text())
    content["metrics"] = content.pop("metrics")
    (tmp_path / "cell.json").write_text(json.dumps(content))
    assert CellResult.load(tmp_path / "cell.json") == CELL


@pytest.mark.parametrize(
    ("seen", "mark", "note"),
    [
        ("seen", "tiny §", "§: the model's weights were trained on videos of this test."),
        ("maybe seen", "tiny (§)", "(§): the model's weights were trained on data that may hold videos of this test"),
        ("unknown", "tiny (?)", "(?): nobody has published all data that the model's weights were trained on."),
    ],
)
def test_tables_mark_models_that_have_or_may_have_seen_the_test_and_say_what_the_mark_means(seen, mark, note):
    rows = summarize([replace(CELL, seen=seen), replace(CELL, model="other")])
    table = markdown(rows)
    assert f"| {mark} | full |" in table
    assert "| other | full |" in table
    assert note in table
    assert mark.replace("§", r"\S{}") in latex(rows)


def test_tables_have_no_mark_where_the_test_was_not_seen():
    table = markdown(summarize([CELL]))
    assert "§" not in table
    assert "(?)" not in table


def test_folds_are_averaged_with_their_seeds_and_their_videos_stand_side_by_side():
    cells = [
        replace(CELL, fold=fold, seed=seed, metrics={"image_accuracy": value}, by_video={f"a/{fold}": value})
        for fold, values in enumerate([(0.5, 0.7), (0.8, 1.0)])
        for seed, value in enumerate(values)
    ]
    (row,) = summarize(cells)
    assert row.metrics["image_accuracy"] == (pytest.approx(0.75), pytest.approx(0.3 / 2**0.5))  # over 0.6 and 0.9
    assert row.by_video == {"a/0": pytest.approx(0.6), "a/1": pytest.approx(0.9)}
    assert [own.metrics["image_accuracy"][0] for own in row.folds] == [pytest.approx(0.6), pytest.approx(0.9)]
    text = markdown([row])
    assert "2 folds, 2 seeds averaged in each; mean and ± standard deviation over folds" in text
    assert "2 test videos" in text
    assert "| tiny | full | 1 | 1 | 90.0 ± 14.1 | 90.0 |" in text

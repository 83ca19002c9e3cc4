"""Results of benchmark cells: written and read again, also as earlier versions wrote them."""

import json

from surgvista_hf.evaluation.reports.benchmark_report import CellResult

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

"""Benchmark suites: every combination once, resumed, checked before it runs, reported with tests, tables and plots."""

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image

from surgvista_hf import load_frame_set
from surgvista_hf.cli.main import main
from surgvista_hf.evaluation.reports.benchmark_report import CellResult
from surgvista_hf.trainers.benchmark import run as benchmark
from surgvista_hf.trainers.benchmark.cells import CellError
from surgvista_hf.trainers.benchmark.suite import load_suite
from surgvista_hf.trainers.recipes.loading import SUITES, RecipeError, bundled_recipes

from .. import tiny, tiny_image_text

MODEL = {"model_type": "surgvista", **tiny.SIZES}
QUICK = {"num_train_epochs": 1, "warmup_epochs": 0, "use_cpu": True, "per_device_train_batch_size": 16}


def content(folder: Path) -> dict:
    """Return the content of a suite."""
    size = {**tiny.VIDEOS, "videos": 10, "seconds": 16}
    data = {"root": str(folder), "data_dir": "operations"}
    return {
        "prepare": {str(folder / "operations"): {"name": "synthetic", "settings": size, "short_side": 48}},
        "models": {
            "taught": {
                "finetuned": {
                    "recipe": "synthetic",
                    "model": {"config": MODEL},
                    "data": {**data, "label": "instruments"},
                    "training": QUICK,
                }
            },
            "untrained": {"config": MODEL},
        },
        "data": {
            "phases": {"recipe": "synthetic", "data": data, "training": QUICK},
            "instruments": {"recipe": "synthetic", "data": {**data, "label": "instruments"}, "training": QUICK},
        },
        "protocols": {
            "full": {"only": ["phases"]},
            "lora": {"adapter": {"method": "lora", "rank": 2}, "only": ["phases"]},
            "half": {"data": {"fraction": 0.5}, "only": ["phases"]},
            "linear": {"kind": "linear"},
            "knn": {"kind": "knn", "only": ["phases"]},
            "few": {"kind": "prototypes", "shots": 5},
            "tcn": {
                "kind": "tcn",
                "after": "full",
                "only": ["phases"],
                "tcn": {"num_layers": 3, "num_feature_maps": 8, "num_train_epochs": 2, "use_cpu": True},
            },
        },
        "seeds": [0, 1],
        "baseline": "linear",
        "output": str(folder / "results"),
    }


def write(folder: Path, changed: dict | None = None) -> Path:
    """Write a suite."""
    file = folder / "suite.yaml"
    file.write_text(yaml.safe_dump(changed or content(folder)))
    return file


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a suite."""
    folder = tmp_path_factory.mktemp("suite")
    assert main(["benchmark", str(write(folder))]) == 0
    return folder


@pytest.mark.slow
def test_every_combination_has_a_result_that_says_how_it_was_made(finished):
    cells = [CellResult.load(file) for file in (finished / "results").glob("*/*/*/*/cell.json")]
    counts = {}
    for cell in cells:
        counts[cell.data, cell.protocol] = counts.get((cell.data, cell.protocol), 0) + 1
    seeded, fixed = 4, 2  # two models, with two seeds or one
    assert counts == {
        ("phases", "full"): seeded,
        ("phases", "lora"): seeded,
        ("phases", "half"): seeded,
        ("phases", "linear"): fixed,
        ("phases", "knn"): fixed,
        ("phases", "few"): seeded,
        ("instruments", "few"): seeded,
        ("phases", "tcn"): seeded,
        ("instruments", "linear"): fixed,
    }
    for cell in cells:
        assert cell.environment["versions"]["torch"]
        assert len(cell.by_video) == 2
        assert (finished / "results" / cell.predictions).is_file()
    lora = next(cell for cell in cells if cell.protocol == "lora")
    assert lora.parameters["trained"] < 0.1 * lora.parameters["all"]
    settings = json.loads(next((finished / "results").glob("*/*/tcn/*/settings.json")).read_text())
    assert settings["protocol"]["after"] == "full"


@pytest.mark.slow
def test_the_report_has_tables_tests_and_images(finished):
    results = finished / "results"
    table = (results / "tables.md").read_text()
    assert "### phases" in table
    assert "### instruments" in table
    assert "Wilcoxon signed-rank test over videos against linear" in table
    tex = (results / "tables.tex").read_text()
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 2
    assert r"95\,\%" in tex
    summary = json.loads((results / "summary.json").read_text())
    for row in summary["rows"]:
        assert (row["test"] is None) == (row["protocol"] == "linear")
        assert row["interval"]["low"] <= row["interval"]["value"] <= row["interval"]["high"]
    images = {path.name for path in (results / "plots").iterdir()}
    assert {"phases_phase_jaccard.png", "phases_ribbons.png", "phases_data_scale.png"} <= images
    assert "phases_confusion_taught_full.png" in images
    for path in (results / "plots").iterdir():
        with Image.open(path) as image:
            assert min(image.size) > 250


@pytest.mark.slow
def test_the_same_command_runs_only_what_is_missing(finished, monkeypatch, capsys):
    before = (finished / "results" / "summary.json").read_text()
    lost = next((finished / "results" / "phases" / "taught" / "knn").glob("*/cell.json"))
    lost.unlink()
    ran = []
    monkeypatch.setattr(benchmark, "finetune", lambda *args, **kwargs: pytest.fail("a finished cell is trained again"))
    monkeypatch.setattr(
        benchmark,
        "_run_cell",
        lambda suite, cell, *rest, own=benchmark._run_cell: ran.append(cell.name) or own(suite, cell, *rest),
    )
    assert main(["benchmark", str(finished / "suite.yaml"), "--json"]) == 0
    assert ran == ["taught / phases / knn / seed 0"]
    after = json.loads(capsys.readouterr().out)
    for old, new in zip(json.loads(before)["rows"], after["rows"], strict=True):
        assert new["metrics"] == old["metrics"]


@pytest.mark.slow
def test_a_finished_cell_is_never_mixed_with_other_settings(finished, capsys):
    argv = ["benchmark", str(finished / "suite.yaml"), "protocols.lora.adapter.rank=3"]
    assert main(argv) == 1
    assert "was begun with other settings" in capsys.readouterr().err


@pytest.mark.slow
def test_a_dry_run_says_what_every_cell_would_do_and_trains_nothing(finished, capsys):
    assert main(["benchmark", str(finished / "suite.yaml"), "--dry-run", "seeds=[0,7]"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("finished") and "untrained / phases / full / seed 0" in line for line in lines)
    assert any(line.startswith("to do") and "untrained / phases / full / seed 7" in line for line in lines)
    assert not (finished / "results" / "phases" / "untrained" / "full" / "seed_7").exists()


@pytest.mark.slow
def test_what_cannot_run_is_found_before_anything_is_trained(finished, tmp_path, capsys, monkeypatch):
    broken = content(finished)
    broken["output"] = str(tmp_path / "results")
    broken["data"]["instruments"]["data"]["label"] = "tools"
    file = write(tmp_path, broken)
    monkeypatch.setattr(benchmark, "finetune", lambda *args, **kwargs: pytest.fail("trained"))
    assert main(["benchmark", str(file)]) == 1
    assert "data.label is 'tools'" in capsys.readouterr().err
    assert main(["benchmark", str(file), "--dry-run"]) == 1
    printed = capsys.readouterr()
    assert "CANNOT RUN" in printed.out
    assert "cells cannot be run" in printed.err


@pytest.mark.parametrize("name", bundled_recipes(SUITES))
def test_the_suites_of_the_package_can_be_read(name):
    suite = load_suite(name)
    count, sets = {
        "surgvista13": (13, 13),
        "surgrec16": (16, 16),
        "surgrec16_zero_shot": (16, 16),
        "lemon": (3, 2),
        "image_text": (3, 2),
        "synthetic": (3, 1),
    }[name]
    assert len(suite.data) == count
    assert len({cell.recipe.data.name for cell in suite.cells()}) == sets
    seen = {}
    for cell in suite.cells():
        if cell.requested.after:
            assert (cell.data, cell.model, cell.requested.after, cell.seed) in seen
        seen[cell.data, cell.model, cell.protocol, cell.seed] = True


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("models.taught.fintuned=1", "did you mean finetuned?"),
        ("protocols.tcn.after=linear", "must name a protocol that fine-tunes"),
        ("protocols.full.only=[steps]", "names 'steps'"),
        (
            "protocols.knn.kind=svm",
            "must be 'finetune', 'linear', 'knn', 'prototypes', 'tcn', 'pooled' or 'zero_shot'",
        ),
        ("protocols.knn.only_models=[qwen]", "only_models names 'qwen', which is not in models"),
        ("protocols.knn.head={neighbors: 3}", "did you mean num_neighbors?"),
        ("protocols.knn.zero_shot={prompt: baseline}", "did you mean prompts?"),
        ("protocols.knn.shots=5", "knn.shots is 5; it is the number of clips of each class for kind: prototypes"),
        ("protocols.few.shots=null", "few.shots is None; it is the number of clips"),
        ("protocols.few.shots=0", "few.shots"),
        ("protocols.tcn.tcn.num_layer=3", "did you mean num_layers?"),
        ("baseline=best", "the name of a model or of a protocol"),
        ("seeds=3", "seeds is 3; it must be a list"),
        ("data.phases.recipe=nowhere", "there is no recipe nowhere"),
        ("data.phases.data.labl=phase", "did you mean label?"),
        ("models=null", "models is missing"),
    ],
)
def test_what_is_no_suite_is_refused(tmp_path, change, message):
    with pytest.raises(RecipeError, match=message):
        load_suite(write(tmp_path), [change])


@pytest.mark.parametrize(
    ("protocol", "data", "message"),
    [
        (
            {"kind": "tcn"},
            "instruments",
            "MS-TCN needs one class for each frame of a video; instruments is a multi_label task",
        ),
        ({"kind": "pooled"}, "phases", "a head over whole videos needs one label a video; phases is a workflow task"),
        ({"kind": "zero_shot"}, "phases", "untrained is an untrained model"),
    ],
)
def test_a_plan_says_which_protocol_can_do_nothing_with_labels_or_model(
    tmp_path, frame_set, protocol, data, message, capsys
):
    suite = content(tmp_path)
    suite["prepare"], suite["baseline"], suite["seeds"] = {}, None, [0]
    suite["models"] = {"untrained": suite["models"]["untrained"]}
    suite["data"] = {data: suite["data"][data]}
    suite["data"][data]["data"]["data_dir"] = str(frame_set)
    suite["protocols"] = {"requested": protocol}
    assert main(["benchmark", str(write(tmp_path, suite)), "--dry-run"]) == 1
    assert message in capsys.readouterr().out


def test_a_suite_evaluates_image_text_models_beside_probes_and_aligns_their_metrics(tmp_path, frame_set, capsys):
    names = tuple(load_frame_set("synthetic", frame_set, "all").features["phase"].names)
    models = {
        "answers": {"from_pretrained": str(tiny_image_text.llava(tmp_path / "llava", names))},
        "compares": {"from_pretrained": str(tiny_image_text.contrastive(tmp_path / "clip", names, "clip"))},
        "probed": {"config": MODEL},
    }
    requested = {"max_new_tokens": 2, "every": 5}
    suite = {
        "models": models,
        "data": {
            "phases": {"recipe": "synthetic", "data": {"root": str(frame_set.parent), "data_dir": frame_set.name}}
        },
        "protocols": {
            "zero_shot": {"kind": "zero_shot", "zero_shot": requested, "only_models": ["answers", "compares"]},
            "knn": {"kind": "knn", "only_models": ["probed"], "data": {"train": "train", "validation": None}},
        },
        "output": str(tmp_path / "results"),
    }
    file = write(tmp_path, suite)
    assert main(["benchmark", str(file), "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "asks" in plan
    assert "compares" in plan
    assert main(["benchmark", str(file)]) == 0
    cells = {cell.model: cell for cell in map(CellResult.load, (tmp_path / "results").glob("*/*/*/*/cell.json"))}
    assert set(cells) == set(models)
    assert cells["answers"].results["zero_shot"]["prompts"].keys() == {"baseline", "stability_v1"}
    assert cells["answers"].parameters["trained"] == 0
    assert (tmp_path / "results" / cells["answers"].predictions).is_file()
    header, _, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in (tmp_path / "results" / "tables.md").read_text().splitlines()
        if line.startswith("|")
    ]
    assert all(len(row) == len(header) for row in rows)
    table = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert table["answers"]["phase jaccard"] == table["probed"]["prompt sensitivity"] == ""
    for model, cell in cells.items():
        assert table[model]["image accuracy"] == f"{100 * cell.metrics['image_accuracy']:.1f}"
    assert main(["benchmark", str(file), "--json"]) == 0  # finished: nothing is asked again


@pytest.mark.parametrize("video", [False, True])
def test_a_suite_scores_surgical_image_text_models_by_texts_and_by_a_few_clips(tmp_path, frame_set, capsys, video):
    data = {"root": str(frame_set.parent), "data_dir": frame_set.name, "train": "train", "validation": None}
    suite = {
        "models": {
            "surgical": {"from_pretrained": str(tiny_image_text.surgical_clip(tmp_path / "model", video=video))}
        },
        "data": {
            name: {"recipe": "synthetic", "data": {**data, "label": label, "frame_stride": 2}}
            for name, label in (("phases", "phase"), ("triplets", "triplets"))
        },
        "protocols": {
            "zero_shot": {"kind": "zero_shot", "zero_shot": {"num_frames": 3, "frame_stride": 2, "every": 4}},
            "few": {"kind": "prototypes", "shots": 1},
        },
        "seeds": [0, 1],
        "output": str(tmp_path / "results"),
    }
    file = write(tmp_path, suite)
    assert main(["benchmark", str(file), "--dry-run"]) == 0
    assert "clips of 3 frames" in capsys.readouterr().out
    assert main(["benchmark", str(file)]) == 0
    cells = [CellResult.load(each) for each in (tmp_path / "results").glob("*/*/*/*/cell.json")]
    found = {(cell.data, cell.protocol, cell.seed): cell for cell in cells}
    assert set(found) == {
        (data, *rest) for data in ("phases", "triplets") for rest in (("zero_shot", 0), ("few", 0), ("few", 1))
    }
    for (data, protocol, _), cell in found.items():
        assert cell.parameters["trained"] == 0 < cell.parameters["all"]
        assert cell.main_metric in cell.metrics
        assert cell.main_metric == ("image_accuracy" if data == "phases" else "ap_ivt")
        assert ("zero_shot" in cell.results) == (protocol == "zero_shot")
    draws = [(tmp_path / "results" / found["phases", "few", seed].predictions).read_bytes() for seed in (0, 1)]
    assert draws[0] != draws[1]  # other clips of each class


@pytest.mark.slow
def test_a_cell_that_is_given_several_devices_trains_in_several_processes(frame_set, tmp_path):
    changed = content(tmp_path)
    del changed["prepare"]
    changed |= {"models": {"untrained": {"config": MODEL}}, "protocols": {"full": {}}, "seeds": [0], "baseline": None}
    data = {"root": str(frame_set.parent), "data_dir": frame_set.name, "on_overlap": "warn"}
    everything = {"train": "all", "validation": None, "test": "all"}
    changed["data"] = {"phases": {"recipe": "synthetic", "data": {**data, **everything}, "training": QUICK}}
    [cell] = load_suite(write(tmp_path, changed)).cells()
    found = benchmark._finetune(cell.recipe, 2)
    state = json.loads(next(cell.folder.glob("checkpoint-*/trainer_state.json")).read_text())
    assert state["global_step"] == 2  # 60 clips, 16 in each of two processes
    assert found.metrics == json.loads((cell.folder / "results.json").read_text())["metrics"]
    assert found.by_video
    (cell.folder / "results.json").unlink()
    (cell.folder / "made_from.json").write_text('{"format": 2, "data": "another"}')
    with pytest.raises(CellError, match="begun with other settings"):
        benchmark._finetune(cell.recipe, 2)

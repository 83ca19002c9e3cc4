"""The script for a GPU runs on a CPU in tiny sizes, keeps to its time, and loses no result to a part that fails."""

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import on_gpu
from benchmarks.gpu_parts import FULL, NO_GPU, PARTS, TINY, Report, read_outcomes

REPOSITORY = Path(__file__).resolve().parents[2]


def report(folder: Path, seconds: float = 300.0) -> Report:
    return Report(folder / "report.json", time.monotonic() + seconds)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what the parts read."""
    folder = tmp_path_factory.mktemp("work")
    PARTS["prepare"](report(folder), TINY, folder)
    return folder


def run(name: str, work: Path, folder: Path) -> dict:
    """Run a part in this process, and return what it has written."""
    threads = torch.get_num_threads()
    PARTS[name](report(folder), TINY, work)
    torch.set_num_threads(threads)
    return json.loads((folder / "report.json").read_text())


# ------------------------------------------------------------------------------------------- parts


@pytest.mark.slow
def test_models_are_measured_without_and_with_teacher_and_beside_transformers(work, tmp_path):
    results = run("models", work, tmp_path)
    assert {name for name, result in results.items() if "error" in result} == set()
    without, with_teacher = results["without teacher"], results["with teacher"]
    for result in (without, with_teacher, results["with teacher in fp8"]):
        assert result["clips_per_second"] == pytest.approx(TINY.batch / result["seconds_a_step"], rel=0.02, abs=0.06)
    assert with_teacher["gflop_a_clip"] > without["gflop_a_clip"] > 0
    assert results["VideoMAE"]["pretraining"]["surgvista_over_videomae"]["median"] > 0
    assert results["V-JEPA"]["context_tokens"] < results["V-JEPA"]["all_tokens"]
    if not torch.cuda.is_available():
        assert results["without teacher, compiled"] == NO_GPU


@pytest.mark.slow
def test_the_loader_and_the_trainer_are_measured(work, tmp_path):
    results = run("loader", work, tmp_path)
    assert set(results["clips_per_second"]) == {str(workers) for workers in TINY.workers}
    assert all(rate > 0 for rate in results["clips_per_second"].values())
    for name in ("trainer without teacher", "trainer with teacher"):
        assert results[name]["steps"] > 0
        assert results[name]["clips_per_second"] > 0


def test_whole_videos_are_predicted_by_batch_size_against_the_plain_loop(work, tmp_path):
    results = run("prediction", work, tmp_path)
    names = {"plain loop", "decoding alone", "float32, 8 clips at a time"}
    names |= {f"bfloat16, {batch} clips at a time" for batch in TINY.prediction_batches}
    assert set(results["frames_per_second"]) == names
    assert results["warmed_up"]
    assert results["plain_loop_over"]["float32, 8 clips at a time"]["median"] > 1  # overlapping clips are decoded once


@pytest.mark.slow
def test_pre_training_keeps_to_its_time_and_is_compared_with_the_untrained_encoder(work, tmp_path):
    results = run("pretraining", work, tmp_path)
    training = results["training"]
    assert training["steps"] * TINY.rendered.recipe["training.per_device_train_batch_size"] == training["clips"] > 0
    assert training["steps"] <= results["calibration"]["planned_steps"]
    assert all(math.isfinite(loss) for loss in training["losses"])
    probes = [results[f"linear probe, {name}"]["accuracy"] for name in ("untrained", "pre-trained")]
    assert probes[0] != probes[1]  # they are of different encoders
    assert all(0 < accuracy <= 1 for accuracy in probes)


def test_the_full_run_is_at_the_sizes_that_the_goals_are_stated_for():
    assert FULL.encoder == {}  # the defaults, which are ViT-B
    assert (FULL.teacher["hidden_size"], FULL.teacher["num_hidden_layers"]) == (1024, 24)  # ViT-L
    recipe = FULL.rendered.recipe
    assert (recipe["model.hidden_size"], recipe["model.num_hidden_layers"]) == (384, 12)  # ViT-S
    assert max(FULL.workers) == 16
    assert sum(max(stage.values()) for stage in on_gpu.STAGES) <= on_gpu.LIMIT_SECONDS == 480


def test_outcomes_of_tests_are_read_with_their_reasons(tmp_path):
    (tmp_path / "test_some.py").write_text(
        "import pytest\ndef test_good(): pass\ndef test_bad(): assert 1 == 2\n"
        "def test_not_here(): pytest.skip('no device')\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--junitxml=outcomes.xml",
        "test_some.py",
    ]
    subprocess.run(command, cwd=tmp_path, capture_output=True)
    outcomes = read_outcomes(tmp_path / "outcomes.xml")
    assert outcomes["test_some::test_good"] == "passed"
    assert outcomes["test_some::test_bad"].startswith("failed: ")
    assert outcomes["test_some::test_not_here"] == "skipped: no device"


# ------------------------------------------------------------------------------------------- measurements


def test_a_measurement_that_fails_is_recorded_and_the_next_one_runs(tmp_path):
    def fails() -> None:
        raise ValueError("too large")

    own = report(tmp_path)
    own.measure("first", fails)
    own.measure("second", lambda: 2)
    assert json.loads(own.path.read_text()) == {"first": {"error": "ValueError: too large"}, "second": 2}


def test_a_measurement_that_no_time_is_left_for_is_noted(tmp_path):
    own = report(tmp_path, seconds=5)
    own.measure("long", lambda: pytest.fail("there was no time for this"), needs=60)
    assert own.content["long"].startswith("skipped: ")


# ------------------------------------------------------------------------------------------- runner


PROGRAMS = {
    "fails": "import sys; print('the reason'); sys.exit(3)",
    "hangs": (
        "import pathlib, subprocess, sys, time; pathlib.Path(sys.argv[1]).write_text('{\"so far\": 1}')\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "pathlib.Path(sys.argv[1] + '.pid').write_text(str(child.pid)); time.sleep(60)"
    ),
    "works": 'import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(\'{"without teacher": {"clips_per_second": 700}}\')',
}


@pytest.fixture
def parts(monkeypatch) -> None:
    """Replace the parts by short programs."""

    def command(name: str, output: Path, work: Path, deadline: float, *, tiny: bool) -> list[str]:
        return [sys.executable, "-c", PROGRAMS[name], str(output)]

    monkeypatch.setattr(on_gpu, "part_command", command)
    monkeypatch.setattr(on_gpu, "STAGES", [{"fails": 1.0, "hangs": 1.0}, {"works": 3.0}])


def test_parts_that_fail_or_take_too_long_are_recorded_and_the_others_go_on(parts, tmp_path):
    began = time.monotonic()
    results = on_gpu.measure(tmp_path / "out.json", tmp_path, list(PROGRAMS), seconds=6.0, tiny=True)
    assert time.monotonic() - began < 30
    assert results["parts"]["fails"]["state"] == "failed"
    assert results["parts"]["fails"]["error"] == "the reason"
    assert results["parts"]["hangs"]["state"] == "cut"
    assert results["parts"]["hangs"]["results"] == {"so far": 1}
    assert results["parts"]["works"]["state"] == "done"
    assert json.loads((tmp_path / "out.json").read_text()) == results


def test_the_workers_of_a_part_that_is_cut_end_with_it(parts, tmp_path):
    part = on_gpu.RunningPart("hangs", tmp_path, 3.0, tiny=True)
    part.finish()
    child = Path(f"/proc/{(tmp_path / 'hangs.json.pid').read_text()}/stat")
    for _ in range(100):
        if not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("a worker of the part is still at work")


def test_goals_stand_beside_the_best_variant():
    found = on_gpu.compare_with_goals(
        {
            "without teacher": {"clips_per_second": 590.0, "mfu_of_bf16_peak": 0.15},
            "without teacher, compiled": {"clips_per_second": 720.0, "mfu_of_bf16_peak": 0.18},
            "with teacher": {"error": "out of memory"},
            "with teacher, compiled": "skipped: 3 s left, 15 s needed",
        }
    )
    assert found["clips per second without teacher"] == {
        "at_least": 600.0,
        "measured": 720.0,
        "variant": "without teacher, compiled",
        "reached": True,
    }
    assert found["MFU without teacher"]["reached"] is False
    assert found["clips per second with teacher"]["measured"] is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_only_the_tiny_size_runs(tmp_path, capsys):
    assert on_gpu.main(["--output", str(tmp_path / "out.json")]) == 2
    assert "--tiny" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


@pytest.mark.slow
def test_the_whole_program_runs_in_the_tiny_size(tmp_path):
    output = tmp_path / "out.json"
    command = [sys.executable, "-m", "benchmarks.on_gpu", "--tiny", "--output", str(output)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads(output.read_text())
    assert {name: part["state"] for name, part in results["parts"].items()} == dict.fromkeys(on_gpu.PARTS, "done")
    assert results["goals"]["clips per second with teacher"]["measured"] > 0
    assert results["machine"]["torch"] == torch.__version__

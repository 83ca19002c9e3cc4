"""Requirements of a run are checked before anything is rendered, loaded or trained."""

import sys
from pathlib import Path

import pytest

from surgvista_hf.cli.main import main
from surgvista_hf.modeling import adapters
from surgvista_hf.trainers.benchmark.run import check_suite
from surgvista_hf.trainers.benchmark.suite import load_suite
from surgvista_hf.trainers.recipes import requirements
from surgvista_hf.trainers.recipes.loading import RecipeError

# There is no frame set, so what is said of a package was said before one was looked for.
FINETUNE = ["finetune", "synthetic", "data.root=nowhere", "training.use_cpu=true"]
PRETRAIN = ["pretrain", "surgvista_synthetic", "data.root=nowhere", "training.use_cpu=true"]


@pytest.mark.parametrize(
    ("package", "argv", "message"),
    [
        ("peft", [*FINETUNE, "adapter.method=lora"], "needs peft: pip install 'surgvista-hf[peft]'"),
        ("peft", [*FINETUNE, "adapter.method=ia3"], "needs peft"),
        ("bitsandbytes", [*FINETUNE, "adapter.method=probe", "adapter.bits=8"], "needs bitsandbytes"),
        ("tensorboard", [*FINETUNE, "training.report_to=tensorboard"], "pip install 'surgvista-hf[log]'"),
        ("trackio", [*PRETRAIN, "training.report_to=[trackio]"], "needs trackio"),
        ("wandb", [*PRETRAIN, "training.report_to=wandb"], "needs wandb: pip install wandb"),
        ("galore_torch", [*PRETRAIN, "training.optim=galore_adamw"], "galore"),
        ("liger_kernel", [*FINETUNE, "training.use_liger_kernel=true"], "needs liger-kernel"),
        ("ray", ["prepare", "synthetic", "--check", "--executor", "ray"], "pip install 'surgvista-hf[ray]'"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_a_missing_package_is_named_by_the_check_and_by_the_run(
    package, argv, message, check, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    preparing = argv[0] == "prepare"
    argv = [word for word in argv if word != "--check"]
    extra = ["--check"] if check else ["--output", "out"] if preparing else []
    assert main([*argv, *extra]) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not any(tmp_path.rglob("*.arrow"))


def test_a_dry_run_names_the_cell_that_lacks_a_package(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "peft", None)
    assert main(["benchmark", "synthetic", "--dry-run"]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "/ lora /" in line]
    assert line.startswith("CANNOT RUN")
    assert "needs peft" in line


def test_a_suite_asks_for_everything_before_it_renders_anything(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "peft", None)
    assert main(["benchmark", "synthetic"]) == 1
    assert (
        "triplet_encoder / phases / lora / seed 0: an adapter (LoRA, DoRA, IA3) needs peft" in capsys.readouterr().err
    )
    assert {path.suffix for path in tmp_path.rglob("*.*")} <= {".log"}


def test_a_suite_asks_for_the_logs_of_heads_and_of_models_that_are_made_first(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for word in (
        "protocols.tcn.tcn.report_to=tensorboard",
        "models.triplet_encoder.finetuned.training.report_to=tensorboard",
    ):
        with pytest.raises(RecipeError, match="needs tensorboard"):
            check_suite(load_suite("synthetic", [word]))


def test_the_demo_asks_for_everything_before_it_renders_anything(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "peft", None)
    assert main(["demo"]) == 1
    assert "needs peft" in capsys.readouterr().err
    assert {path.suffix for path in tmp_path.rglob("*.*")} <= {".log"}


def test_a_device_that_cannot_compute_in_few_bits_is_told_before_training(monkeypatch, capsys, tmp_path):
    class Broken:
        """Stands in for a layer whose kernels cannot be loaded."""

        def __init__(self, *args: object, **options: object) -> None:
            raise RuntimeError("no kernel for this device")

    import bitsandbytes

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bitsandbytes.nn, "Linear4bit", Broken)
    assert main([*FINETUNE, "adapter.method=lora", "adapter.bits=4"]) == 1
    assert "weights in 4 bits cannot be computed on" in capsys.readouterr().err
    adapters.check_bits(8)


def test_a_model_that_no_memory_holds_is_refused_without_filling_it(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*PRETRAIN, "model.hidden_size=524288", "model.num_hidden_layers=500"]) == 1
    assert "describes a model of" in capsys.readouterr().err


def test_compiling_needs_a_compiler(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(requirements.shutil, "which", lambda name: None)
    assert main([*PRETRAIN, "training.torch_compile=true"]) == 1
    assert "training.torch_compile needs a C++ compiler" in capsys.readouterr().err


def test_a_check_of_pre_training_says_what_would_be_trained(frame_set: Path, capsys, tmp_path):
    argv = [f"data.sources.0.data_dir={frame_set}", "data.sources.0.split=all", "training.use_cpu=true"]
    assert main(["pretrain", "surgvista_synthetic", *argv, f"training.output_dir={tmp_path}/run", "--check"]) == 0
    assert "60 clips of synthetic; 60 an epoch, 24 an update, 5 epochs" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_a_study_checks_every_variant_and_trains_nothing(frame_set: Path, capsys, tmp_path):
    recipe = ["surgvista_synthetic", f"data.sources.0.data_dir={frame_set}", "training.use_cpu=true"]
    probe = ["--probe", f"synthetic={frame_set}", "--output", str(tmp_path / "study"), "--dry-run", "--seeds", "1"]
    smaller = "training.per_device_train_batch_size=8"
    assert main(["study", "data-scale", *recipe, smaller, *probe]) == 0
    said = capsys.readouterr().out
    assert said.count("to do") == 4
    assert "D / seed 0: SurgVistaForPreTraining from scratch" in said
    assert main(["study", "data-scale", *recipe, *probe]) == 1
    said = capsys.readouterr()
    assert "CANNOT RUN  A / seed 0: one update needs 24 clips; an epoch has 20" in said.out
    assert "cells cannot be run" in said.err
    assert main(["study", "data-scale", *recipe, *probe, "--label", "color"]) == 1
    assert "color" in capsys.readouterr().err
    assert main(["study", "distillation", *recipe, smaller, *probe, "--teacher", "nowhere"]) == 1
    assert "CANNOT RUN  with teacher / seed 0: the teacher nowhere" in capsys.readouterr().out
    assert not (tmp_path / "study").exists()

"""A run, a cell, a study, an answer belongs to the data and the weights it was made from, whatever these are called."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from surgvista_hf import load_frame_set
from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.modeling.errors_surgvista import SurgVistaError
from surgvista_hf.trainers import finetune, pretrain
from surgvista_hf.trainers.benchmark import run as benchmark
from surgvista_hf.trainers.benchmark import studies
from surgvista_hf.trainers.benchmark import zero_shot as zero_shot_module
from surgvista_hf.trainers.benchmark.suite import load_suite
from surgvista_hf.trainers.benchmark.zero_shot import ZeroShotSettings, zero_shot
from surgvista_hf.trainers.common.identity import FILE
from surgvista_hf.trainers.features.extraction import VideoFeatureExtractor, load_video_features
from surgvista_hf.trainers.finetuning.recipe import load_finetuning_recipe
from surgvista_hf.trainers.pretraining.recipe import load_recipe
from surgvista_hf.util.files import OutputError, at_work

from ...modeling.conversion.families import encoder
from .. import tiny, tiny_image_text
from ..benchmark.test_zero_shot import phases

SMALL = {**tiny.VIDEOS, "videos": "10", "seconds": "16"}
TRAINING = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "max_steps": 2, "warmup_epochs": 0}


def prepared(folder: Path, seed: int = 0) -> Path:
    """Prepare operations under the same names; other ones for another seed."""
    shutil.rmtree(folder, ignore_errors=True)
    prepare_frame_set("synthetic", None, folder, settings={**SMALL, "seed": str(seed)})
    return folder


@pytest.fixture
def operations(tmp_path: Path) -> Path:
    """Prepare the operations that most tests share."""
    return prepared(tmp_path / "operations")


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """Save the model that runs start from."""
    return Path(encoder("surgvista", tmp_path / "start"))


def retrained(folder: Path) -> None:
    """Save the same kind of model with other weights in the same folder."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    next(iter(tensors.values())).view(-1)[0] += 1e-3
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


class Stopped(Exception):
    """Stands for the training that would begin."""


@pytest.fixture
def no_training(monkeypatch):
    """Stop runs where they would train, in a folder that is theirs."""

    def stop(*args, **kwargs):
        """Leave the run."""
        raise Stopped

    monkeypatch.setattr(finetune, "_finetune", stop)
    monkeypatch.setattr("surgvista_hf.trainers.common.clip_trainer.ClipTrainer.train", stop)


# ------------------------------------------------------------------------------------------- fine-tuning


def finetuning(operations: Path, start: Path, output: Path, *changes: str):
    """Return a recipe of fine-tuning."""
    return load_finetuning_recipe(
        "synthetic",
        [
            f"model={{from_pretrained: {start}}}",
            f"data.root={operations.parent}",
            f"data.data_dir={operations.name}",
            f"training.output_dir={output}",
            *(f"training.{name}={json.dumps(value)}" for name, value in TRAINING.items()),
            *changes,
        ],
    )


def test_a_finished_run_is_not_reported_for_other_data_and_nothing_of_it_is_lost(operations, start, tmp_path, capsys):
    recipe = finetuning(operations, start, tmp_path / "run")
    finetune.finetune(recipe, progress=False)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    prepared(operations, seed=77)
    with pytest.raises(
        OutputError, match=r"data\.content\.train was operations \(6 videos \w+\), is now operations \(6 "
    ):
        finetune.finetune(recipe, progress=False)
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


@pytest.mark.usefixtures("no_training")
def test_a_half_finished_run_is_not_gone_on_with_from_other_weights(operations, start, tmp_path):
    recipe = finetuning(operations, start, tmp_path / "run")
    with pytest.raises(Stopped):
        finetune.finetune(recipe)
    retrained(start)
    with pytest.raises(OutputError, match=r"model\.from_pretrained was start \(\w+\), is now start \(\w+\)"):
        finetune.finetune(recipe)


@pytest.mark.usefixtures("no_training")
def test_data_and_weights_may_be_moved_and_the_training_be_changed(operations, start, tmp_path):
    with pytest.raises(Stopped):
        finetune.finetune(finetuning(operations, start, tmp_path / "run"))
    operations, start = operations.rename(tmp_path / "elsewhere"), start.rename(tmp_path / "renamed")
    run = (tmp_path / "run").rename(tmp_path / "moved")
    assert str(tmp_path) not in (run / FILE).read_text()
    with pytest.raises(Stopped):
        finetune.finetune(finetuning(operations, start, run, "training.max_steps=5", "training.learning_rate=1e-5"))


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("change", ["data.label=instruments", "data.fraction=0.5", "adapter.method=probe"])
def test_a_run_is_not_gone_on_with_for_another_purpose(operations, start, tmp_path, change):
    with pytest.raises(Stopped):
        finetune.finetune(finetuning(operations, start, tmp_path / "run"))
    with pytest.raises(OutputError, match="was begun with other settings"):
        finetune.finetune(finetuning(operations, start, tmp_path / "run", change))


@pytest.mark.usefixtures("no_training")
def test_a_run_belongs_to_its_videos_and_not_to_the_name_of_the_file_that_lists_them(operations, start, tmp_path):
    for name in ("folds", "renamed"):
        words = ["split", f"synthetic={operations}", "--folds", "3", "--output", str(tmp_path / f"{name}.yaml")]
        assert main(words) == 0
    for name in ("folds", "renamed"):
        changes = [f"data.split_file={tmp_path / name}.yaml", "data.fold=0"]
        with pytest.raises(Stopped):
            finetune.finetune(finetuning(operations, start, tmp_path / "run", *changes))
    for changes in ([f"data.split_file={tmp_path / 'folds'}.yaml", "data.fold=1"], []):
        known = r"operations by folds\.yaml, fold 1" if changes else "operations"
        with pytest.raises(OutputError, match=rf"was operations by folds\.yaml, fold 0 \(.*, is now {known} \("):
            finetune.finetune(finetuning(operations, start, tmp_path / "run", *changes))


@pytest.mark.usefixtures("no_training")
def test_checkpoints_of_an_earlier_version_need_somebody_who_vouches_for_them(operations, start, tmp_path):
    recipe = finetuning(operations, start, tmp_path / "run")
    (tmp_path / "run" / "checkpoint-3").mkdir(parents=True)
    (tmp_path / "run" / "checkpoint-3" / "complete").write_text("")
    with pytest.raises(OutputError, match=r"did not note which data and weights.* write \{\} into"):
        finetune.finetune(recipe)
    (tmp_path / "run" / FILE).write_text("{}")
    with pytest.raises(Stopped):
        finetune.finetune(recipe)
    prepared(operations, seed=77)
    with pytest.raises(OutputError, match="other settings"):
        finetune.finetune(recipe)


def test_two_runs_in_one_folder_end_in_one_line(operations, start, tmp_path, capsys):
    argv = [f"training.{name}={json.dumps(value)}" for name, value in TRAINING.items()]
    argv += [
        f"data.data_dir={operations}",
        f"training.output_dir={tmp_path / 'run'}",
        f"model={{from_pretrained: {start}}}",
    ]
    with at_work(tmp_path / "run"):
        assert main(["finetune", "synthetic", *argv]) == 1
    assert (
        capsys.readouterr()
        .err.strip()
        .splitlines()[-1]
        .startswith("surgvista finetune: error: another run is at work")
    )


# ------------------------------------------------------------------------------------------- pre-training, studies


def pretraining(operations: Path, teacher: Path, output: Path) -> Path:
    """Write a recipe of pre-training and return its file."""
    sizes = tiny.model().config.to_diff_dict()
    no_field = ("transformers_version", "model_type", "dtype")
    content = {
        "model": {name: value for name, value in sizes.items() if name not in no_field},
        "teacher": {"name": str(teacher)},
        "data": {"frame_stride": 2, "sources": [{"name": "synthetic", "data_dir": str(operations)}]},
        "training": {**TRAINING, "per_device_train_batch_size": 8, "output_dir": str(output)},
    }
    file = output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """Save an image teacher."""
    tiny.teacher().model.save_pretrained(tmp_path / "teacher")
    return tmp_path / "teacher"


@pytest.mark.usefixtures("no_training")
def test_pretraining_is_not_gone_on_with_under_another_teacher_or_on_another_corpus(operations, teacher, tmp_path):
    recipe = load_recipe(pretraining(operations, teacher, tmp_path / "run"))
    for _ in range(2):
        with pytest.raises(Stopped):
            pretrain.pretrain(recipe)
    prepared(operations, seed=77)
    with pytest.raises(
        OutputError, match=r"data\.content\.0 synthetic was operations \(6 videos \w+\), is now operations"
    ):
        pretrain.pretrain(recipe)
    prepared(operations)
    retrained(teacher)
    with pytest.raises(OutputError, match=r"teacher\.weights was teacher \(\w+\), is now teacher \(\w+\)"):
        pretrain.pretrain(recipe)


def test_a_study_does_not_compare_variants_of_other_data(operations, teacher, tmp_path, monkeypatch, capsys):
    def stop(recipe):
        """Leave the run."""
        raise Stopped

    monkeypatch.setattr(studies, "pretrain", stop)
    requested = prepared(tmp_path / "requested", seed=3)
    file = pretraining(operations, teacher, tmp_path / "run")
    content = yaml.safe_load(file.read_text())
    del content["training"]["output_dir"]
    file.write_text(yaml.safe_dump(content))
    probe = studies.ProbeSet("synthetic", str(requested))
    variants = studies.data_scale({"A": 0.5, "B": 1.0})

    def run():
        """Run the study."""
        studies.run_study(studies.Study(file, [], variants, probe, tmp_path / "study", seeds=1))

    monkeypatch.setattr(studies, "check_probe_overlap", lambda *args: None)
    for _ in range(2):
        with pytest.raises(Stopped):
            run()
    prepared(requested, seed=4)
    with pytest.raises(OutputError, match=r"probe\.data_dir was requested \(.* is now requested \("):
        run()
    prepared(requested, seed=3)
    prepared(operations, seed=77)
    with pytest.raises(OutputError, match=r"recipe\.data\.content\.0 synthetic was operations"):
        run()


# ------------------------------------------------------------------------------------------- features


def test_features_of_changed_frames_are_computed_anew_and_those_of_others_kept(tmp_path, start, monkeypatch, caplog):
    frames = prepared(tmp_path / "frames")
    extractor = VideoFeatureExtractor(start, frame_stride=2)
    whole = load_frame_set("synthetic", frames, "all")
    extractor.extract(whole.select(range(48)), tmp_path / "features", label="phase", progress=False)
    before = {video.name: video.values for video in load_video_features(tmp_path / "features")}
    done = []
    monkeypatch.setattr(
        VideoFeatureExtractor,
        "_video",
        lambda self, *args, own=VideoFeatureExtractor._video: done.append(args[3]) or own(self, *args),
    )
    changed = whole.select(range(48)).map(
        lambda row, number: {"phase": row["phase"] + (number == 20)}, with_indices=True, keep_in_memory=True
    )
    extractor.extract(changed, tmp_path / "features", label="phase", progress=False)
    assert "operation_000001" in done
    assert "has other frames or labels than before" in caplog.text
    assert before.keys() == {video.name for video in load_video_features(tmp_path / "features")}


def test_features_of_a_frame_set_that_was_prepared_anew_are_computed_anew(tmp_path, start):
    frames = prepared(tmp_path / "frames")
    argv = ["extract-features", str(start), "--data", f"synthetic={frames}", "--frame-stride", "2"]
    argv += ["--output", str(tmp_path / "features")]
    assert main(argv) == 0
    before = {file: file.read_bytes() for file in (tmp_path / "features").glob("*/*.arrow")}
    assert main(argv) == 0
    assert before == {file: file.read_bytes() for file in (tmp_path / "features").glob("*/*.arrow")}
    prepared(frames, seed=77)
    assert main(argv) == 0
    assert not set(before.values()) & {file.read_bytes() for file in (tmp_path / "features").glob("*/*.arrow")}


def test_features_of_namesakes_in_another_frame_set_or_of_a_retrained_model_are_refused(tmp_path, start, capsys):
    one, two = prepared(tmp_path / "one"), prepared(tmp_path / "two", seed=77)
    argv = ["extract-features", str(start), "--frame-stride", "2", "--output", str(tmp_path / "features")]
    assert main([*argv, "--data", f"synthetic={one}"]) == 0
    before = {file: file.read_bytes() for file in (tmp_path / "features").glob("*/*.arrow")}
    assert main([*argv, "--data", f"synthetic={two}"]) == 1
    assert "holds synthetic/operation_000000 of another folder, one (" in capsys.readouterr().err
    retrained(start)
    assert main([*argv, "--data", f"synthetic={one}"]) == 1
    assert "model was start (" in capsys.readouterr().err
    assert before == {file: file.read_bytes() for file in (tmp_path / "features").glob("*/*.arrow")}


# ------------------------------------------------------------------------------------------- suites


def suite(tmp_path: Path, start: Path, operations: Path):
    """Write a suite."""
    data = {"root": str(operations.parent), "data_dir": operations.name}
    content = {
        "models": {"own": {"from_pretrained": str(start)}},
        "data": {"phases": {"recipe": "synthetic", "data": data, "training": TRAINING}},
        "protocols": {"full": {}, "linear": {"kind": "linear"}, "tcn": {"kind": "tcn", "after": "full"}},
        "seeds": [0],
        "output": str(tmp_path / "results"),
    }
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump(content))
    return load_suite(str(file))


@pytest.fixture
def cells(monkeypatch):
    """Return the names of the cells that are run; each leaves a model."""
    ran = []

    def run(suite, cell, processes):
        """Leave a model and a result instead of training."""
        ran.append(cell.name)
        (cell.folder / "model").mkdir(exist_ok=True)
        (cell.folder / "model" / "config.json").write_text(json.dumps({"trained": len(ran)}))
        return benchmark.CellResult(
            model=cell.model,
            data=cell.data,
            protocol=cell.protocol,
            task="workflow",
            classes=[],
            main_metric="video_accuracy",
            metrics={},
            results={},
            by_video={},
            parameters={},
        )

    monkeypatch.setattr(benchmark, "_run_cell", run)
    monkeypatch.setattr(benchmark, "write_report", lambda *args, **kwargs: None)
    return ran


def test_cells_of_a_suite_are_not_taken_for_those_of_other_data_or_models(tmp_path, start, operations, cells):
    requested = suite(tmp_path, start, operations)
    for _ in range(2):
        benchmark.run_suite(requested)
    assert len(cells) == 3
    prepared(operations, seed=77)
    with pytest.raises(SurgVistaError, match=r"recipe\.data\.content\.train was operations \(6 videos"):
        benchmark.run_suite(requested)
    state = benchmark.plan_suite(requested)[0]
    assert (state.state, state.broken) == ("finished", True)
    assert "was begun with other settings" in state.plan
    prepared(operations)
    retrained(start)
    with pytest.raises(SurgVistaError, match=r"recipe\.model\.from_pretrained was start \(\w+\), is now start"):
        benchmark.run_suite(requested)
    assert len(cells) == 3


def test_a_cell_over_features_belongs_to_the_model_that_gave_them(tmp_path, start, operations, cells):
    requested = suite(tmp_path, start, operations)
    benchmark.run_suite(requested)
    shutil.rmtree(tmp_path / "results" / "phases" / "own" / "full")
    with pytest.raises(OutputError, match=r"tcn.*features_of was full \(\w+\), is now full \(\w+\)"):
        benchmark.run_suite(requested)
    assert cells[3:] == ["own / phases / full / seed 0"]


# ------------------------------------------------------------------------------------------- zero-shot


def test_answers_about_other_frames_or_of_another_model_are_not_taken_for_done(tmp_path, monkeypatch):
    frames = prepared(tmp_path / "frames")
    names = tuple(load_frame_set("synthetic", frames, "all").features["phase"].names)
    (tmp_path / "llava").mkdir()
    model = tiny_image_text.llava(tmp_path / "llava", names)
    settings = ZeroShotSettings(every=16, max_new_tokens=2, prompts=("baseline",))

    def evaluate():
        """Evaluate the model on the frames."""
        zero_shot(model, phases(frames), tmp_path / "answers", settings, progress=False)

    evaluate()
    monkeypatch.setattr(zero_shot_module._GenerativeModel, "answer", lambda *args: pytest.fail("asked again"))
    evaluate()
    before = (tmp_path / "answers" / "answers.jsonl").read_bytes()
    prepared(frames, seed=77)
    with pytest.raises(OutputError, match=r"data\.content was frames \(10 videos \w+\), is now frames \(10 videos"):
        evaluate()
    prepared(frames)
    retrained(Path(model))
    with pytest.raises(OutputError, match=r"model was \w+ \(\w+\), is now \w+ \(\w+\)"):
        evaluate()
    assert (tmp_path / "answers" / "answers.jsonl").read_bytes() == before

"""The examples do what their first lines say, on rendered operations, without a network."""

import ast
import json
import runpy
import sys
from pathlib import Path

import av
import matplotlib
import matplotlib.pyplot as plt
import pytest

from surgvista_hf import SurgVistaConfig, SurgVistaForVideoClassification, SurgVistaVideoProcessor
from surgvista_hf.datasets_scripts.synthetic.surgery import synthetic_corpus, write_video

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(name: str, *arguments: object) -> None:
    """Run a script as `python examples/name.py …` does, without paying for another process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def classifier(folder: Path, labels: tuple[str, ...], num_frames: int = 2) -> Path:
    """Save a tiny classifier that has learned nothing, with its processor."""
    sizes = {"image_size": 32, "num_frames": num_frames, "hidden_size": 32, "num_hidden_layers": 1}
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: n for n, label in enumerate(labels)}}
    config = SurgVistaConfig(**sizes, num_attention_heads=2, classifier_init_scale=1.0, **names)
    SurgVistaForVideoClassification(config).save_pretrained(folder)
    processor = SurgVistaVideoProcessor(size={"height": 32, "width": 32}, num_frames=num_frames, frame_stride=1)
    processor.save_pretrained(folder)
    return folder


def rendered(path: Path, seconds: int = 14) -> Path:
    (operation,) = synthetic_corpus(1, 3, duration_seconds=seconds, frames_per_second=5.0)
    path.parent.mkdir(exist_ok=True)
    return write_video(operation, path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_short_and_begins_with_what_it_shows_and_what_it_needs(script):
    text = script.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    explained = ast.get_docstring(ast.parse(text))
    assert "Needs" in explained
    assert f"python examples/{script.name}" in explained


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_begins_with_what_it_shows_and_what_it_needs_and_holds_no_output(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    explained = "".join(cells[0]["source"])
    assert explained.startswith("# ")
    assert "Shows" in explained
    assert "Needs" in explained
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []


def test_every_example_is_named_in_the_documentation():
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [file.name for file in (*SCRIPTS, *NOTEBOOKS) if f"({file.name})" not in page] == []


def test_predict_video_writes_a_table_a_timeline_and_a_report(tmp_path, capsys):
    model = classifier(tmp_path / "model", ("Preparation", "Dissection"))
    run("predict_video", rendered(tmp_path / "operation.mp4"), "--model", model, "--output", "result")
    output = capsys.readouterr().out
    assert "14 seconds, 2 classes" in output
    assert "unlike the training videos: unknown" in output
    assert {file.name for file in Path("result").iterdir()} == {"predictions.csv", "timeline.png", "report.html"}


def test_deidentify_folder_writes_copies_that_tell_no_name_and_have_no_sound(tmp_path, capsys):
    detector = classifier(tmp_path / "detector", ("inside", "outside"), num_frames=2)
    rendered(tmp_path / "videos" / "smith_1960.mp4")
    run("deidentify_folder", "videos", "--detector", detector, "--output", "shared", "--cover", "0,0,40,20")
    assert "1 copies in shared" in capsys.readouterr().out
    (copy,) = Path("shared").rglob("*.mp4")
    assert "smith" not in str(copy)
    assert "smith_1960" in Path("names.json").read_text()
    with av.open(str(copy)) as container:
        assert not container.streams.audio
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert frame[:18, :38].max() < 40


def test_finetune_lora_trains_an_adapter_and_tests_it(capsys):
    run("finetune_lora", "--operations", 6, "--seconds", 16, "--epochs", 1)
    output = capsys.readouterr().out
    assert "tested on 2 operations" in output
    assert "image_accuracy" in output
    assert Path("runs/lora_example/run/model/adapter_model.safetensors").stat().st_size < 1e6


def test_pretrain_and_probe_compares_with_the_untrained_encoder(capsys):
    run("pretrain_and_probe", "--operations", 6, "--seconds", 16, "--epochs", 1)
    lines = [line for line in capsys.readouterr().out.splitlines() if "linear probe" in line]
    assert [line.split()[0] for line in lines] == ["untrained", "pretrained"]
    weights = [
        Path(f"runs/probe_example/{name}/model.safetensors").read_bytes() for name in ("untrained", "pretrained")
    ]
    assert weights[0] != weights[1]


def test_compare_encoders_gives_intervals_and_tests(capsys):
    run("compare_encoders", "--operations", 6, "--seconds", 16)
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines() if "video accuracy" in line]
    assert rows == [["clips", "linear"], ["clips", "knn"], ["frames", "linear"], ["frames", "knn"]]
    assert Path("runs/compare_example/suite/tables.md").stat().st_size


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(notebook, monkeypatch):
    matplotlib.use("agg")
    small = {"SECONDS = 40": "SECONDS = 16", "OPERATIONS, SECONDS = 12, 60": "OPERATIONS, SECONDS = 6, 14"}
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert any(line in source for line in small for source in sources)
    names: dict[str, object] = {}
    for number, source in enumerate(sources):
        for line, shorter in small.items():
            source = source.replace(line, shorter)
        exec(compile(source, f"{notebook.name}, code cell {number}", "exec"), names)
    assert plt.get_fignums()  # something was drawn
    plt.close("all")

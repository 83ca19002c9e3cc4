"""Images of reconstructions: written while training without changing it, and drawn from saved models."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surgvista_hf import SurgVistaForVideoClassification
from surgvista_hf.cli.main import main
from surgvista_hf.trainers.pretraining.reconstruction import reconstruct

from .. import tiny


@pytest.mark.slow
def test_images_are_written_on_schedule_and_change_nothing(frame_set, tmp_path):
    for name, steps in (("with", 5), ("without", 0)):
        tiny.trainer(frame_set, tmp_path / name, reconstruction_steps=steps, save_steps=20).train()
    tiny.assert_same_weights(tmp_path / "with", tmp_path / "without")
    images = sorted(path.name for path in (tmp_path / "with" / "reconstructions").iterdir())
    assert images == [f"step_{step:07d}.png" for step in (5, 10, 15, 20)]
    assert not (tmp_path / "without" / "reconstructions").exists()
    with Image.open(tmp_path / "with" / "reconstructions" / images[0]) as image:
        assert min(image.size) > 200


def test_tensorboard_gets_losses_speed_and_images(frame_set, tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    tiny.trainer(frame_set, tmp_path / "run", reconstruction_steps=10, report_to="tensorboard").train()
    events = accumulator.EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    tags = events.Tags()
    assert {"train/loss", "train/loss_video", "train/loss_image", "train/clips_per_second"} <= set(tags["scalars"])
    assert "train/tflops_per_second" in tags["scalars"]
    assert [event.step for event in events.Images("reconstruction")] == [10, 20]


@pytest.mark.slow
def test_trackio_gets_the_losses(processes, frame_set, tmp_path):
    """Run in a process of its own: trackio decides when it is imported where it writes."""
    pytest.importorskip("trackio")
    program = (
        "import sys; assert 'trackio' not in sys.modules; from pathlib import Path; from tests.trainers import tiny;"
        f"tiny.trainer(Path({str(frame_set)!r}), Path({str(tmp_path / 'run')!r}), max_steps=2, report_to='trackio',"
        " project='tiny').train()"
    )
    environment = {"TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}
    done = processes.run_code(program, environment=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    with sqlite3.connect(tmp_path / "trackio" / "tiny.db") as database:
        logged = [json.loads(cells[0]) for cells in database.execute("select metrics from metrics order by step")]
    assert {"train/loss", "train/loss_video", "train/loss_image", "train/clips_per_second"} <= logged[0].keys()


def test_visible_pixels_are_the_originals_and_masked_ones_are_reconstructed(frame_set, tmp_path):
    trainer = tiny.trainer(frame_set, tmp_path)
    pixels, mask = trainer.sample()
    result = reconstruct({"model": trainer.student}, pixels, mask)
    assert result.original.shape == (4, 32, 32, 3)
    assert result.mask.mean() == pytest.approx(0.75)
    reconstructed = result.reconstructed["model"]
    np.testing.assert_allclose(reconstructed[~result.mask], result.original[~result.mask], atol=1e-6)
    assert (np.abs(reconstructed - result.original)[result.mask] > 1e-3).mean() > 0.9
    assert trainer.student.training


@pytest.fixture
def saved(tmp_path: Path) -> list[str]:
    """Save two models."""
    folders = []
    for name in ("first", "second"):
        tiny.model(hidden_size=32 if name == "first" else 64).save_pretrained(tmp_path / name)
        folders.append(str(tmp_path / name))
    return folders


def test_the_verb_draws_saved_models_behind_one_mask(frame_set, saved, tmp_path, capsys):
    argv = ["--data", "synthetic", "--data-dir", str(frame_set), "--split", "all", "--clip", "30", "--json"]
    image = tmp_path / "figure.png"
    assert main(["reconstruct", *saved, *argv, "--output", str(image)]) == 0
    errors = json.loads(capsys.readouterr().out)["mean_squared_error"]
    assert errors.keys() == set(saved)
    assert image.stat().st_size > 10_000
    again = tmp_path / "again.png"
    assert main(["reconstruct", *saved, *argv, "--output", str(again)]) == 0
    assert json.loads(capsys.readouterr().out)["mean_squared_error"] == errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip": "1000"}, "there is no clip 1000: the split all of synthetic has 60"),
        ({"model": "nowhere"}, "nowhere cannot be loaded"),
        ({"model": "classifier"}, "no pixel decoder"),
        ({"data-dir": "nowhere"}, "nowhere"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line(frame_set, saved, tmp_path, capsys, changes, message):
    options = {"data": "synthetic", "data-dir": str(frame_set), "split": "all", "clip": "0"}
    model = changes.get("model", saved[0])
    if model == "classifier":
        model = str(tmp_path / "classifier")
        config = tiny.model().config
        SurgVistaForVideoClassification(config).save_pretrained(model)
    options |= {name: value for name, value in changes.items() if name != "model"}
    argv = [word for name, value in options.items() for word in (f"--{name}", value)]
    assert main(["reconstruct", model, *argv, "--output", str(tmp_path / "x.png")]) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert not (tmp_path / "x.png").exists()

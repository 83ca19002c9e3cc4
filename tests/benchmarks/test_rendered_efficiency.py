"""The experiment on label efficiency: all variants on the same operations, kept part by part, and written with a figure."""

import json
import sys

import numpy as np
import pytest
import torch

from benchmarks import rendered_efficiency
from benchmarks.rendered_baselines import Rendered


@pytest.fixture
def rendered(monkeypatch) -> list[range]:
    """Make everything small, and replace the renderer by noise; return what was rendered."""
    calls: list[range] = []

    def render(difficulty: str, numbers: range) -> tuple[Rendered, float]:
        calls.append(numbers)
        random = np.random.default_rng(0)
        count, length = len(numbers), 22
        frames = random.integers(0, 255, (count, length, 24, 32, 3), dtype=np.uint8)
        phases = np.arange(count * length).reshape(count, length) // 4 % 7
        found = frames, phases, np.zeros((count, length, 6), np.float32)
        return Rendered(*map(torch.from_numpy, found)), 1.0

    sizes = {"UNLABELED": 4, "LABELED": 3, "TEST": 5, "SIDE": 16, "WIDTH": 16, "LAYERS": 1, "BATCH": 8}
    for name, value in {**sizes, "COUNTS": (1, 3), "TUNED_COUNTS": (3,), "render": render}.items():
        monkeypatch.setattr(rendered_efficiency, name, value)
    return calls


def run(monkeypatch, tmp_path, *options: str) -> dict:
    output = tmp_path / "out.json"
    command = ["x", "--work", str(tmp_path / "work"), "--output", str(output), "--updates", "2", "--tuning", "2"]
    monkeypatch.setattr(sys, "argv", [*command, *options])
    rendered_efficiency.main()
    return json.loads(output.read_text())


def test_all_variants_are_judged_on_the_same_operations_and_finished_parts_are_kept(
    rendered, monkeypatch, tmp_path, capsys
):
    first = run(monkeypatch, tmp_path, "--seeds", "0")
    points = first["efficiency"]["points"]
    variants = {(point["variant"], point["labeled"]) for point in points}
    probes = {(f"{name}, probe", count) for name in ("untrained", "pre-trained") for count in (1, 3)}
    tuned = {("from scratch", 3), ("pre-trained, fine-tuned", 3)}
    assert variants == probes | tuned | {("pixels", count) for count in (1, 3)}
    tested = {tuple(point["by_video"]["balanced_accuracy"]) for point in points}
    assert tested == {tuple(f"operation{number:03d}" for number in range(7, 12))}
    assert len(first["runs"]["0"]["curve"]) > 0
    assert (tmp_path / "out.png").stat().st_size > 0

    monkeypatch.setattr(rendered_efficiency, "pretrain", None)  # nothing is trained again
    monkeypatch.setattr(rendered_efficiency, "fine_tune", None)
    assert run(monkeypatch, tmp_path, "--seeds", "0")["efficiency"]["points"] == points
    assert rendered == [range(12)]  # rendered once


def test_a_clip_ends_with_the_frame_whose_phase_it_has(rendered, tmp_path):
    found = rendered_efficiency.operations(tmp_path)
    clips = rendered_efficiency.Clips(found, range(4, 7))
    last = clips.pixels(torch.arange(len(clips)))[:, -1]
    whole = rendered_efficiency.squeezed(found.frames[4:7])
    ends = torch.arange(7, 22, 2)
    assert torch.equal(last, whole[:, ends].flatten(0, 1))
    assert clips.labels.tolist() == found.phases[4:7][:, ends].flatten().tolist()
    assert clips.videos[0] == "operation004"

"""Rendered operations are a pure function of seed and time, and their frames show what their labels say."""

import csv
import hashlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf import InputError
from surgvista_hf.datasets_scripts.synthetic import hard_actions
from surgvista_hf.datasets_scripts.synthetic.surgery import (
    INSTRUMENTS,
    NUM_TRIPLETS,
    PHASES,
    TRIPLETS,
    SyntheticOperation,
    synthetic_corpus,
    write_video,
)
from surgvista_hf.modeling.video_reading_surgvista import VideoReader

seeds = st.integers(0, 2**32 - 1)


def digest(frame: np.ndarray) -> str:
    return hashlib.sha256(frame.tobytes()).hexdigest()


def test_a_frame_is_the_same_in_another_process_and_in_any_order():
    operation = SyntheticOperation(7, duration_seconds=60)
    there = [digest(operation.frame(second)) for second in (3.0, 40.0, 11.5)]
    program = (
        "import hashlib\n"
        "from surgvista_hf.datasets_scripts.synthetic.surgery import SyntheticOperation\n"
        "for second in (11.5, 3.0, 40.0):\n"
        "    frame = SyntheticOperation(7, duration_seconds=60).frame(second)\n"
        "    print(hashlib.sha256(frame.tobytes()).hexdigest())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [there[2], there[0], there[1]]


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(14, 5000))
def test_every_phase_occurs_and_the_operation_begins_and_ends_as_it_should(seed, duration):
    operation = SyntheticOperation(seed, duration_seconds=duration)
    phases = [operation.labels(second).phase for second in np.linspace(0, duration - 1e-6, 400)]
    runs = [phases[0]] + [b for a, b in itertools.pairwise(phases) if a != b]
    assert set(runs) == set(range(len(PHASES)))
    assert runs[:4] == [0, 1, 2, 3]
    assert runs[-1] == 6
    assert len(runs) <= 8


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(0, 1))
def test_labels_agree_with_each_other(seed, fraction):
    operation = SyntheticOperation(seed)
    labels = operation.labels(fraction * operation.duration_seconds)
    assert labels.triplets.shape == (NUM_TRIPLETS,)
    active = np.flatnonzero(labels.triplets)
    assert set(active) <= set(TRIPLETS)
    instruments = {TRIPLETS[int(number)][0] for number in active}
    assert {INSTRUMENTS[i] for i in np.flatnonzero(labels.instruments)} == instruments
    assert labels.skill == operation.skill
    assert labels.skill in (0, 1, 2)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_criteria_of_the_critical_view_are_reached_during_dissection_and_stay_reached(seed):
    operation = SyntheticOperation(seed)
    history = np.array([operation.labels(second).cvs for second in range(120)])
    phases = np.array([operation.labels(second).phase for second in range(120)])
    assert (np.diff(history, axis=0) >= 0).all()
    assert not history[phases == 0].any()
    changed = np.flatnonzero(np.diff(history, axis=0).any(axis=1)) + 1
    assert set(phases[changed]) <= {1, 2}  # the second after the change may already be the next phase


@pytest.mark.parametrize("triplets", [TRIPLETS, hard_actions.TRIPLETS], ids=["standard", "hard"])
def test_triplets_are_numbered_as_in_the_published_table(shared_data, triplets):
    table = shared_data.parent / "spec" / "cholect50_triplets.csv"
    published = {int(row["triplet_id"]): row for row in csv.DictReader(table.open())}
    for number, names in triplets.items():
        row = published[number]
        assert (row["instrument"], row["verb"], row["target"]) == names


def test_clumsy_hands_tremble_more_than_skilled_ones():
    def tremor(level: int) -> float:
        operations = (SyntheticOperation(seed, height=120, width=160) for seed in range(40))
        operation = next(operation for operation in operations if operation.skill == level)
        calm = next(
            second
            for second in np.arange(0, 110, 0.5)
            if operation.labels(second).triplets[58] and operation.labels(second + 0.3).triplets[58]
        )
        frames = np.stack([operation.frame(calm + i * 0.02) for i in range(12)]).astype(float)
        return float(np.abs(np.diff(frames, axis=0)).mean())

    novice, expert = tremor(0), tremor(2)
    assert novice > 1.15 * expert


def test_phases_can_be_learned_but_not_from_color_alone():
    def examples(operations):
        for operation in operations:
            for second in range(0, 120, 2):
                yield operation.frame(float(second)), operation.labels(second).phase

    def accuracy(features) -> float:
        corpus = [
            SyntheticOperation(operation.seed, height=60, width=80) for operation in synthetic_corpus(14, seed=5)
        ]
        train_x, train_y = map(np.array, zip(*((features(f), y) for f, y in examples(corpus[:10])), strict=True))
        test_x, test_y = map(np.array, zip(*((features(f), y) for f, y in examples(corpus[10:])), strict=True))
        nearest = ((test_x[:, None] - train_x[None]) ** 2).sum(axis=-1).argmin(axis=1)
        return float((train_y[nearest] == test_y).mean())

    by_color = accuracy(lambda frame: frame.reshape(-1, 3).mean(axis=0))
    by_pixels = accuracy(lambda frame: frame[::4, ::4].astype(np.float32).ravel())
    assert by_color < 0.6
    assert by_pixels > by_color + 0.1
    assert by_pixels < 0.98


def test_a_video_shows_the_frames_that_the_operation_renders(tmp_path):
    operation = SyntheticOperation(3, duration_seconds=14, height=121, width=161, frames_per_second=5)
    path = write_video(operation, tmp_path / "operation.mp4")
    with VideoReader(path) as video:
        frames = [frame for _, frame in video.iterate(None)]
        assert video.info.frames_per_second == 5
    assert len(frames) == operation.num_frames == 70
    for number in (0, 33, 69):
        rendered = operation.frame(number / 5)[:120, :160].astype(float)
        assert np.abs(frames[number] - rendered).mean() < 8
    assert [path.name for path in tmp_path.iterdir()] == ["operation.mp4"]
    assert write_video(operation, tmp_path / "again.mp4").read_bytes() == path.read_bytes()


def test_a_corpus_keeps_its_operations_when_it_grows_and_seeds_share_none():
    assert synthetic_corpus(3, seed=1) == synthetic_corpus(9, seed=1)[:3]
    together = synthetic_corpus(50, seed=1) + synthetic_corpus(50, seed=2)
    assert len({operation.seed for operation in together}) == 100


@pytest.mark.parametrize("change", [{"duration_seconds": 5}, {"height": 8}, {"frames_per_second": 0}])
def test_operations_that_cannot_be_rendered_are_refused(change):
    with pytest.raises(InputError, match="cannot be rendered"):
        SyntheticOperation(0, **change)

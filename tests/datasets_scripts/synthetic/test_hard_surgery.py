"""Hard rendered operations are exact, repeatable, unlike each other, and give no phase away but by what is done."""

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
from surgvista_hf.datasets_scripts.synthetic.hard_actions import MOTIONS, PHASE_TRIPLETS, TRIPLETS, draw_activities
from surgvista_hf.datasets_scripts.synthetic.hard_rendering import HardFrame
from surgvista_hf.datasets_scripts.synthetic.hard_surgery import HardOperation
from surgvista_hf.datasets_scripts.synthetic.surgery import INSTRUMENTS, NUM_TRIPLETS, PHASES
from surgvista_hf.evaluation.probes import Features, knn_probe, ridge_probe

SMALL = {"duration_seconds": 60, "height": 48, "width": 64}
seeds = st.integers(0, 2**32 - 1)


def operation(seed: int) -> HardOperation:
    return HardOperation(seed, **SMALL)


def small(frame: np.ndarray) -> np.ndarray:
    """The frame as 8 × 8 pixels of one color each, between 0 and 1."""
    return frame.reshape(8, 6, 8, 8, 3).mean(axis=(1, 3)).ravel() / 255


def test_a_frame_is_the_same_in_another_process_and_in_any_order():
    there = [hashlib.sha256(operation(7).frame(second).tobytes()).hexdigest() for second in (3.0, 40.0, 11.5)]
    program = (
        "import hashlib\n"
        "from surgvista_hf.datasets_scripts.synthetic.hard_surgery import HardOperation\n"
        "for second in (11.5, 3.0, 40.0):\n"
        "    frame = HardOperation(7, duration_seconds=60, height=48, width=64).frame(second)\n"
        "    print(hashlib.sha256(frame.tobytes()).hexdigest())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [there[2], there[0], there[1]]


def test_a_triplet_tells_the_phase_but_its_instrument_its_motion_and_its_target_do_not():
    used = list(itertools.chain(*PHASE_TRIPLETS))
    assert len(used) == len(set(used))
    phases_of: dict[str, set[int]] = {}
    for phase, triplets in enumerate(PHASE_TRIPLETS):
        for triplet in triplets:
            instrument, verb, target = TRIPLETS[triplet]
            for part in (instrument, MOTIONS[verb], target):
                phases_of.setdefault(part, set()).add(phase)
    seldom = {part for part, phases in phases_of.items() if len(phases) < 2}
    assert seldom == {"clipper", "rinse", "specimen_bag"}  # which come in one phase, and now and then
    for phase, triplets in enumerate(PHASE_TRIPLETS):
        actions = {(MOTIONS[TRIPLETS[triplet][1]], TRIPLETS[triplet][2]) for triplet in triplets}
        others = {
            (MOTIONS[TRIPLETS[t][1]], TRIPLETS[t][2]) for k, ts in enumerate(PHASE_TRIPLETS) if k != phase for t in ts
        }
        assert not actions & others


@settings(max_examples=60, deadline=None)
@given(seeds, st.floats(14, 5000))
def test_activities_cover_the_operation_and_belong_to_their_phase(seed, duration):
    activities = draw_activities(seed, duration)
    assert activities[0].start == 0
    assert activities[-1].end == pytest.approx(duration)
    for before, after in itertools.pairwise(activities):
        assert before.end == after.start > before.start
    for activity in activities:
        assert activity.triplet in PHASE_TRIPLETS[activity.phase]
        assert INSTRUMENTS.index(TRIPLETS[activity.triplet][0]) not in activity.idle
        assert 1 <= len(set(activity.idle)) == len(activity.idle) <= 2


def test_phases_come_in_any_order_some_twice_and_some_not_at_all():
    runs = []
    for seed in range(300):
        phases = [activity.phase for activity in draw_activities(seed, 60)]
        runs.append([phases[0]] + [b for a, b in itertools.pairwise(phases) if a != b])
    assert {run[0] for run in runs} == set(range(len(PHASES))) == {run[-1] for run in runs}
    assert any(len(set(run)) < len(run) for run in runs)
    assert any(len(set(run)) < len(PHASES) for run in runs)
    assert min(len(set(run)) for run in runs) == len(PHASES) - 2
    middle = np.array([np.mean([run.index(phase) / len(run) for run in runs if phase in run]) for phase in range(7)])
    assert np.ptp(middle) < 0.12  # the time in the operation says nothing


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(0, 0.999))
def test_labels_agree_with_each_other_and_name_idle_instruments(seed, fraction):
    labels = HardOperation(seed).labels(fraction * 120)
    assert labels.triplets.shape == (NUM_TRIPLETS,)
    names = [TRIPLETS[int(number)] for number in np.flatnonzero(labels.triplets)]
    assert sorted(INSTRUMENTS.index(name) for name, _, _ in names) == np.flatnonzero(labels.instruments).tolist()
    assert [verb for _, verb, _ in names].count("null_verb") == len(names) - 1
    assert labels.skill in (0, 1, 2)


@pytest.mark.parametrize("size", [(72, 96), (64, 64), (54, 96)])
def test_labeled_instruments_are_in_view_and_no_others(size):
    height, width = size
    for seed in range(12):
        rendered = HardOperation(seed, 60, height, width)
        for second in np.arange(0.1, 60, 2.3):
            pixels = rendered.instrument_masks(second).sum(axis=(1, 2)) / (height * width)
            labels = rendered.labels(second).instruments
            assert (pixels[labels == 0] == 0).all()
            assert (pixels[labels == 1] > 0.004).all(), (seed, second)


def test_masks_lie_where_the_instruments_are_drawn():
    """Among frames that differ in the instruments only, the masked pixels are those that differ."""

    class WithoutInstruments(HardFrame):
        def _draw_instruments(self, pixels):
            return []

    rendered = HardOperation(4, 60, 72, 96)
    for second in (5.0, 21.0, 38.0):
        masks = rendered.instrument_masks(second).any(axis=0)
        bare = WithoutInstruments(rendered.scene, rendered.activity(second), second).render().astype(float)
        changed = np.abs(rendered.frame(second) - bare).max(axis=-1)
        assert np.median(changed[masks]) > 20
        assert np.median(changed[~masks]) == 0


def test_each_motion_moves_the_tip_or_the_jaws_as_its_name_says():
    seen: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(10):
        rendered = HardOperation(seed, 60, 48, 64)
        for activity in rendered.activities:
            times = np.arange(activity.start + 0.8, activity.end, 0.05)
            frames = [HardFrame(rendered.scene, activity, second) for second in times]
            offsets = np.array([frame.offset for frame in frames])
            openings = np.ptp([frame.opening for frame in frames])
            speed = np.abs(np.diff(offsets, axis=0)).sum(axis=1).mean() / 0.05
            seen.setdefault(frames[0].plan.motion, []).append((np.hypot(*np.ptp(offsets, axis=0)), openings, speed))
    motions = {name: np.median(values, axis=0) for name, values in seen.items()}
    assert set(motions) == set(MOTIONS.values())
    assert motions["pull"][0] > 0.1 > motions["burn"][0] == motions["rinse"][0] == motions["squeeze"][0] == 0
    assert motions["stroke"][2] > 1.3 * motions["pull"][2] > 0
    assert motions["squeeze"][1] > 0.9 > 0 == motions["stroke"][1] == motions["pull"][1] == motions["burn"][1]


def test_tissue_follows_a_pulling_instrument_and_hardly_a_stroking_one():
    followed: dict[str, list[float]] = {"pull": [], "stroke": []}
    for seed in range(8):
        rendered = HardOperation(seed, 60, 48, 64)
        for activity in rendered.activities:
            for second in np.arange(activity.start + 1, activity.end, 0.2):
                frame = HardFrame(rendered.scene, activity, second)
                moved = np.hypot(*frame.offset)
                if frame.plan.motion in followed and moved > 0.03:
                    tip = (frame.plan.target + frame.offset + (0, frame.breath))[:, None, None]
                    source = frame.displace(tip)
                    followed[frame.plan.motion].append(float(np.hypot(*(tip - source)[:, 0, 0])) / moved)
    assert np.mean(followed["pull"]) > 0.9
    assert np.mean(followed["stroke"]) < 0.4


def test_operations_and_moments_differ_far_more_than_phases():
    """The variance of 8 × 8 pixels lies between operations and within them; phases explain next to nothing."""
    values, phases, names = [], [], []
    for seed in range(40):
        rendered = operation(seed)
        for second in range(1, 60, 4):
            values.append(small(rendered.frame(second)))
            phases.append(rendered.labels(second).phase)
            names.append(seed)
    x, phase, name = np.array(values), np.array(phases), np.array(names)

    def explained(groups: np.ndarray) -> float:
        means = {group: x[groups == group].mean(axis=0) for group in np.unique(groups)}
        return float(np.var([means[group] for group in groups], axis=0).sum() / x.var(axis=0).sum())

    assert explained(name) > 0.25
    assert 1 - explained(name) > 0.25  # within operations
    assert explained(phase) < 0.1 * explained(name)


@pytest.mark.slow
def test_pixels_and_time_do_not_tell_the_phase():
    rows = []
    for number in range(36):
        rendered = operation(1000 + number)
        for second in np.arange(4, 60, 3.0):
            pixels = np.concatenate([small(rendered.frame(second - 2.4)), small(rendered.frame(second))])
            rows.append((np.r_[pixels, second], rendered.labels(second).phase, number))
    values, phases, numbers = map(np.array, zip(*rows, strict=True))
    labeled = numbers < 16
    for columns in (slice(0, -1), slice(None)):  # without and with the time in the operation
        train, test = (Features(values[part, columns], phases[part], numbers[part]) for part in (labeled, ~labeled))
        for predicted in (ridge_probe(train, test), knn_probe(train, test, len(PHASES)).argmax(1)):
            recalls = [(predicted[test.labels == phase] == phase).mean() for phase in range(len(PHASES))]
            assert np.mean(recalls) < 1.5 / len(PHASES)


def test_presence_of_an_instrument_hardly_depends_on_the_phase():
    present = [[] for _ in PHASES]
    for seed in range(400):
        rendered = operation(seed)
        for activity in rendered.activities:
            present[activity.phase].append(rendered.labels((activity.start + activity.end) / 2).instruments)
    rates = np.array([np.mean(rows, axis=0) for rows in present])  # (phases, instruments)
    assert (np.abs(rates - rates.mean(axis=0)) < 0.22).all()
    assert rates.min() > 0.2


@pytest.mark.parametrize("change", [{"duration_seconds": 5}, {"height": 8}, {"frames_per_second": 0}])
def test_operations_that_cannot_be_rendered_are_refused(change):
    with pytest.raises(InputError, match="cannot be rendered"):
        HardOperation(0, **change)

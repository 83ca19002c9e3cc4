"""The script of hard synthetic operations: which instrument does what to which tissue, when, and in which phase."""

import itertools
from dataclasses import dataclass

import numpy as np

from .surgery import INSTRUMENTS, PHASES, seeded_generator

# The triplets of CholecT50 that occur here: number -> instrument, verb, target.
TRIPLETS = {
    1: ("grasper", "dissect", "gallbladder"),
    2: ("grasper", "dissect", "omentum"),
    4: ("grasper", "grasp", "cystic_duct"),
    7: ("grasper", "grasp", "gallbladder"),
    9: ("grasper", "grasp", "liver"),
    10: ("grasper", "grasp", "omentum"),
    12: ("grasper", "grasp", "specimen_bag"),
    14: ("grasper", "retract", "cystic_duct"),
    17: ("grasper", "retract", "gallbladder"),
    19: ("grasper", "retract", "liver"),
    20: ("grasper", "retract", "omentum"),
    25: ("bipolar", "coagulate", "cystic_duct"),
    28: ("bipolar", "coagulate", "gallbladder"),
    29: ("bipolar", "coagulate", "liver"),
    30: ("bipolar", "coagulate", "omentum"),
    34: ("bipolar", "dissect", "cystic_duct"),
    36: ("bipolar", "dissect", "gallbladder"),
    37: ("bipolar", "dissect", "omentum"),
    39: ("bipolar", "grasp", "liver"),
    40: ("bipolar", "grasp", "specimen_bag"),
    41: ("bipolar", "retract", "cystic_duct"),
    43: ("bipolar", "retract", "gallbladder"),
    45: ("bipolar", "retract", "omentum"),
    48: ("hook", "coagulate", "cystic_duct"),
    51: ("hook", "coagulate", "gallbladder"),
    52: ("hook", "coagulate", "liver"),
    53: ("hook", "coagulate", "omentum"),
    58: ("hook", "dissect", "cystic_duct"),
    60: ("hook", "dissect", "gallbladder"),
    61: ("hook", "dissect", "omentum"),
    63: ("hook", "retract", "gallbladder"),
    64: ("hook", "retract", "liver"),
    65: ("scissors", "coagulate", "omentum"),
    69: ("scissors", "cut", "cystic_duct"),
    71: ("scissors", "cut", "liver"),
    72: ("scissors", "cut", "omentum"),
    75: ("scissors", "dissect", "gallbladder"),
    76: ("scissors", "dissect", "omentum"),
    79: ("clipper", "clip", "cystic_duct"),
    83: ("irrigator", "dissect", "cystic_duct"),
    86: ("irrigator", "dissect", "gallbladder"),
    87: ("irrigator", "dissect", "omentum"),
    90: ("irrigator", "irrigate", "liver"),
    91: ("irrigator", "retract", "gallbladder"),
    92: ("irrigator", "retract", "liver"),
    93: ("irrigator", "retract", "omentum"),
    94: ("grasper", "null_verb", "null_target"),
    95: ("bipolar", "null_verb", "null_target"),
    96: ("hook", "null_verb", "null_target"),
    97: ("scissors", "null_verb", "null_target"),
    98: ("clipper", "null_verb", "null_target"),
    99: ("irrigator", "null_verb", "null_target"),
}
PHASE_TRIPLETS = (
    (2, 37, 61, 76, 87, 7),
    (34, 58, 83, 20, 45, 93),
    (4, 69, 79, 25, 48),
    (1, 36, 60, 75, 86, 19, 64, 92),
    (12, 40, 10, 72, 9, 39, 71),
    (29, 52, 90, 28, 51, 30, 53, 65),
    (17, 43, 63, 91, 14, 41),
)
MOTIONS = {
    "dissect": "stroke",
    "retract": "pull",
    "coagulate": "burn",
    "irrigate": "rinse",
    "grasp": "squeeze",
    "clip": "squeeze",
    "cut": "squeeze",
}
FIRST_IDLE = 94  # number of the grasper that does nothing; the other instruments follow in their order
_IN_VIEW = 0.45  # fraction of the time that each instrument should be in view, whatever the phase


@dataclass(frozen=True)
class Activity:
    """A few seconds in which one instrument does one thing.

    Args:
        number: number of the activity in the operation.
        start, end: times in seconds; the end is excluded.
        phase: number of the phase.
        triplet: number of the action triplet; one of `TRIPLETS`.
        idle: instruments that rest in view, indices of `INSTRUMENTS`.
    """

    number: int
    start: float
    end: float
    phase: int
    triplet: int
    idle: tuple[int, ...]


def draw_activities(seed: int, duration_seconds: float) -> tuple[Activity, ...]:
    """Draw what the instruments of an operation do, some seconds each, in the order of time.

    Args:
        seed: seed of the operation.
        duration_seconds: its length in seconds.

    Returns:
        Activities without gaps between them; the last ends with the operation.
    """
    random = seeded_generator(seed, "activities")
    found: list[Activity] = []
    for phase, start, end in _draw_phases(seed, duration_seconds):
        parts = max(round((end - start) / random.uniform(3, 7)), 1)
        times = np.linspace(start, end, parts + 1)
        for begin, finish in itertools.pairwise(times.tolist()):
            triplet = int(random.choice(PHASE_TRIPLETS[phase]))
            idle = _draw_idle(random, phase, INSTRUMENTS.index(TRIPLETS[triplet][0]))
            found.append(Activity(len(found), begin, finish, phase, triplet, idle))
    return tuple(found)


def _draw_phases(seed: int, duration_seconds: float) -> list[tuple[int, float, float]]:
    """Draw (phase, start, end): in any order, up to two phases left out, up to two that come again."""
    random = seeded_generator(seed, "phases")
    order = random.permutation(len(PHASES))[: len(PHASES) - random.integers(3)].tolist()
    for phase in random.choice(order, random.integers(3), replace=False).tolist():
        positions = [k for k in range(len(order) + 1) if phase not in order[max(k - 1, 0) : k + 1]]
        order.insert(int(random.choice(positions)), phase)
    weights = np.exp(random.normal(0, 0.5, len(order)))
    least = min(3.0, 0.5 * duration_seconds / len(order))  # seconds
    ends = np.cumsum(least + (duration_seconds - least * len(order)) * weights / weights.sum())
    starts = np.r_[0.0, ends[:-1]]
    return [(phase, float(a), float(b)) for phase, a, b in zip(order, starts, ends, strict=True)]


def _draw_idle(random: np.random.Generator, phase: int, busy: int) -> tuple[int, ...]:
    """Draw instruments that rest in view, rather those that the phase uses seldom, so that presence tells little of it."""
    used = [INSTRUMENTS.index(TRIPLETS[triplet][0]) for triplet in PHASE_TRIPLETS[phase]]
    fraction = np.bincount(used, minlength=len(INSTRUMENTS)) / len(used)
    weights = np.maximum(_IN_VIEW - fraction, 0.02)
    weights[busy] = 0
    chosen = random.choice(len(INSTRUMENTS), random.integers(1, 3), replace=False, p=weights / weights.sum())
    return tuple(sorted(int(number) for number in chosen))

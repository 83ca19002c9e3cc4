"""Hard synthetic surgery: rendered operations whose phases colors, positions, instruments and time hardly tell.

In `surgery` a few pixels give the phase away, because every operation looks alike and each phase has its own look. Here the
operations differ (anatomy, hues, light, camera, smoke, blood, focus, overlays), far more than the phases do, and a phase is
defined only by who does what to which tissue:

| phase | motion on tissue |
|---|---|
| Preparation | stroke the omentum, squeeze the gallbladder |
| CalotTriangleDissection | stroke the cystic duct, pull the omentum |
| ClippingCutting | squeeze or burn the cystic duct |
| GallbladderDissection | stroke the gallbladder, pull the liver |
| GallbladderPackaging | squeeze the specimen bag, the liver or the omentum |
| CleaningCoagulation | burn or rinse the liver, burn the gallbladder or the omentum |
| GallbladderRetraction | pull the gallbladder or the cystic duct |

Every motion but rinsing and every tissue but the bag occurs in several phases, instruments are shared, idle instruments rest
in view, and phases come in any order, some twice and some not at all. Every frame and label is a pure function of the seed and
the time.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from .hard_actions import FIRST_IDLE, TRIPLETS, Activity, draw_activities
from .hard_rendering import HardFrame, HardScene
from .surgery import INSTRUMENTS, NUM_TRIPLETS, RenderedOperation


@dataclass(frozen=True)
class HardLabels:
    """Labels at one time.

    Args:
        phase: number of the phase.
        instruments: shape (6,), 1 for each instrument in view, idle ones included.
        triplets: shape (100,), 1 for each action triplet, numbered as in CholecT50; idle instruments have the null verb.
        skill: skill level of the surgeon, 0-2.
    """

    phase: int
    instruments: np.ndarray
    triplets: np.ndarray
    skill: int


@dataclass(frozen=True)
class HardOperation(RenderedOperation):
    """One rendered operation that looks like no other, and whose phases are defined by actions.

    Args:
        seed, duration_seconds, height, width, frames_per_second: arguments of `RenderedOperation`.

    Raises:
        InputError: the operation is too short, or the frames are too small.

    Example:
        >>> operation = HardOperation(seed=1, duration_seconds=60, height=72, width=96)
        >>> operation.frame(30.0).shape
        (72, 96, 3)
        >>> int(operation.labels(30.0).instruments.sum()) > 1  # the active one, and those that rest in view
        True
    """

    def labels(self, second: float) -> HardLabels:
        """Return the labels at a time in seconds."""
        activity = self.activity(second)
        triplets = np.zeros(NUM_TRIPLETS, np.int64)
        triplets[[activity.triplet, *(FIRST_IDLE + number for number in activity.idle)]] = 1
        instruments = np.zeros(len(INSTRUMENTS), np.int64)
        instruments[[INSTRUMENTS.index(TRIPLETS[activity.triplet][0]), *activity.idle]] = 1
        return HardLabels(activity.phase, instruments, triplets, self.skill)

    def frame(self, second: float) -> np.ndarray:
        """Render the frame at a time in seconds: RGB, uint8, of shape (height, width, 3)."""
        return HardFrame(self.scene, self.activity(second), second).render()

    def instrument_masks(self, second: float) -> np.ndarray:
        """Return where each instrument is drawn at a time in seconds: bool, of shape (6, height, width)."""
        return HardFrame(self.scene, self.activity(second), second).instrument_masks()

    def activity(self, second: float) -> Activity:
        """Return what is done at a time in seconds."""
        last = int(np.searchsorted(self._starts, second, side="right")) - 1
        return self.activities[max(last, 0)]

    @property
    def scene(self) -> HardScene:
        """Return what all frames share; those of the last few operations are kept."""
        return _scene(self)

    @cached_property
    def activities(self) -> tuple[Activity, ...]:
        """Return what the instruments do, in the order of time and without gaps."""
        return draw_activities(self.seed, self.duration_seconds)

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.array([activity.start for activity in self.activities])


@lru_cache(maxsize=4)  # a texture is some megabytes, and a corpus has hundreds of operations
def _scene(operation: HardOperation) -> HardScene:
    return HardScene(operation.seed, operation.height, operation.width, operation.skill, operation.activities)

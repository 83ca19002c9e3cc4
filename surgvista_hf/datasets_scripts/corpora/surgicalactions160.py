"""SurgicalActions160: 160 short clips of 16 actions in gynaecologic laparoscopy (Schoeffmann et al., MTAP 77, 2018)."""

from ..schema.builder import VIDEO, FilePattern, FrameSetBuilder, RawVideo, extracted_frames
from ..schema.info import DatasetInfo, Label, Protocol, seeded_protocol, shuffled
from ..schema.label_tracks import ConstantTrack, Track

ACTIONS = (
    "Abdominal access",
    "Injection",
    "Cutting",
    "Blunt dissection",
    "Dissection (thermal)",
    "Irrigation",
    "Coagulation",
    "Suction",
    "Needle positioning",
    "Needle puncture",
    "Knot pushing",
    "Knotting",
    "Thread cut",
    "Sling-In",
    "Endobag-In",
    "Endobag-Out",
)
CLIPS = tuple(f"{action:02d}_{clip:02d}" for action in range(1, 17) for clip in range(1, 11))
_LEAK = (
    "the 160 clips come from 59 operations and nothing says which belong together, so clips of one operation "
    "may be both in train "
    "and test"
)


def _stratified(train: int, validation: int) -> dict[str, tuple[str, ...]]:
    """Draw so many of the ten clips of every action for training and validation; the others are the test."""
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for action in range(16):
        order = shuffled(CLIPS[10 * action : 10 * action + 10], "surgicalactions160")
        splits["train"] += order[:train]
        splits["validation"] += order[train : train + validation]
        splits["test"] += order[train + validation :]
    return {name: tuple(sorted(clips)) for name, clips in splits.items()}


_RANDOM = seeded_protocol(
    CLIPS, {"train": 112, "test": 48}, "surgicalactions160", "random without a published seed, not stratified"
).splits

INFO = DatasetInfo(
    name="surgicalactions160",
    title="SurgicalActions160",
    task="action",
    procedure="gynaecologic laparoscopy",
    license="CC-BY-NC-SA-4.0",
    homepage="http://ftp.itec.aau.at/datasets/SurgicalActions160",
    access="open download",
    citation="Schoeffmann et al., Video retrieval in laparoscopic video recordings with dynamic content "
    "descriptors, Multimedia Tools and Applications 77, 2018",
    labels={"action": Label("class", ACTIONS)},
    protocols={
        "stratified": Protocol("6, 1 and 3 clips of each action, drawn here", _stratified(6, 1), leaks=_LEAK),
        "surgvista": Protocol(
            "112 and 48 clips at random as in SurgVISTA (validation = test); its lists are not published, drawn here",
            {"train": _RANDOM["train"], "validation": _RANDOM["test"], "test": _RANDOM["test"]},
            leaks=_LEAK,
        ),
        "stratified_7_2_1": Protocol("the sizes of SurgRec, drawn here", _stratified(7, 2), leaks=_LEAK),
    },
    video_ids=CLIPS,
    totals={"videos": 160, "frames": 19181, "actions": 16},
    redistributable=True,
    frames_per_second=None,
    notes=_LEAK[0].upper() + _LEAK[1:] + ".",
)


def tracks(video: RawVideo) -> list[Track]:
    """Return the action: the first half of the clip's name is its number, counted from 1."""
    return [ConstantTrack({"action": int(video.video_id[:2]) - 1})]


BUILDERS = (
    FrameSetBuilder(INFO, (FilePattern(VIDEO, r"(\d{2}_\d{2})"), *extracted_frames("{}", r"(\d{2}_\d{2})")), tracks),
)

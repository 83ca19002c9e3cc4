"""The published clip lists of SurgRec (arXiv 2603.29966): reading them, and which clips come from one source video.

The lists may not be shipped with this package; users bring their checkout of them. Numbers were counted in these files.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..schema.annotation_files import read_text
from ..schema.info import SPLITS, AnnotationError, DatasetError, Task
from ..schema.workflow import CHOLECYSTECTOMY_PHASES
from .cataract101 import PHASES as CATARACT101
from .multibypass140 import ADVERSE
from .multibypass140 import PHASES as BYPASS
from .pitvis import STEPS as PITVIS

_FRACTIONS = {"train": 0.7, "test": 0.2, "validation": 0.1}
_PLENTY = 10  # sources of a class, from which on the smallest fraction is a whole source


class ClipRow(NamedTuple):
    """A clip of a list: its path below the folder of the data set, and its class."""

    path: str
    label: int


@dataclass(frozen=True)
class SurgRecInfo:
    """One data set of the benchmark.

    Args:
        name: id of the data set in this package.
        folder: name of its folder below `splits/` and below the data folder.
        title: name that the authors use.
        domain: kind of surgery or endoscopy.
        task: task of the label.
        classes: names of the classes, in the order of their numbers.
        counts: number of clips for training, validation and test.
        license: license of the source data.
        source: regular expression of a clip's path, whose groups name the source video (or lesion, or trial).
        validation_is_test: `True` if the lists of validation and test are the same.
        shared_test_clips: number of test clips whose source video is in training too.
        caution: description of what else training and test may have in common.
        artefacts: classes that are faults of the annotation rather than labels.
        notes: further remarks for users.
        aliases: other names of the data set.
    """

    name: str
    folder: str
    title: str
    domain: str
    task: Task
    classes: tuple[str, ...]
    counts: tuple[int, int, int]
    license: str
    source: str
    validation_is_test: bool = False
    shared_test_clips: int = 0
    caution: str = ""
    artefacts: tuple[str, ...] = ()
    notes: str = ""
    aliases: tuple[str, ...] = field(default=())

    @property
    def leak(self) -> str:
        """Return a sentence on what training and test have in common; empty if nothing is known."""
        if not self.shared_test_clips:
            return self.caution
        return (
            f"{self.shared_test_clips} of {self.counts[2]} test clips come from a source video (or lesion) that is also in "
            "the training part; protocol='by_video' keeps them apart"
        )

    def source_of(self, path: str) -> str:
        """Return the name of the source video of a clip.

        Raises:
            AnnotationError: the path does not have the published form.
        """
        match = re.fullmatch(self.source, path)
        if not match:
            raise AnnotationError(f"{path!r} is no clip path of {self.title}; expected {self.source}")
        return "/".join(group or "" for group in match.groups())


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _table() -> tuple[SurgRecInfo, ...]:
    bypass = tuple(sorted((*BYPASS, ADVERSE)))
    cholec = tuple(sorted(("Phase", "TrocarPlacement", *CHOLECYSTECTOMY_PHASES)))
    return (
        SurgRecInfo(
            "surgrec_aixsuture", "AlxSuture", "AIxSuture", "open suturing", "skill", _names("beginner intermediate expert"),
            (220, 48, 46), "CC-BY-NC-ND-4.0", r"video_faststart/(\w+)\.mp4", aliases=("aixsuture",),
        ),
        SurgRecInfo(
            "surgrec_autolaparo", "AutoLaparo", "AutoLaparo", "laparoscopy", "workflow",
            ("Preparation", "Dividing Ligament and Peritoneum", "Dividing Uterine Vessels and Ligament",
             "Transecting the Vagina", "Specimen Removal", "Suturing", "Washing"),
            (77, 26, 62), "CC-BY-NC-SA-4.0", r"split_video/label_(\d+)_\d+\.mp4",
        ),
        SurgRecInfo(
            "surgrec_cataract21", "cat-21", "Cataract-21", "cataract surgery", "workflow",
            _names("Antibiotikum Hydrodissektion Incision Irrigation-Aspiration Kapselpolishing Linsenimplantation Phako "
                   "Rhexis Tonisieren Visco-Absaugung Viscoelasticum not_initialized"),
            (213, 51, 51), "CC-BY-NC-SA-4.0", r"split_clip/[^/]+/case_(\d+)_(?:training|validation)_\d+\.mp4", True,
            artefacts=("not_initialized",),
        ),
        SurgRecInfo(
            "surgrec_cataract101", "cataract-101", "Cataract-101", "cataract surgery", "workflow",
            tuple(name.lower().replace(" ", "-") for name in CATARACT101),
            (889, 248, 128), "CC-BY-NC-4.0", r"split_clip/[^/]+/case_(\d+)_phase.*\.mp4",
        ),
        SurgRecInfo(
            "surgrec_cataract1k", "cataract-1k-phase", "Cataract-1K", "cataract surgery", "workflow",
            _names("anterior_chamber_flushing capsule_pulishing capsulorhexis hydrodissection incision irrigation-aspiration "
                   "lens_implantation lens_positioning phacoemulsification tonifying-antibiotics viscoelastic "
                   "viscoelastic_suction"),
            (651, 178, 101), "CC-BY-4.0", r"split_video/case_(\d+)/.*\.mp4",
        ),
        SurgRecInfo(
            "surgrec_cholec80", "cholec80", "Cholec80", "laparoscopy", "workflow", CHOLECYSTECTOMY_PHASES,
            (270, 273, 273), "CC-BY-NC-SA-4.0", r"split_video/cholec80_(\d+)_\d+\.mp4", True,
        ),
        SurgRecInfo(
            "surgrec_colonoscopic", "Colonoscopic-web", "Colonoscopic", "endoscopy", "finding",
            _names("Adenoma Hyperplasic Serrated"), (106, 31, 15), "CC-BY-4.0",
            r"(\w+)/(?:NBI|WL)(?:\((\d+)\))?\.mp4", shared_test_clips=12,
            notes="The same lesion under the other light is in training.",
        ),
        SurgRecInfo(
            "surgrec_hyperkvasir", "hyper-kvasir", "Hyper-Kvasir", "endoscopy", "finding",
            _names("lower-colitis upper-z-line upper-esophagitis lower-polyps upper-polyps lower-parasites upper-ulcer "
                   "upper-cancer upper-pylorus"),
            (653, 654, 654), "CC-BY-4.0", r"videos/[^/]+/([0-9a-f-]{36})_\d+\.avi", True, 640,
        ),
        SurgRecInfo(
            "surgrec_jigsaws", "JIGSAWS", "JIGSAWS", "robotic", "action",
            _names("G1 G2 G3 G4 G5 G6 G8 G9 G11 G12 G13 G14 G15"), (1710, 1686, 1686), "registration, own terms",
            r"videos/(\w+?_[A-I]\d{3})_capture\d_.*\.mp4", True,
            caution="the same eight surgeons are in both parts", notes="The two cameras of a trial count twice.",
        ),
        SurgRecInfo(
            "surgrec_kvasir_capsule", "kvasir-capsule", "Kvasir-Capsule", "endoscopy", "finding",
            ("Ileocecal valve", "blood-fresh", "foreign-body", "lymphangiectasia", "normal-clean-mucosa", "pylorus",
             "reduced-mucosal-view"),
            (329, 82, 82), "CC-BY-4.0", r"videos/[^/]+/([0-9a-f]{16})_\d+-\d+\.mp4", True, 81,
        ),
        SurgRecInfo(
            "surgrec_lapgyn4", "LapGyn_dataset", "LapGyn4", "laparoscopy", "finding",
            _names("AbdominalAccess Bleeding Coag-Transection NeedlePassing"), (8659, 2074, 2074), "CC-BY-NC-4.0",
            r"[^/]+/(?:Train|Test)/[^/]+/case_(\d+)_.*\.mp4", True, 812,
            notes="A class is a sub-data-set with its positives and its negatives together. 84 test clips share their case "
            "with training within the same sub-data-set.",
        ),
        SurgRecInfo(
            "surgrec_ldpolypvideo", "LDPolyVideo", "LDPolypVideo", "endoscopy", "finding", ("no polyps", "polyps"),
            (1440, 1440, 1440), "none stated", r"videos/((?:[01]_)?\d+)_\d+_\d+_(?:no_)?polyps\.mp4", True, 1369,
            notes="Videos are numbered in three series: the 160 with boxes (no prefix) and the 103 with only a label, with "
            "polyps (1_, up to 42) and without (0_, up to 61; 42 + 61 = 103). So 1_17 and 17 are taken for two videos. Of "
            "the shared test clips 1349 have a prefix, 20 have none.",
        ),
        SurgRecInfo(
            "surgrec_m2cai16_workflow", "M2CAI16-Workflow", "M2CAI16", "laparoscopy", "workflow", cholec, (241, 113, 113),
            "CC-BY-NC-SA-4.0", r"split_video/m2cai16w_(train|test)_dataset_(?:test_)?workflow_video_(\d+)_\w+\.mp4", True,
            artefacts=("Phase",), notes="The class Phase is the header of the annotation files, one clip a video.",
        ),
        SurgRecInfo(
            "surgrec_multibypass140", "MultiBypass140", "MultiBypass140", "laparoscopy", "workflow", bypass, (1031, 223, 448),
            "CC-BY-NC-SA-4.0", r"split_videos/\w+/phase/(\w+)/.*\.mp4", artefacts=(ADVERSE,),
            notes="severe_index marks adverse events, it is no phase.",
        ),
        SurgRecInfo(
            "surgrec_sar_rarp50", "SAR-RARP50", "SAR-RARP50", "robotic", "action",
            _names("other picking_up_the_needle positioning_the_needle_tip pushing_the_needle_through_the_tissue "
                   "pulling_the_needle_out_of_the_tissue tying_a_knot cutting_the_suture returning_dropping_the_needle"),
            (1773, 439, 439), "CC-BY-NC-SA-4.0", r"split_video/[^/]+/video_(\d+)(?:_\d+)?_label.*\.mp4", True,
        ),
        SurgRecInfo(
            "surgrec_surgicalactions160", "SurgicalActions160", "SurgicalActions160", "laparoscopy", "action",
            _names("abdominal_access injection cutting blunt_dissection dissection_thermal irrigation coagulation suction "
                   "needle_positioning needle_puncture knot_pushing knotting thread_cut sling-in endobag-in endobag-out"),
            (112, 32, 16), "CC-BY-NC-SA-4.0", r"[^/]+/(\d\d_\d\d)\.mp4",
            caution="the clips come from 59 operations; which belong together is not known, so one may be on both sides",
        ),
        SurgRecInfo(
            "surgrec_pitvis", "PitVis", "PitVis", "endoscopy", "workflow", PITVIS, (783, 292, 292), "CC-BY-NC-ND-4.0",
            r"split_clip/[^/]+/video_(\d+)_.*\.mp4", True, notes="Auxiliary: not one of the sixteen.",
        ),
    )  # fmt: skip


SURGREC: Mapping[str, SurgRecInfo] = {info.name: info for info in _table()}


def read_split(path: Path, info: SurgRecInfo) -> list[ClipRow]:
    """Read a list: a path and a number on each line, separated by the last blank (or comma); paths may be quoted.

    Args:
        path: `train.csv`, `val.csv` or `test.csv`.
        info: description of the data set.

    Returns:
        The rows; paths are relative to the folder of the data set.

    Raises:
        AnnotationError: there are no rows, a line has no known class, a path leaves the folder, or a clip is listed twice.
    """
    rows: dict[str, ClipRow] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = re.fullmatch(r'"?(?P<path>[^"]+?)"?[\s,]+(?P<label>[0-9]{1,9})', text)
        if not match or int(match["label"]) >= len(info.classes):
            raise AnnotationError(
                f"{path}:{number} is {text[:100]!r}; a path and a class from 0 to {len(info.classes) - 1} are expected"
            )
        clip = re.sub(rf"^.*?(?:^|/){re.escape(info.folder)}/", "", match["path"], count=1)
        if not {"", ".", "..", "__DATA_ROOT__"}.isdisjoint(clip.split("/")):
            raise AnnotationError(f"{path}:{number}: the path {match['path']!r} does not lie below {info.folder}/")
        if clip in rows:
            raise AnnotationError(f"{path}:{number}: {clip} is listed twice")
        rows[clip] = ClipRow(clip, int(match["label"]))
    if not rows:
        raise AnnotationError(f"{path} lists no clips")
    return list(rows.values())


def shared_clips(info: SurgRecInfo, train: Sequence[ClipRow], test: Sequence[ClipRow]) -> int:
    """Return the number of test clips whose source video is also in the training part."""
    sources = {info.source_of(row.path) for row in train}
    return sum(info.source_of(row.path) in sources for row in test)


def video_disjoint(rows: Sequence[ClipRow], info: SurgRecInfo, seed: int = 0) -> dict[str, list[ClipRow]]:
    """Split clips 70 : 10 : 20 so that no source video is in two parts, as evenly over the classes as whole videos allow.

    Sources are assigned one after the other to the part that lacks most of the classes of the source; with ties, to training,
    then test, then validation. Sources of the scarcest classes come first, as long as a tenth of the sources of a class is
    less than one source; among equals the largest comes first. The result depends on the rows and the seed, not on the order
    of the rows.

    Args:
        rows: all clips.
        info: description of the data set.
        seed: seed that breaks ties between sources of the same size.

    Returns:
        Clips of train, validation and test.

    Raises:
        DatasetError: there are fewer sources than parts.
    """
    groups: dict[str, list[ClipRow]] = {}
    for row in sorted(rows):
        groups.setdefault(info.source_of(row.path), []).append(row)
    if len(groups) < len(SPLITS):
        raise DatasetError(f"{len(groups)} source videos of {info.title} cannot be divided into {len(SPLITS)} parts")
    totals = Counter(row.label for row in rows)
    sources = Counter(label for clips in groups.values() for label in {row.label for row in clips})
    missing = {
        split: {label: fraction * count for label, count in totals.items()} for split, fraction in _FRACTIONS.items()
    }
    parts: dict[str, list[ClipRow]] = {split: [] for split in SPLITS}

    def rank(item: tuple[str, list[ClipRow]]) -> tuple[int, int, str]:
        """Return the rank of a source: the scarcest class first, then the largest source, then a hash."""
        source, clips = item
        scarcity = min(_PLENTY, *(sources[row.label] for row in clips))
        return scarcity, -len(clips), hashlib.sha256(f"{seed}:{source}".encode()).hexdigest()

    for _, clips in sorted(groups.items(), key=rank):
        held = Counter(row.label for row in clips)
        lack = {
            split: sum(count * missing[split][label] / (fraction * totals[label]) for label, count in held.items())
            for split, fraction in _FRACTIONS.items()
        }
        best = max(_FRACTIONS, key=lambda split: round(lack[split], 6))
        parts[best] += clips
        for label, count in held.items():
            missing[best][label] -= count
    return {split: sorted(clips) for split, clips in parts.items()}

"""MultiBypass140: gastric bypasses of two hospitals with phases and steps (Lavanchy et al., IJCARS 2024)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..schema.annotation_files import read_json
from ..schema.builder import FRAMES, VIDEO, FilePattern, FrameSetBuilder, RawVideo
from ..schema.info import AnnotationError, DatasetInfo, Label, Protocol, numbered
from ..schema.label_tracks import Interval, IntervalTrack, Track

PHASES = (
    "preparation",
    "gastric_pouch_creation",
    "omentum_division",
    "gastrojejunal_anastomosis",
    "anastomosis_test",
    "jejunal_separation",
    "closure_petersen_space",
    "jejunojejunal_anastomosis",
    "closure_mesenteric_defect",
    "cleaning_coagulation",
    "disassembling",
    "other_intervention",
    "out_of_body",
)
ADVERSE, ADVERSE_ID = "severe_index", 13
STEPS = tuple(
    """s0_null_step s1_cavity_exploration s2_trocar_placement s3_retractor_placement s4_crura_dissection
    s5_his_angle_dissection s6_horizontal_stapling s7_retrogastric_dissection s8_vertical_stapling
    s9_gastric_remnant_reinforcement s10_gastric_pouch_reinforcement s11_gastric_opening s12_omental_lifting
    s13_omental_section s14_adhesiolysis s15_treitz_angle_identification s16_biliary_limb_measurement
    s17_jejunum_opening s18_gastrojejunal_stapling s19_gastrojejunal_defect_closing s20_mesenteric_opening
    s21_jejunal_section s22_gastric_tube_placement s23_jejunal_clamping s24_ink_injection s25_visual_assessment
    s26_gastrojejunal_anastomosis_reinforcement s27_petersen_space_exposure s28_petersen_space_closing
    s29_biliary_limb_opening s30_alimentary_limb_measurement s31_alimentary_limb_opening
    s32_jejunojejunal_stapling s33_jejunojejunal_defect_closing s34_jejunojejunal_anastomosis_reinforcement
    s35_staple_line_reinforcement s36_mesenteric_defect_exposure s37_mesenteric_defect_closing
    s38_anastomosis_fixation s39_coagulation s40_irrigation_aspiration s41_parietal_closure s42_trocar_removal
    s43_calibration s44_drainage_insertion s45_specimen_retrieval""".split()
)
BERN, STRASBOURG = numbered("BBP{:02d}", 1, 70), numbered("SBP{:02d}", 1, 70)
_FRACTIONS = {"train": 4 / 7, "validation": 1 / 7, "test": 2 / 7}

BOTH = DatasetInfo(
    name="multibypass140",
    title="MultiBypass140",
    task="workflow",
    procedure="gastric bypass",
    license="CC-BY-NC-SA-4.0",
    homepage="https://github.com/CAMMA-public/MultiBypass140",
    access="open download",
    citation="Lavanchy et al., Challenges in multi-centric generalization: phase and step recognition in "
    "Roux-en-Y gastric bypass surgery, IJCARS 19, 2024",
    labels={
        "phase": Label("class", PHASES),
        "step": Label("class", STEPS),
        "adverse_event": Label("class", ("no", "yes")),
    },
    protocols={
        "seeded_80_20_40": Protocol(
            "drawn here at the size of the official folds, whose training and test lists are in pickles that "
            "are not read",
            fractions=_FRACTIONS,
            seed="multibypass140",
        ),
        "everything": Protocol("SurgVISTA's corpus: all videos", {"train": (*BERN, *STRASBOURG)}),
    },
    video_ids=(*BERN, *STRASBOURG),
    totals={"videos": 140, "phases": 13, "steps": 46},
    redistributable=True,
    checked="real label files of four videos; frames made in the published layout",
    notes="Intervals out of the body lie on top of the phase they interrupt, here they replace it. severe_index "
    "is a column of its own.",
)
BERN_INFO, STRASBOURG_INFO = (
    replace(
        BOTH,
        name=name,
        title=title,
        video_ids=videos,
        totals={"videos": 70, "phases": 13, "steps": 46},
        protocols={"everything": Protocol("SurgVISTA's corpus: all videos", {"train": videos})},
    )
    for name, title, videos in (("bernbypass70", "BernBypass70", BERN), ("strasbypass70", "StrasBypass70", STRASBOURG))
)


def tracks(video: RawVideo) -> list[Track]:
    """Read phases, steps and adverse events, which are intervals in milliseconds."""
    if "labels" not in video.files:
        return []
    path = video.files["labels"]
    content = read_json(path)
    missing = [key for key in ("phases", "steps") if key not in content]
    if missing:
        raise AnnotationError(f"{path} has no {missing}")
    names = (*PHASES, ADVERSE)
    phases = [_interval(str(path), entry, names) for entry in content["phases"]]
    steps = [_interval(str(path), entry, STEPS) for entry in content["steps"]]
    adverse = [(start, stop) for start, stop, number in phases if number == ADVERSE_ID]
    # Times out of the body lie on top of a phase: they come last, so that they win.
    phases = sorted(
        (entry for entry in phases if entry[2] != ADVERSE_ID),
        key=lambda entry: entry[2] == PHASES.index("out_of_body"),
    )
    return [
        IntervalTrack(
            [Interval(start, stop, {"phase": number, "adverse_event": 0}) for start, stop, number in phases]
        ),
        IntervalTrack([Interval(start, stop, {"step": number}) for start, stop, number in steps]),
        IntervalTrack([Interval(start, stop, {"adverse_event": 1}) for start, stop in adverse]),
    ]


def _interval(path: str, entry: Mapping[str, Any], names: Sequence[str]) -> tuple[float, float, int]:
    try:
        start, end, name, number = (entry[key] for key in ("start", "end", "label_name", "label_id"))
    except KeyError as error:
        raise AnnotationError(f"{path}: an interval without {error}: {entry}") from error
    if number not in range(len(names)) or names[number] != name or not 0 <= start <= end:
        raise AnnotationError(f"{path}: no such interval or label is published: {entry}")
    return start / 1000, end / 1000, number


def _builder(info: DatasetInfo, letters: str) -> FrameSetBuilder:
    video = rf"([{letters}]BP\d{{2}})"
    patterns = (
        FilePattern(VIDEO, video),
        FilePattern(FRAMES, rf"(?:frames|images)/{video}"),
        FilePattern("labels", rf"{video}(?:\.mp4)?\.json"),
    )
    return FrameSetBuilder(info, patterns, tracks)


BUILDERS = (_builder(BOTH, "BS"), _builder(BERN_INFO, "B"), _builder(STRASBOURG_INFO, "S"))

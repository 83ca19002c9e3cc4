"""HeiChole: laparoscopic cholecystectomies of three hospitals (Wagner et al., Medical Image Analysis 86, 2023)."""

from ..schema.builder import VIDEO, FilePattern, FrameSetBuilder, RawVideo, extracted_frames
from ..schema.info import EVERYTHING, DatasetInfo
from ..schema.label_tracks import Track
from ..schema.workflow import CHOLECYSTECTOMY_PHASES, counted_phases, phase

_ID = r"(Hei-Chole\d+(?:_[a-z]+)?)"

INFO = DatasetInfo(
    name="heichole",
    title="HeiChole",
    task="pre-training",
    procedure="cholecystectomy",
    license="CC-BY-NC-SA-4.0",
    homepage="https://www.synapse.org/#!Synapse:syn18824884",
    access="Synapse account",
    citation="Wagner et al., Comparative validation of machine learning algorithms for surgical workflow and "
    "skill analysis with the HeiChole benchmark, Medical Image Analysis 86, 2023",
    labels={"phase": phase(CHOLECYSTECTOMY_PHASES)},
    protocols={"everything": EVERYTHING},
    totals={"videos": 24, "phases": 7},
    notes="24 public videos (of 33), some in parts such as _calot; phases are read where they are there.",
)


def tracks(video: RawVideo) -> list[Track]:
    """Read the phases, one row per source frame (25 or 50 per second); extracted frames stand for 25 source frames."""
    if "phases" not in video.files:
        return []
    rate = None if VIDEO in video.files else 25.0
    return [counted_phases(video.files["phases"], len(CHOLECYSTECTOMY_PHASES), rate, header=False, delimiter=",")]


BUILDERS = (
    FrameSetBuilder(
        INFO,
        (
            FilePattern(VIDEO, _ID),
            *extracted_frames("{}", _ID),
            FilePattern("phases", rf"{_ID}_Annotation_Phase\.csv"),
        ),
        tracks,
    ),
)

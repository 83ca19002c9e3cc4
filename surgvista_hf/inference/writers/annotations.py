"""Predictions as annotations that players and annotation tools read: WebVTT chapters and ELAN."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...datasets_scripts.schema.elan import write_elan_document
from ...util.files import atomic_file
from ..prediction.prediction import UNFAMILIAR_LABEL, Segment, VideoPrediction
from .timeline import NOTICE


def write_webvtt(prediction: VideoPrediction, path: str | Path) -> None:
    """Write chapters: a player shows the phase, or what was found, while the video plays.

    Args:
        prediction: the prediction to write; each independent class has cues of its own.
        path: `.vtt` file to write.
    """
    lines = [
        "WEBVTT",
        "",
        f"NOTE {prediction.video}, predicted; {NOTICE}",
        "",
        f"NOTE {prediction.familiarity_text}",
        "",
    ]
    if spans := prediction.unfamiliar_spans:
        times = "\n".join(f"{_clock(start)} to {_clock(end)}" for start, end in spans)
        lines += [f"NOTE {UNFAMILIAR_LABEL}:\n{times}", ""]
    cues = [(segment, name) for name, segments in prediction.tiers().items() for segment in segments]
    for number, (segment, _) in enumerate(sorted(cues, key=lambda cue: cue[0].start), 1):
        label = segment.label.replace("&", "&amp;").replace("<", "&lt;").replace("-->", "→")
        lines += [str(number), f"{_clock(segment.start)} --> {_clock(segment.end)}", label, ""]
    with atomic_file(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")


def write_elan(prediction: VideoPrediction, path: str | Path) -> None:
    """Write an annotation document of ELAN (EAF 3.0): a tier of segments, or one for each independent class.

    A further tier marks what is unlike the training videos, where something is. The document names the video by its file name
    only: put both into one folder.

    Args:
        prediction: the prediction to write.
        path: `.eaf` file to write.
    """
    write_elan_tiers({**prediction.tiers(), **prediction.unfamiliar_tier()}, path, prediction.video)


def write_elan_tiers(
    tiers: Mapping[str, Sequence[Segment]], path: str | Path, video: str, *, relative_path: str | None = None
) -> None:
    """Write segments as an annotation document of ELAN (EAF 3.0), to the millisecond.

    Args:
        tiers: segments by the name of their tier; a tier may be empty.
        path: `.eaf` file to write.
        video: file name of the video.
        relative_path: path of the video from the folder of the document; by default they lie in one folder.
    """
    spans = {name: [(each.start, each.end, each.label) for each in segments] for name, segments in tiers.items()}
    write_elan_document(path, spans, video=video, relative_path=relative_path)


def _clock(second: float) -> str:
    milliseconds = round(1000 * second)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"

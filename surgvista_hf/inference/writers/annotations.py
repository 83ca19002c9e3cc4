"""Predictions as annotations that players and annotation tools read: WebVTT chapters and ELAN."""

import itertools
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ...util.files import atomic_file
from ..prediction.prediction import UNFAMILIAR_LABEL, Segment, VideoPrediction
from .timeline import NOTICE

_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"


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
    root = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "surgvista_hf",
            "DATE": datetime.now(UTC).isoformat(timespec="seconds"),
            "FORMAT": "3.0",
            "VERSION": "3.0",
            f"{{{_INSTANCE}}}noNamespaceSchemaLocation": _SCHEMA,
        },
    )
    header = ElementTree.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    media = {
        "MEDIA_URL": video,
        "RELATIVE_MEDIA_URL": relative_path or f"./{video}",
        "MIME_TYPE": "video/mp4" if video.lower().endswith(".mp4") else "unknown",
    }
    ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", media)
    order = ElementTree.SubElement(root, "TIME_ORDER")
    numbered = list(enumerate((segment for segments in tiers.values() for segment in segments), 1))
    moments = sorted((moment, f"ts{2 * number - 1 + end}") for number, each in numbered for end, moment in _ends(each))
    for moment, slot in moments:
        ElementTree.SubElement(order, "TIME_SLOT", {"TIME_SLOT_ID": slot, "TIME_VALUE": str(round(1000 * moment))})
    numbers = itertools.count(1)
    for name, segments in tiers.items():
        tier = ElementTree.SubElement(root, "TIER", {"LINGUISTIC_TYPE_REF": "default-lt", "TIER_ID": name})
        for segment in segments:
            _annotate(tier, segment, next(numbers))
    kind = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "default-lt", "TIME_ALIGNABLE": "true"}
    ElementTree.SubElement(root, "LINGUISTIC_TYPE", kind)
    ElementTree.register_namespace("xsi", _INSTANCE)
    ElementTree.indent(root)
    with atomic_file(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="UTF-8", xml_declaration=True)


def _ends(segment: Segment) -> tuple[tuple[int, float], tuple[int, float]]:
    return (0, segment.start), (1, segment.end)


def _annotate(tier: ElementTree.Element, segment: Segment, number: int) -> None:
    reference = {
        "ANNOTATION_ID": f"a{number}",
        "TIME_SLOT_REF1": f"ts{2 * number - 1}",
        "TIME_SLOT_REF2": f"ts{2 * number}",
    }
    inside = ElementTree.SubElement(ElementTree.SubElement(tier, "ANNOTATION"), "ALIGNABLE_ANNOTATION", reference)
    ElementTree.SubElement(inside, "ANNOTATION_VALUE").text = segment.label


def _clock(second: float) -> str:
    milliseconds = round(1000 * second)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"

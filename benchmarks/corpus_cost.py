"""Core-hours of a run over LEMON and over SurgRec's corpus, computed from what the other benchmarks have measured.

No corpus is needed: hours of video are divided by the hours of video that were measured to take one core-hour, in
`data_speed_cpu.json`, `curation_speed_cpu.json`, `inference_speed_cpu.json` and `feature_speed_cpu.json` of
`benchmarks/results/`. After one of these was measured again,

    python -m benchmarks.corpus_cost

writes `benchmarks/results/corpus_cost.json` and the table of `docs/guides/clusters.md` anew; a test compares them.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surgvista_hf.util.files import write_json

from . import tables
from .tables import RESULTS, ROOT, markdown_table, read_results

OUTPUT = RESULTS / "corpus_cost.json"
PAGE = ROOT / "docs" / "guides" / "clusters.md"
CORES = 64


@dataclass(frozen=True)
class Corpus:
    """A published corpus.

    Args:
        videos: number of videos.
        hours: hours of video.
        source: publication that gives the numbers.
    """

    videos: int
    hours: float
    source: str


CORPORA = {
    "LEMON": Corpus(4194, 938, "arXiv 2503.19740: 4,194 videos, 938 h"),
    "SurgRec": Corpus(
        10535, 214.5e6 / 25 / 3600, "arXiv 2603.29966: 10,535 videos, 214.5 M frames; hours at 25 frames a second"
    ),
}


def _number(content: Mapping[str, Any], *paths: tuple[str, ...]) -> Any:
    """Return what stands at the first of several paths of keys: earlier and later programs may name it otherwise.

    Raises:
        KeyError: there is none of them.
    """
    for path in paths:
        found: Any = content
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        if found is not None:
            return found["median"] if isinstance(found, Mapping) else found
    raise KeyError(f"none of {', '.join('.'.join(path) for path in paths)}")


def _prepare(content: Mapping[str, Any]) -> float:
    return float(_number(content, ("preparing", "video_hours_per_core_hour", "frame set")))


def _curate(content: Mapping[str, Any]) -> float:
    return float(_number(content, ("all_stages_together", "one_pass"), ("all_stages_together",)))


def _features(content: Mapping[str, Any]) -> float:
    return float(_number(content, ("images_per_second", "surgvista")))  # one image is needed for a second of video


def _predict(content: Mapping[str, Any]) -> float:
    seconds = statistics.median(_number(content, ("speed", "seconds_per_predicted_second", "ours")))
    return 1 / (seconds * content["machine"]["torch_threads"])


WORK: Mapping[str, tuple[str, str, Callable[[Mapping[str, Any]], float]]] = {
    "prepare": ("`surgvista prepare`, one frame a second", "data_speed_cpu.json", _prepare),
    "curate": ("`surgvista curate`, all stages and the export", "curation_speed_cpu.json", _curate),
    "features": ("`surgvista extract-features`, ConvNeXt-T, one frame a second", "feature_speed_cpu.json", _features),
    "predict": ("`surgvista predict`, ViT-B on 16 frames for every second", "inference_speed_cpu.json", _predict),
}


def compute(results: Path = RESULTS) -> dict[str, Any]:
    """Return the core-hours of each work on each corpus.

    Args:
        results: folder of what the other benchmarks have measured.
    """
    work: dict[str, Any] = {}
    for name, (title, file, rate_of) in WORK.items():
        content = json.loads((results / file).read_text(encoding="utf-8"))
        rate = rate_of(content)
        work[name] = {
            "title": title,
            "measured_in": file,
            "machine": content["machine"]["device"],
            "video_hours_per_core_hour": round(rate, 3),
            "core_hours": {corpus: round(each.hours / rate, 1) for corpus, each in CORPORA.items()},
        }
    frame = json.loads((results / "data_speed_cpu.json").read_text(encoding="utf-8"))["preparing"]["bytes_per_frame"]
    return {
        "corpora": {
            name: {
                "videos": each.videos,
                "hours": round(each.hours, 1),
                "source": each.source,
                "frame_set_gigabytes": round(each.hours * 3600 * frame["frame set"] / 1e9, 1),
            }
            for name, each in CORPORA.items()
        },
        "work": work,
    }


def table() -> str:
    """Return the table of the documentation, from the recorded numbers."""
    content = read_results(OUTPUT.name)
    corpora = content["corpora"]
    names = [f"{name}: {each['videos']:,} videos, {each['hours']:,.0f} h" for name, each in corpora.items()]
    rows = [
        [
            work["title"],
            f"{work['video_hours_per_core_hour']:.2g}",
            *(_duration(work["core_hours"][corpus]) for corpus in corpora),
        ]
        for work in content["work"].values()
    ]
    sizes = [f"{each['frame_set_gigabytes']:,.0f} GB" for each in corpora.values()]
    disk = ["disk of the frame set at a shorter side of 256", "", *sizes]
    return markdown_table(["Work", "video-hours by core-hour", *names], [*rows, disk])


def _duration(core_hours: float) -> str:
    hours = core_hours / CORES
    time = f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} h"
    return f"{core_hours:,.0f} core-hours, {time} on {CORES} cores"


def main() -> None:
    """Write the numbers and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    write_json(OUTPUT, compute(), indent=2)
    tables.main([])
    print(table())


if __name__ == "__main__":
    main()

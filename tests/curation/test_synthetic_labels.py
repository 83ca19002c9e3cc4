"""The whole pipeline on synthetic web videos that this machine serves, with models trained here.

The models learn from images of these very uploads, and one copy is enough: how well models do on unseen uploads, and which
copies are found under which overlays, is measured by `benchmarks/curation_quality.py`. Here the question is whether the
pipeline makes of the answers what it should.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from surgvista_hf import load_frame_set
from surgvista_hf.curation.collection.collect import collect, from_urls
from surgvista_hf.curation.collection.manifest import Collection, read_manifest
from surgvista_hf.curation.collection.results import read_result
from surgvista_hf.curation.models.training import Schedule, train_classifier, train_region_detector
from surgvista_hf.curation.stages.export import ExportOptions, export_frame_set
from surgvista_hf.curation.stages.pipeline import CurationOptions, run_pipeline
from surgvista_hf.curation.synthetic_labels import (
    INFORMATIVE,
    SURGICAL,
    write_frames,
    write_regions,
    write_storyboards,
)
from surgvista_hf.datasets_scripts.synthetic.web_videos import SyntheticWebVideo, write_web_video

from .color_web import serve
from .conftest import QUICK

OPERATION = SyntheticWebVideo(
    12, operation_start=20.0, surgical_seconds=24.0, height=120, width=200, frames_per_second=8.0
)
UPLOADS = {
    "operation-1": OPERATION,
    "operation-2": replace(OPERATION, seed=7, operation_start=60.0),
    "another-cut": replace(OPERATION, seed=16, operation_seed=12, operation_start=23.7, surgical_seconds=18.0),
    "talk": replace(OPERATION, seed=5, informative=False),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> CurationOptions:
    folder = tmp_path_factory.mktemp("models")
    videos = list(UPLOADS.values())
    operations = videos[:3]
    boards = write_storyboards([*videos, *videos], folder / "boards")
    frames = write_frames(videos, folder / "frames", 50)
    regions = write_regions(operations, folder / "regions", 24)
    train_classifier(
        boards, folder / "video", classes=INFORMATIVE, side=64, schedule=Schedule(epochs=20, batch_size=4)
    )
    train_classifier(frames, folder / "frame", classes=SURGICAL, side=64, schedule=Schedule(epochs=12, batch_size=16))
    train_region_detector(
        regions, folder / "region", side=96, schedule=Schedule(epochs=20, batch_size=8, learning_rate=3e-3)
    )
    return CurationOptions((str(folder / "video"),), (str(folder / "frame"),), (str(folder / "region"),), device="cpu")


@pytest.fixture(scope="module")
def curated(models, tmp_path_factory):
    site, place = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("curated")
    for name, video in UPLOADS.items():
        write_web_video(video, site / f"{name}.mp4")
    (site / "corrupt.mp4").write_bytes(bytes(range(256)) * 40)
    addresses = place / "addresses.txt"
    with serve(site) as server:
        names = [*UPLOADS, "corrupt", "gone"]
        addresses.write_text("".join(f"{server.address}/{name}.mp4\n" for name in names))
        collect(place / "corpus", from_urls(addresses), QUICK)
    run_pipeline(place / "corpus", models)
    return place / "corpus"


@pytest.mark.slow
def test_operations_stay_and_talks_copies_corrupt_and_removed_videos_go(curated):
    found = {row["video_id"]: row for row in read_manifest(curated).to_pylist()}
    assert {name for name, row in found.items() if row["kept"]} == {"operation-1", "operation-2"}
    assert {name: row["cause"] for name, row in found.items() if not row["kept"]} == {
        "another-cut": "repeats another video",
        "talk": "uninformative",
        "corrupt": "unreadable",
        "gone": "removed",
    }
    assert found["another-cut"]["detail"] == "operation-1"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["operation-1", "operation-2", "another-cut"])
def test_the_operation_is_cut_out_within_a_second(curated, name):
    content = read_result(Collection(curated), "trim", name).content
    start, end = UPLOADS[name].truth()["surgical_part"]
    assert abs(content["first"] - start) <= 1
    assert abs(content["last"] + 1 - end) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["operation-1", "operation-2"])
def test_masks_cover_the_overlays_and_little_else(curated, name):
    video, boxes = UPLOADS[name], read_result(Collection(curated), "mask", name).content["boxes"]
    hit = covered = total = 0
    for second in range(int(video.duration_seconds)):
        if video.kind(second) == "surgical":
            areas = np.zeros((2, video.height, video.width), bool)  # of overlays and of masks
            for area, given in zip(areas, (video.boxes(second), boxes.get(str(second), [])), strict=True):
                for x1, y1, x2, y2 in np.array(given, int).reshape(-1, 4):
                    area[y1:y2, x1:x2] = True
            hit, total, covered = hit + (areas[0] & areas[1]).sum(), total + areas[0].sum(), covered + areas[1].sum()
    assert hit >= 0.9 * total
    assert covered <= 1.4 * total


@pytest.mark.slow
def test_the_frame_set_shows_the_operation_only(curated, tmp_path):
    export_frame_set(curated, tmp_path / "frames", ExportOptions(short_side=None))
    frames = load_frame_set("folder", tmp_path / "frames", "all")
    kinds = [UPLOADS[row["video_id"]].kind(row["timestamp"]) for row in frames]
    assert np.mean([kind == "surgical" for kind in kinds]) > 0.97
    assert json.loads((tmp_path / "frames" / "report.json").read_text())["videos"] == 2

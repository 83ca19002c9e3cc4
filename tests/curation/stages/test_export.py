"""What ends up in the frame set: the right seconds, without border, covered where it must be, coded once."""

import json
import shutil

import numpy as np
import pytest

from surgvista_hf import load_frame_set
from surgvista_hf.curation.collection.collect import collect, from_folder, remove
from surgvista_hf.curation.collection.manifest import CurationError
from surgvista_hf.curation.collection.overrides import apply_overrides
from surgvista_hf.curation.stages.border import content_box
from surgvista_hf.curation.stages.export import ExportOptions, export_frame_set
from surgvista_hf.curation.stages.pipeline import run_pipeline
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.util.files import OutputError

from ..color_web import CAPTION, HEIGHT, LOGO, UPLOADS, WIDTH
from ..conftest import QUICK

FULL = ExportOptions(short_side=None, quality=95)


@pytest.fixture
def corpus(curated, tmp_path):
    return shutil.copytree(curated, tmp_path / "corpus")


@pytest.fixture(scope="module")
def exported(curated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "frames"
    export_frame_set(curated, folder, FULL)
    return folder


def images(folder, video: str) -> dict[float, np.ndarray]:
    frames = load_frame_set("folder", folder, "all")
    return {row["timestamp"]: np.asarray(row["image"]) for row in frames if row["video_id"] == video}


def test_only_surgical_seconds_of_kept_videos_are_there_with_their_own_times(exported):
    frames = load_frame_set("folder", exported, "all")
    assert set(frames["video_id"]) == {"-first_logo", "bordered"}
    assert set(frames["source"]) == {"curated"}
    for name in ("-first_logo", "bordered"):
        video = UPLOADS[name]
        expected = [float(second) for second in range(video.seconds) if video.is_surgical(second)]
        assert sorted(images(exported, name)) == expected


def test_overlays_are_black_and_everything_else_is_as_it_was(exported):
    video = UPLOADS["-first_logo"]
    for second, image in images(exported, "-first_logo").items():
        assert image.shape == (HEIGHT, WIDTH, 3)
        covered = np.zeros((HEIGHT, WIDTH), bool)
        for x1, y1, x2, y2 in video.boxes(second):
            assert image[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].max() < 16
            covered[max(y1 - 8, 0) : y2 + 8, max(x1 - 8, 0) : x2 + 8] = True
        difference = np.abs(image.astype(int) - video.frame(second))[~covered]
        assert difference.mean() < 6
    assert {len(video.boxes(second)) for second in images(exported, "-first_logo")} == {1, 2}
    assert (video.logo, video.caption[0]) == (LOGO, CAPTION)


def test_the_border_is_cut_off_and_what_is_covered_is_not_taken_for_one(exported):
    for second, image in images(exported, "bordered").items():
        assert image.shape == (HEIGHT - 24, WIDTH - 24, 3)
        inside = UPLOADS["bordered"].frame(second)[12:-12, 12:-12]
        assert np.abs(image.astype(int) - inside).mean() < 6


@pytest.mark.parametrize(
    ("options", "seconds", "shape"),
    [
        (ExportOptions(short_side=None, not_surgical="black"), 16, (HEIGHT, WIDTH)),
        (ExportOptions(short_side=48, frames_per_second=2), 28, (48, 64)),
        (ExportOptions(short_side=None, without_masks=True), 14, (HEIGHT, WIDTH)),
    ],
)
def test_options_of_the_export(curated, tmp_path, options, seconds, shape):
    export_frame_set(curated, tmp_path / "out", options)
    found = images(tmp_path / "out", "-first_logo")
    assert len(found) == seconds
    assert {image.shape[:2] for image in found.values()} == {shape}
    black = [second for second, image in found.items() if image.max() < 8]
    assert black == ([14.0, 15.0] if options.not_surgical == "black" else [])
    if options.without_masks:
        assert found[8.0][10:20, 12:30, 1].mean() > 150  # the logo is green


def test_the_border_can_stay(curated, tmp_path):
    export_frame_set(curated, tmp_path / "out", ExportOptions(short_side=None, keep_border=True))
    assert {image.shape for image in images(tmp_path / "out", "bordered").values()} == {(HEIGHT, WIDTH, 3)}


def contents(folder) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_second_export_does_nothing_and_changes_no_byte(exported, curated, monkeypatch):
    before = contents(exported)
    monkeypatch.setattr("surgvista_hf.datasets_scripts.frame_sets.prepare._prepare_video", None)
    assert export_frame_set(curated, exported, FULL).resumed == 2
    assert contents(exported) == before


def test_what_was_decided_anew_replaces_what_is_there_and_the_rest_stays(corpus, color_options, tmp_path):
    output, overrides = tmp_path / "out", tmp_path / "overrides.json"
    export_frame_set(corpus, output, FULL)
    overrides.write_text(
        json.dumps([{"video": "-first_logo", "decision": "mask", "box": [60, 40, 100, 60], "start": 5, "end": 6}])
    )
    apply_overrides(corpus, overrides)
    remove(corpus, ["bordered"], "test")
    with pytest.raises(CurationError, match="no video"):  # masks are not up to date, nothing goes out without them
        export_frame_set(corpus, tmp_path / "none", FULL)
    run_pipeline(corpus, color_options)
    report = export_frame_set(corpus, output, FULL)
    assert report.resumed == 0
    found = images(output, "-first_logo")
    assert found[5.0][44:56, 64:96].max() < 16
    assert found[6.0][44:56, 64:96].max() > 100
    assert not (output / "videos" / "bordered.arrow").exists()
    assert set(load_frame_set("folder", output, "all")["video_id"]) == {"-first_logo"}


def test_a_removed_video_leaves_the_frame_set_with_the_next_export(corpus, tmp_path):
    output = tmp_path / "out"
    export_frame_set(corpus, output, FULL)
    remove(corpus, ["bordered"], "asked by the owner")
    assert export_frame_set(corpus, output, FULL).resumed == 1
    assert set(load_frame_set("folder", output, "all")["video_id"]) == {"-first_logo"}
    assert "bordered" not in (output / "frame_set.json").read_text()


def test_with_labels_it_is_lemon_with_its_procedures(collected, color_options, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    shutil.copyfile(collected / "videos" / "-first_logo.mp4", own / "-first_logo.mp4")
    collect(tmp_path / "corpus", from_folder(own), QUICK)
    run_pipeline(tmp_path / "corpus", color_options)
    labels = tmp_path / "labels.json"
    entry = {"youtubeId": "-first_logo", "title": "A name", "procedureName": ["colectomy"], "robotic": True}
    labels.write_text(json.dumps([entry]))
    export_frame_set(tmp_path / "corpus", tmp_path / "out", FULL, labels=labels)
    frames = load_frame_set("lemon", tmp_path / "out", "all")
    assert [frames.features["procedures"].feature.names[number] for number in frames[0]["procedures"]] == ["colectomy"]
    assert not any(b"A name" in content for content in contents(tmp_path / "out").values())
    labels.write_text("[]")
    with pytest.raises(CurationError, match="says nothing"):
        export_frame_set(tmp_path / "corpus", tmp_path / "other", FULL, labels=labels)


def test_nothing_is_exported_before_somebody_looked_for_overlays(corpus, tmp_path):
    shutil.rmtree(corpus / "results" / "mask")
    with pytest.raises(CurationError, match="needs the results of mask"):
        export_frame_set(corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_is_not_mixed_with_other_options(exported, curated):
    with pytest.raises(OutputError, match="was begun with"):
        export_frame_set(curated, exported, ExportOptions(short_side=None, quality=95, keep_border=True))


@pytest.mark.parametrize("changes", [{"not_surgical": "blur"}, {"quality": 0}, {"frames_per_second": 0}])
def test_options_that_make_no_sense_are_refused(changes):
    with pytest.raises(InputError):
        ExportOptions(**changes)


# --------------------------------------------------------------------------------------------- the border


def test_the_border_is_what_is_black_to_the_edge():
    frame = np.full((60, 100, 3), 90, np.uint8)
    assert content_box(frame) == (0, 0, 100, 60)
    frame[:, :13] = frame[:7] = 4
    assert content_box(frame) == (13, 7, 100, 60)
    assert content_box(np.zeros((60, 100, 3), np.uint8)) == (0, 0, 100, 60)


def test_a_round_image_is_cut_where_a_third_of_a_row_is_black():
    rows, columns = np.mgrid[:200, :300]
    frame = (
        np.where(((rows - 100) ** 2 + (columns - 150) ** 2 < 95**2)[..., None], 120, 0).repeat(3, 2).astype(np.uint8)
    )
    left, top, right, bottom = content_box(frame)
    assert 55 < left < 110
    assert 190 < right < 245
    assert (top > 5, bottom < 195) == (True, True)
    dark = (frame[top:bottom, 55:245].max(axis=2) == 0).mean(axis=1)
    assert dark.max() <= 0.36

"""The one door to labels: the reader is found, and what several files say of one video is merged."""

import pytest

from surgvista_hf.datasets_scripts.own_labels.formats import find_reader, read_labels, readers
from surgvista_hf.datasets_scripts.schema.info import AnnotationError, MissingFilesError
from surgvista_hf.inference.prediction.label_suggestions import LabelSuggestions, SuggestedSegment, VideoUncertainty
from surgvista_hf.inference.prediction.prediction import Segment
from surgvista_hf.inference.writers.suggestions import save_suggestions
from surgvista_hf.util.errors import InputError
from tests.datasets_scripts.own_labels.reading import by_video, tiers, written


def test_files_of_one_video_are_its_tiers_wherever_they_lie(tmp_path):
    for folder, label in (("phases", "cut"), ("tools", "hook")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "op1.csv").write_text(f"start,end,label\n0,5,{label}\n")
    (tmp_path / "op2_steps.tsv").write_text("0\ta\n1\tb\n")
    (tmp_path / "patients.csv").write_text("video,patient\nop1.mp4,7\nop2,8\n")
    (tmp_path / "README.txt").write_text("The labels of May.\n")
    found = read_labels(tmp_path)
    videos = {video.video: video for video in found.videos}
    assert {tier.name: tier.spans[0].value for tier in videos["op1"].tiers} == {"phases": "cut", "tools": "hook"}
    assert [tier.name for tier in videos["op2"].tiers] == ["steps"]
    assert [dict(videos[name].properties) for name in ("op1", "op2")] == [{"patient": "7"}, {"patient": "8"}]
    assert set(found.formats.values()) == {"table"}


def test_videos_and_unfinished_files_beside_the_labels_are_passed_over(tmp_path):
    (tmp_path / "op1.mp4").write_bytes(b"video")
    (tmp_path / "op1.csv").write_text("0,cut\n1,sew\n")
    (tmp_path / "op2.csv.part").write_text("0,cut\n")
    assert [video.video for video in read_labels(tmp_path).videos] == ["op1"]


def test_contradicting_properties_are_refused_with_both_cells(tmp_path):
    (tmp_path / "a.csv").write_text("video,patient\nop1,7\n")
    (tmp_path / "b.csv").write_text("video,patient\nop1,8\n")
    with pytest.raises(AnnotationError, match=r"b\.csv:2 says that patient of 'op1' is '8'; .*a\.csv:2 says '7'"):
        read_labels(tmp_path)


def test_a_format_is_found_by_name_or_refused(tmp_path):
    path = tmp_path / "op1.csv"
    path.write_text("0,cut\n1,sew\n")
    assert find_reader(path).FORMAT == "table"
    assert find_reader(path, "table") is readers()["table"]
    with pytest.raises(InputError, match="no format 'tabel' of labels; did you mean table"):
        read_labels(path, "tabel")
    with pytest.raises(MissingFilesError, match="there are no labels at"):
        read_labels(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFilesError, match="holds no files with labels"):
        read_labels(tmp_path / "empty")
    (tmp_path / "op1.docx").write_text("cut")
    with pytest.raises(AnnotationError, match=r"op1\.docx has none of the formats"):
        read_labels(tmp_path / "op1.docx")


def test_names_of_tiers_that_are_only_written_differently_are_one(tmp_path):
    written(tmp_path, "op1.csv", "start,end,phase,Step No\n0,1,cut,1\n")
    written(tmp_path, "op2.csv", "start,end,Phase,step_no\n0,1,sew,2\n")
    written(tmp_path, "more/patients.csv", "video,Grade\nop1,a\n")
    written(tmp_path, "other/patients.csv", "video,grade\nop2,b\n")
    videos = by_video(read_labels(tmp_path).videos)
    assert {name: list(tiers(video)) for name, video in videos.items()} == {
        "op1": ["phase", "Step No"],
        "op2": ["phase", "Step No"],
    }
    assert {name: video.properties for name, video in videos.items()} == {"op1": {"Grade": "a"}, "op2": {"Grade": "b"}}


def test_two_tiers_of_one_video_are_not_put_together_for_their_names(tmp_path):
    written(tmp_path, "op1.csv", "start,end,phase,PHASE\n0,1,cut,open\n")
    written(tmp_path, "op2.csv", "start,end,Phase\n0,1,sew\n")
    videos = by_video(read_labels(tmp_path).videos)
    assert list(tiers(videos["op1"])) == ["phase", "PHASE"]
    assert list(tiers(videos["op2"])) == ["Phase"]


def test_names_and_labels_with_an_accent_apart_are_those_with_the_accent(tmp_path):
    written(tmp_path, "a.csv", "video,start,end,phase\nIgn\u00e1c,0,1,Pr\u00e4paration\n")
    written(tmp_path, "b.csv", "video,start,end,phase\nIgna\u0301c,1,2,Pra\u0308paration\n")
    (labels,) = read_labels(tmp_path).videos
    assert labels.video == "Ign\u00e1c"
    assert tiers(labels) == {"phase": [(0, 1, "Pr\u00e4paration"), (1, 2, "Pr\u00e4paration")]}


@pytest.fixture
def suggestions(tmp_path):
    """The folder that `surgvista suggest-labels` writes."""
    proposals = {"phase": [Segment(4.0, 9.0, "cut", 0.6)]}
    segments = (
        SuggestedSegment(1, "op1.mp4", 4.0, 9.0, 0.8, proposals, "cut or sew"),
        SuggestedSegment(2, "op1.mp4", 20.0, 25.0, 0.7, {"phase": [Segment(20.0, 25.0, "sew", 0.5)]}, "sew or cut"),
    )
    videos = (VideoUncertainty("op1.mp4", None, 30, 0, 0.5, None),)
    save_suggestions(LabelSuggestions(segments, videos, ["cut", "sew"], False, "phase", {}), tmp_path / "next")
    return tmp_path / "next"


def test_corrected_suggestions_give_the_tier_of_labels_alone(suggestions):
    found = read_labels(suggestions)
    (labels,) = found.videos
    assert tiers(labels) == {"phase": [(4, 9, "cut"), (20, 25, "sew")]}
    assert labels.properties == {}
    assert "2 tables of suggestions (suggestions.csv, videos.csv)" in found.passed


def test_a_table_of_suggestions_that_is_named_itself_gives_its_labels_alone(suggestions):
    (labels,) = read_labels(suggestions / "suggestions.csv").videos
    assert tiers(labels) == {"phase": [(4, 9, "cut"), (20, 25, "sew")]}


def test_a_tier_called_suggestion_with_labels_stays(tmp_path):
    written(tmp_path, "op1.csv", "start,end,suggestion\n0,1,cut\n")
    (labels,) = read_labels(tmp_path / "op1.csv").videos
    assert tiers(labels) == {"suggestion": [(0, 1, "cut")]}

"""What a prediction becomes: chapters, annotations, a video to watch, a page to read."""

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import av
import numpy as np
import pytest
from PIL import Image

from surgvista_hf import InputError, VideoReadError
from surgvista_hf.inference import VideoPrediction
from surgvista_hf.inference.prediction.prediction import FORMATS
from surgvista_hf.inference.writers.annotated_video import write_annotated_video
from surgvista_hf.inference.writers.save_predictions import write_video_report
from surgvista_hf.modeling.video_reading_surgvista import VideoReader
from surgvista_hf.util.class_colors import class_color

from ...videos import tagged, write_numbered_video
from ..tiny_models import NAMES, prediction


def tools() -> VideoPrediction:
    """Two tools, the first in two runs, the second in one that overlaps; two are never found."""
    probabilities = np.full((6, 4), 0.2)
    probabilities[[0, 1, 4], 0] = 0.9
    probabilities[1:3, 1] = 0.8
    return VideoPrediction("a.mp4", np.arange(6.0), probabilities, NAMES, multi_label=True)


def test_independent_classes_have_a_tier_each():
    found = tools().tiers()
    assert {name: [(each.start, each.end) for each in tier] for name, tier in found.items()} == {
        "Preparation": [(0, 2), (4, 5)],
        "Dissection": [(1, 3)],
    }
    assert prediction().tiers() == {"prediction": prediction().segments}


def test_chapters_are_the_segments_in_the_format_of_players(tmp_path):
    long = VideoPrediction(
        "a <b> & c.mp4", np.arange(0, 7300, 100.0), np.eye(2)[[0] * 40 + [1] * 33], ["A & B", "C --> D"]
    )
    (file,) = long.save(tmp_path, ["vtt"])
    text = file.read_text()
    assert text.startswith("WEBVTT\n\n")
    assert re.findall(r"^(\S+) --> (\S+)$", text, re.MULTILINE) == [
        ("00:00:00.000", "01:06:40.000"),
        ("01:06:40.000", "02:01:40.000"),
    ]
    assert "A &amp; B" in text
    assert text.count("-->") == 2  # a label cannot be taken for a time


@pytest.mark.parametrize("made", [prediction(), tools()])
def test_elan_annotations_refer_to_ordered_times_of_their_own(made, tmp_path):
    (file,) = made.save(tmp_path, ["eaf"])
    root = ElementTree.parse(file).getroot()
    slots = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) for slot in root.iter("TIME_SLOT")}
    assert list(slots.values()) == sorted(slots.values())
    read = {
        tier.get("TIER_ID"): [
            (slots[each.get("TIME_SLOT_REF1")], slots[each.get("TIME_SLOT_REF2")], each.findtext("ANNOTATION_VALUE"))
            for each in tier.iter("ALIGNABLE_ANNOTATION")
        ]
        for tier in root.iter("TIER")
    }
    expected = {
        name: [(1000 * each.start, 1000 * each.end, each.label) for each in tier]
        for name, tier in made.tiers().items()
    }
    assert read == expected
    used = [each.get(f"TIME_SLOT_REF{end}") for each in root.iter("ALIGNABLE_ANNOTATION") for end in (1, 2)]
    assert sorted(used) == sorted(slots)
    assert root.find("HEADER/MEDIA_DESCRIPTOR").get("RELATIVE_MEDIA_URL") == "./a.mp4"


def test_the_annotated_video_shows_frames_and_classes_without_sound_or_metadata(tmp_path):
    source = tagged(write_numbered_video(tmp_path / "a.mp4", count=60), tmp_path / "tagged.mp4")
    write_annotated_video(source, prediction(), tmp_path / "annotated.mp4", frames_per_second=5)
    content = (tmp_path / "annotated.mp4").read_bytes()
    assert b"Jane Doe" in source.read_bytes()
    assert b"Jane Doe" not in content
    with av.open(str(tmp_path / "annotated.mp4")) as written:
        assert [stream.type for stream in written.streams] == ["video"]
        assert float(written.streams.video[0].average_rate) == 5
    with VideoReader(source) as before, VideoReader(tmp_path / "annotated.mp4") as after:
        height, width = before.info.height, before.info.width
        frames = after.frames_at([1.0, 4.0])
        originals = before.frames_at([1.0, 4.0])
    assert abs(frames[:, :height, :width].astype(int) - originals).mean() < 12
    wanted = [int(class_color(3)[place : place + 2], 16) for place in (1, 3, 5)]
    assert abs(frames[0, -3, -3].astype(int) - wanted).max() < 40  # the last sixth of the ribbon is Packaging


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_needs_nothing_else_and_says_everything_in_words_too(tmp_path):
    video = write_numbered_video(tmp_path / "a.mp4", count=60)
    model_info = {"phase": {"from": "<script>alert(1)</script>", "license": "mit"}}
    write_video_report({"phase": prediction(), "tools": tools()}, tmp_path / "report.html", video, model_info)
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert not page.open
    assert "<script" not in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert "Research use only, not a medical device" in text
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == len(prediction().segments)
    assert all("Preparation" in each["alt"] or "confidence" in each["alt"] for each in pictures)
    (drawing,) = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert "Dissection from 0:02 to 0:05, confidence 70%" in drawing["aria-label"]
    assert "Never predicted: Clipping." in text
    assert "0:00–0:02, 0:04–0:05" in text
    assert "Packaging" in text


def test_every_format_can_be_written_at_once_and_of_one_second(tmp_path):
    video = write_numbered_video(tmp_path / "a.mp4", count=8)
    files = prediction([2]).save(tmp_path / "out", list(FORMATS), video=video)
    assert [file.name for file in files] == list(FORMATS.values())
    assert all(file.stat().st_size for file in files)
    with Image.open(tmp_path / "out" / "timeline.png") as picture:
        assert picture.size[0] > 1000


def test_what_cannot_be_written_is_said_before_anything_is(tmp_path):
    with pytest.raises(InputError, match="there is no format 'docx'; there are csv"):
        prediction().save(tmp_path / "out", ["csv", "docx"])
    with pytest.raises(InputError, match="needs the video"):
        prediction().save(tmp_path / "out", ["csv", "mp4"])
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoReadError):
        prediction().save(tmp_path / "out", ["mp4"], video=tmp_path / "text.mp4")
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True
    with pytest.raises(InputError, match="0 frames a second"):
        write_annotated_video(tmp_path / "text.mp4", prediction(), tmp_path / "b.mp4", frames_per_second=0)

"""Files of overrides: what may stand in them, and what a broken one leads to."""

import json

import numpy as np
import pytest

from surgvista_hf.curation.collection.manifest import Collection, CurationError, Video, read_manifest
from surgvista_hf.curation.collection.overrides import (
    Override,
    OverrideError,
    Overrides,
    apply_overrides,
    corrected,
    read_overrides,
    to_json,
)
from surgvista_hf.curation.collection.results import summarize
from surgvista_hf.curation.review import write_review
from surgvista_hf.curation.stages.export import export_frame_set
from surgvista_hf.curation.stages.pipeline import run_stage


@pytest.fixture
def corpus(tmp_path):
    collection = Collection(tmp_path / "corpus")
    with collection.locked(create=True):
        for name in ("-a", "b"):
            collection.write_video(Video(name))
    return tmp_path / "corpus"


def written(tmp_path, content: object):
    path = tmp_path / "overrides.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_what_is_written_is_read(tmp_path):
    entries = [
        Override("-a", "keep", 3.5, None, note="eine Vorführung"),
        Override("-a", "mask", 1, 2, (0, 0, 10, 20)),
        Override("b", "drop"),
    ]
    path = written(tmp_path, to_json(Overrides(entries)))
    assert list(read_overrides(path)) == entries
    assert list(read_overrides(tmp_path / "none.json")) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "cannot be read"),
        ({"video": "b"}, "a list of objects is expected"),
        (["b"], "entry 1: it is no object"),
        ([{"video": "b"}], "entry 1"),
        ([{"video": "b", "decision": "drop", "color": 1}], "color"),
        ([{"video": "b", "decision": "drp"}], "did you mean drop"),
        ([{"video": "../b", "decision": "drop"}], "cannot be the id"),
        ([{"video": "b", "decision": "drop", "start": 1}], "takes no time"),
        ([{"video": "b", "decision": "surgical"}], "needs a time"),
        ([{"video": "b", "decision": "mask"}], "needs a box"),
        ([{"video": "b", "decision": "mask", "box": [1, 2, 3]}], "is no box"),
        ([{"video": "b", "decision": "mask", "box": [9, 2, 3, 4]}], "is no box"),
        ([{"video": "b", "decision": "mask", "box": [0, 2, 3.5, 4]}], "is no box"),
        ([{"video": "b", "decision": "surgical", "start": -1}], "no second"),
        ([{"video": "b", "decision": "surgical", "start": "1"}], "no second"),
        ([{"video": "b", "decision": "surgical", "start": 5, "end": 5}], "is empty"),
        ([{"video": "b", "decision": "keep"}, {"video": "b", "decision": "drop"}], "to be kept and to be dropped"),
        ([{"video": "c", "decision": "drop"}], "speaks of videos that are not in"),
    ],
)
def test_a_broken_file_is_named_with_its_entry_and_changes_nothing(corpus, tmp_path, content, reason):
    before = sorted(corpus.rglob("*"))
    with pytest.raises(OverrideError, match=reason):
        apply_overrides(corpus, written(tmp_path, content))
    assert sorted(corpus.rglob("*")) == before


def test_a_missing_file_and_a_missing_collection_are_named(corpus, tmp_path):
    with pytest.raises(OverrideError, match=r"no file with overrides at .*none\.json"):
        apply_overrides(corpus, tmp_path / "none.json")
    with pytest.raises(CurationError, match="is no collection"):
        apply_overrides(tmp_path / "nowhere", written(tmp_path, []))


def test_a_new_file_replaces_the_decisions_about_its_videos_only(corpus, tmp_path):
    apply_overrides(
        corpus,
        written(tmp_path, [{"video": "-a", "decision": "drop"}, {"video": "b", "decision": "surgical", "start": 1}]),
    )
    apply_overrides(corpus, written(tmp_path, [{"video": "b", "decision": "keep"}]))
    found = read_overrides(corpus / "overrides.json")
    assert [(each.video, each.decision) for each in found] == [("-a", "drop"), ("b", "keep")]


def test_decisions_in_the_file_of_an_earlier_version_stop_every_step_until_it_is_renamed(corpus, tmp_path):
    apply_overrides(corpus, written(tmp_path, [{"video": "b", "decision": "drop"}]))
    earlier = (corpus / "overrides.json").rename(corpus / "overrules.json")
    before = {file: file.read_bytes() for file in corpus.rglob("*") if file.is_file()}
    steps = [
        lambda: summarize(Collection(corpus)),
        lambda: apply_overrides(corpus, written(tmp_path, [{"video": "-a", "decision": "drop"}])),
        lambda: run_stage(corpus, "trim"),
        lambda: write_review(corpus, tmp_path / "page.html"),
        lambda: export_frame_set(corpus, tmp_path / "frames"),
    ]
    for step in steps:
        with pytest.raises(CurationError, match=r"overrules\.json holds decisions .* Rename it to overrides\.json\."):
            step()
    assert {file: file.read_bytes() for file in corpus.rglob("*") if file.is_file()} == before
    earlier.rename(corpus / "overrides.json")
    summarize(Collection(corpus))
    assert {row["video_id"]: row["kept"] for row in read_manifest(corpus).to_pylist()} == {"-a": None, "b": False}


def test_two_files_of_decisions_are_named_both(corpus, tmp_path):
    apply_overrides(corpus, written(tmp_path, [{"video": "b", "decision": "drop"}]))
    (corpus / "overrules.json").write_text("[]")
    with pytest.raises(CurationError, match=r"Both files are there: move the decisions of overrules\.json"):
        apply_overrides(corpus, written(tmp_path, [{"video": "b", "decision": "keep"}]))


def test_seconds_are_corrected_in_the_order_of_the_entries():
    flags = np.zeros(8, bool)
    decided = [
        Override("a", "surgical", 1, 6),
        Override("a", "non-surgical", 2.5, 4),
        Override("a", "surgical", 7),
        Override("a", "non-surgical", 90, 95),
    ]
    assert corrected(flags, decided).astype(int).tolist() == [0, 1, 1, 0, 1, 1, 0, 1]
    assert not flags.any()

"""Files of overrides: what may stand in them, and what a broken one leads to."""

import json

import numpy as np
import pytest

from surgvista_hf.curation.collection.manifest import Collection, CurationError, Video
from surgvista_hf.curation.collection.overrides import (
    Override,
    OverrideError,
    Overrides,
    apply_overrides,
    corrected,
    read_overrides,
    to_json,
)


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


def test_a_new_file_replaces_what_was_said_of_its_videos_only(corpus, tmp_path):
    apply_overrides(
        corpus,
        written(tmp_path, [{"video": "-a", "decision": "drop"}, {"video": "b", "decision": "surgical", "start": 1}]),
    )
    apply_overrides(corpus, written(tmp_path, [{"video": "b", "decision": "keep"}]))
    found = read_overrides(corpus / "overrides.json")
    assert [(each.video, each.decision) for each in found] == [("-a", "drop"), ("b", "keep")]


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

"""The comparison of thousands of videos: what is generated, and how it is scored."""

import json
import sys

import numpy as np
import pytest

from benchmarks import deduplication
from benchmarks.deduplication import KINDS, growth, make_hashes, measure, scores, video_kind, write_hashes


def test_generated_hashes_change_as_slowly_as_measured_and_are_a_function_of_their_number():
    hashes = make_hashes(0)
    assert len(hashes) == 28_800
    changed = np.bitwise_count(hashes[1:] ^ hashes[:-1])[(hashes[1:] != 0) & (hashes[:-1] != 0)]
    assert changed.mean() == pytest.approx(5.0, abs=0.5)  # measured on real surgery
    assert np.array_equal(make_hashes(4), make_hashes(4))
    assert not np.array_equal(make_hashes(1)[:100], hashes[:100])


def test_one_video_in_five_is_a_copy_and_all_kinds_occur():
    kinds = [video_kind(number) for number in range(50)]
    assert kinds.count("") == 40
    assert [kind for kind in kinds if kind] == list(KINDS)


def test_a_removal_is_right_only_with_its_original_as_the_keeper():
    found = scores(50, {4: 0, 5: 9, 14: 11, 33: 2})
    assert (found["copies"], found["dropped"], found["recall"], found["precision"]) == (10, 4, 0.2, 0.5)
    assert found["recall_by_kind"]["cut"] == {"copies": 1, "found": 1}
    assert found["recall_by_kind"]["coded again"] == {"copies": 1, "found": 0}


def test_growth_is_the_exponent():
    assert growth([{"videos": n, "processor_seconds": 3 * n**2} for n in (10, 20, 40)]) == pytest.approx(2)
    assert growth([{"videos": 10, "processor_seconds": 1}]) is None


def test_short_videos_are_measured_and_finished_sizes_are_kept(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(deduplication, "SECONDS", 240)
    write_hashes(tmp_path / "hashes", 5)
    found = measure(tmp_path / "hashes", 5)
    assert (found["videos"], found["recall"], found["precision"]) == (5, 1.0, 1.0)
    assert found["peak_gigabytes"] > 0
    (tmp_path / "5.json").write_text(json.dumps(found))
    monkeypatch.setattr(sys, "argv", ["deduplication", "--work", str(tmp_path), "--sizes", "5"])
    deduplication.main()
    assert json.loads(capsys.readouterr().out)["sizes"] == [found]

"""Finished runs of experiments: kept with their settings, and never taken for those of other settings."""

import pytest

from benchmarks.repeatable import kept_run


def test_a_finished_run_is_not_made_again_and_never_stands_for_other_settings(tmp_path):
    path, made = tmp_path / "run.json", []

    def run() -> dict[str, int]:
        made.append(1)
        return {"score": len(made)}

    first = kept_run(path, {"epochs": 2, "scale": (0.1, 1.0)}, run)
    assert first["score"] == 1
    assert first["environment"]["versions"]["torch"]
    assert kept_run(path, {"scale": [0.1, 1.0], "epochs": 2}, run) == first
    with pytest.raises(SystemExit, match="use another folder"):
        kept_run(path, {"epochs": 3, "scale": (0.1, 1.0)}, run)
    assert len(made) == 1

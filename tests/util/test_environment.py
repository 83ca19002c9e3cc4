"""The environment of a result: what it says, and that a revision is only told of the checkout that the code lies in."""

import shutil
import subprocess
from pathlib import Path

import pytest

from surgvista_hf.util import environment as module
from surgvista_hf.util.environment import environment


def test_the_environment_names_versions_and_device():
    found = environment()
    assert {"torch", "transformers", "datasets"} <= set(found["versions"])
    assert found["device"]
    assert found["python"].count(".") == 2


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_copy_that_no_repository_tracks_has_no_revision(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    copy = Path(shutil.copy(module.__file__, tmp_path))
    monkeypatch.setattr(module, "__file__", str(copy))
    assert environment()["revision"] is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "copy"], check=True)
    assert len(environment()["revision"]) == 12

"""What a feature needs is checked by one function, and its error says what installs it."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from surgvista_hf.modeling.errors_surgvista import SurgVistaError
from surgvista_hf.util import requirements
from surgvista_hf.util.requirements import FEATURES, MissingPackageError, require

REPOSITORY = Path(__file__).resolve().parents[2]


def test_what_is_missing_is_named_with_all_that_installs_it(monkeypatch):
    for package in ("peft", "bitsandbytes"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingPackageError, match=r"needs peft; .*needs bitsandbytes: pip install 'surgvista-hf\[peft,q"
    ):
        require("adapter", "few_bits", "adapter")


def test_what_is_too_old_is_named_with_what_there_is(monkeypatch):
    monkeypatch.setattr(requirements.metadata, "version", lambda name: "0.1.2")
    with pytest.raises(MissingPackageError, match=r"peft 0\.21 or newer \(there is 0\.1\.2\)"):
        require("adapter")


@pytest.mark.parametrize("name", FEATURES)
def test_every_feature_needs_what_its_extra_installs(name):
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = dict(re.split(">=", line) for line in extras[FEATURES[name].extra])
    for package, oldest in FEATURES[name].packages.items():
        assert installed[package.replace("_", "-")] == oldest


LOOKING = r"(?<!def )(?<!each\.)find_spec\(|pip install ['\"]?surgvista-hf\["  # not the finders of `import_hooks`


def test_no_other_file_looks_for_optional_packages():
    """Allow only these files to look whether a package is there; the rest call `require`."""
    allowed = {"util/requirements.py", "space/app.py"}  # Hugging Face's `spaces` exists on their machines only
    root = REPOSITORY / "surgvista_hf"
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if not path.name.endswith("_surgvista.py")  # they travel with a checkpoint and cannot call it
        and re.search(
            r"(?<!def )(?<!each\.)find_spec\(|pip install ['\"]?surgvista-hf\[", path.read_text().partition('"""\n')[2]
        )
    }
    assert found <= allowed | {"util/requirements.py"}
    assert issubclass(MissingPackageError, SurgVistaError)

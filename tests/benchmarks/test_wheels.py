"""The wheels for a GPU machine without internet: versions, sizes, and wheels that are written again without some files."""

import re
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from benchmarks.wheels import MISSING, PRESENT, leave_out, versions
from surgvista_hf.util.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_dependency_is_on_such_machines_or_among_the_wheels():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {Requirement(text).name for text in project["dependencies"]}
    assert needed - PRESENT - set(MISSING) == set()
    assert PRESENT & set(MISSING) == set()


def test_wheels_have_the_tested_versions():
    found = versions(MISSING)
    assert list(found) == list(MISSING)
    assert all(f"{name}=={version}".lower() in constraints() for name, version in found.items())
    with pytest.raises(InputError, match="no version of nonesuch"):
        versions(["av", "nonesuch"])


def constraints() -> set[str]:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").lower().splitlines()
    return {line.replace("_", "-") for line in lines}


def test_libraries_are_left_out_of_a_wheel_and_of_its_record(tmp_path):
    wheel = tmp_path / "some-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for name in ("some/__init__.py", "some/lib_cpu.so", "some/lib_cuda118.so"):
            file.writestr(name, name)
        file.writestr("some-1.0.dist-info/RECORD", "some/lib_cuda118.so,,\n")
    leave_out(wheel, re.compile(r"some/lib_(?!cpu)\w+\.so"))
    with zipfile.ZipFile(wheel) as file:
        assert file.read("some/lib_cpu.so") == b"some/lib_cpu.so"
        record = file.read("some-1.0.dist-info/RECORD").decode().splitlines()
        assert sorted(line.split(",")[0] for line in record) == sorted(file.namelist())
    assert [line.split(",")[2] for line in record if "_cpu" in line] == ["15"]
    assert not any("cuda118" in line for line in record)

"""Runs the common model tests of the installed transformers version on our models.

transformers does not install its tests, but its source distribution contains the common ones. They change with every
release, so the ones of the installed version are fetched once, into `.cache/`, through the package registry that pip is
configured for.
"""

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import transformers
from filelock import FileLock

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".cache" / "transformers-tests"
PACKAGE = "transformers_tests"
TESTS = Path(__file__).with_name("common_suite_models.py")

# What the common tests import from files that the source distribution leaves out.
_STAND_INS = {
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/test_configuration_utils.py": f"""config_common_kwargs = {
        {
            "return_dict": False,
            "output_hidden_states": True,
            "output_attentions": True,
            "dtype": "float16",
            "chunk_size_feed_forward": 5,
            "architectures": ["SomeModel"],
            "id2label": {0: "label"},
            "label2id": {"label": "0"},
            "problem_type": "regression",
        }
    }\n""",
}


class SuiteUnavailable(Exception):
    """The source distribution cannot be had: no registry within reach, or no such release."""


@dataclass(frozen=True)
class Outcome:
    """The result of a run of the suite.

    Args:
        passed: number of tests that passed and of which no part was skipped.
        skipped: each skipped test or part of a test, with the reason.
        exit_status: pytest's.
        output: all that pytest printed.
    """

    passed: int
    skipped: list[tuple[str, str]]
    exit_status: int
    output: str


def run() -> Outcome:
    """Run the suite in a process of its own, offline.

    Raises:
        SuiteUnavailable: the suite is not cached and cannot be fetched.
    """
    folder = fetch()
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report.xml")
        settings = [f"-c={folder}/pytest.ini", "-p", "no:cacheprovider", "-p", "no:xdist", "--disable-warnings"]
        process = subprocess.run(
            [sys.executable, "-m", "pytest", TESTS, "--quiet", f"--junitxml={report}", *settings],
            # The options of a pytest around this one are meant for that one.
            env={**os.environ, "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1", "PYTEST_ADDOPTS": ""},
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    skipped = [(case.get("name", ""), mark.get("message", "")) for case in cases for mark in case.iter("skipped")]
    return Outcome(sum(not len(case) for case in cases), skipped, process.returncode, process.stdout)


def fetch() -> Path:
    """Return the folder that holds the suite of the installed version as package `transformers_tests`, made if need be.

    Raises:
        SuiteUnavailable: it is not cached and cannot be fetched.
    """
    folder = CACHE / transformers.__version__
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / "lock"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
                archive = _download(Path(scratch))
                _lay_out(archive, Path(scratch, "suite"))
                Path(scratch, "suite").rename(folder)
    return folder


def _download(folder: Path) -> Path:
    wanted = f"transformers=={transformers.__version__}"
    # Without build isolation pip does not first make an environment in order to read the archive's metadata.
    options = ["--no-deps", "--no-build-isolation", "--no-binary=transformers", f"--dest={folder}"]
    process = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, wanted],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if process.returncode:
        reason = process.stderr.strip().splitlines()[-1:]
        raise SuiteUnavailable(f"pip cannot download the source distribution of {wanted}: {' '.join(reason)}")
    (archive,) = folder.glob("*.tar.gz")
    return archive


def _lay_out(archive: Path, folder: Path) -> None:
    package = folder / PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    with tarfile.open(archive) as members:
        for member in members:
            # Only plain names directly in `tests/` match, so nothing can be written elsewhere.
            match = re.fullmatch(r"[^/]+/tests/(test_\w+\.py)", member.name)
            content = members.extractfile(member) if match and member.isfile() else None
            if match and content:
                (package / match[1]).write_bytes(content.read())
    for name, text in _STAND_INS.items():
        (package / name).parent.mkdir()
        (package / name).parent.joinpath("__init__.py").touch()
        (package / name).write_text(text, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")

"""What is imported, and so waited for, before anything is done."""

import os
import subprocess
import sys

import pytest

from .documents import REPOSITORY

# Modules of the standard library that cost more than all that is needed, beside every third-party package.
HEAVY = {
    "asyncio",
    "dataclasses",
    "hashlib",
    "inspect",
    "logging",
    "socket",
    "ssl",
    "subprocess",
    "importlib.metadata",
}
PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
before = set(sys.modules)
try:
    {statement}
except SystemExit:
    pass
print(*sorted(set(sys.modules) - before), sep="\\n", file=sys.stderr)
"""


def added(statement: str) -> set[str]:
    """Return the modules that a statement imports in a Python without any third-party package."""
    program = PROGRAM.format(folder=str(REPOSITORY), statement=statement)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
    command = [sys.executable, "-S", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize(
    ("statement", "ours"),
    [
        ("import surgvista_hf", {"modeling", "modeling.auto", "util", "util.import_hooks"}),
        (
            "from surgvista_hf.cli.main import main; main(['--help'])",
            {"cli", "cli.common", "cli.main", "modeling", "modeling.auto", "util", "util.import_hooks"},
        ),
        (
            "from surgvista_hf.cli.main import main; main(['--version'])",
            {"cli", "cli.common", "cli.main", "modeling", "modeling.auto", "util", "util.import_hooks"},
        ),
    ],
    ids=["import surgvista_hf", "surgvista --help", "surgvista --version"],
)
def test_importing_the_package_and_asking_for_help_import_little_of_it_and_nothing_heavy(statement, ours):
    modules = added(statement)
    assert {name for name in modules if name.startswith("surgvista_hf.")} == {f"surgvista_hf.{name}" for name in ours}
    assert modules & HEAVY == set()


def test_the_help_of_a_verb_needs_no_third_party_package_and_no_other_verb():
    modules = added("from surgvista_hf.cli.main import main; main(['predict', '--help'])")
    assert {name for name in modules if name.startswith("surgvista_hf.cli.")} == {
        "surgvista_hf.cli.common",
        "surgvista_hf.cli.main",
        "surgvista_hf.cli.predict",
    }
    assert modules & {"asyncio", "subprocess", "ssl"} == set()

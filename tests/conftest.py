"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub: no test waits for a network
# Before torch is imported: parallel workers of several threads each starve each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from .processes import LIBRARIES, Processes, without_bfloat16

without_bfloat16()

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def _logs_of_commands_lie_in_a_temporary_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real clips and annotations; they may not be copied into the project, so tests skip where they are absent."""
    path = REPOSITORY.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the folder ../shared/data with real clips and annotations is not on this machine")
    return path


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    """Starts programs in processes of their own, without importing torch for each."""
    started = Processes()
    yield started
    started.close()


@pytest.fixture(scope="session")
def libraries() -> Iterator[Processes]:
    """Start programs that import transformers and the package themselves, without importing torch for each."""
    started = Processes(LIBRARIES)
    yield started
    started.close()


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """The folder of a classifier of four phases."""
    from .inference.tiny_models import save_classifier  # loads torch, which not every test needs

    return save_classifier(tmp_path / "model")


@pytest.fixture
def detector_folder(tmp_path: Path) -> Path:
    """The folder of a detector of the outside."""
    from .inference.tiny_models import save_detector

    return save_detector(tmp_path / "detector")

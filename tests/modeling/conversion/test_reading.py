"""Checkpoints of other people's programs: what lies beside the weights does not matter, and nothing in a file is run."""

import argparse
import collections
import datetime
import decimal
import functools
import importlib
import io
import operator
import os
import pathlib
import pickle
import shutil
import subprocess
import types
import uuid

import numpy as np
import pytest
import torch

from surgvista_hf.modeling.conversion import CheckpointError
from surgvista_hf.modeling.conversion.reading import read_checkpoint

BESIDE = {
    "numpy float": np.float64(91.3),
    "numpy integer": np.int64(7),
    "numpy truth": np.bool_(True),
    "numpy text": np.str_("best"),
    "numpy date": np.datetime64("2026-01-01"),
    "numpy array": np.arange(3.0),
    "numpy array of objects": np.array(["a", None], dtype=object),
    "structured array": np.zeros(2, dtype=[("loss", "f4"), ("name", "U4")]),
    "numpy dtype": np.dtype("float32"),
    "numpy type": np.float32,
    "state of numpy's generator": np.random.RandomState(0).get_state(),
    "generator of numpy": np.random.default_rng(0),
    "older generator of numpy": np.random.RandomState(0),
    "path": pathlib.Path("/runs/1"),
    "path of Windows": pathlib.PureWindowsPath("C:/runs"),
    "torch dtype": torch.bfloat16,
    "torch size": torch.Size([3, 4]),
    "device": torch.device("cuda:0"),
    "state of torch's generator": torch.get_rng_state(),
    "version of torch": torch.__version__,
    "set": {"pos_embed"},
    "frozen set": frozenset({pathlib.Path("a"), pathlib.Path("b")}),
    "default dictionary": collections.defaultdict(list, {"loss": [np.float32(1)]}),
    "counter": collections.Counter("aab"),
    "queue": collections.deque([1.0, 2.0], maxlen=5),
    "date": datetime.datetime.now(datetime.UTC),
    "duration": datetime.timedelta(seconds=3),
    "decimal": decimal.Decimal("1.5"),
    "id": uuid.uuid4(),
    "slice and range": (slice(1, 2), range(3)),
    "complex": 1j,
    "namespace of types": types.SimpleNamespace(lr=np.float64(1)),
    "keys of numpy": {np.int64(3): "a", pathlib.Path("b"): 1},
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("beside", BESIDE)
def test_data_beside_the_weights_does_not_stand_in_the_way(beside, zipped, tmp_path):
    weights, value = torch.randn(2, 3), BESIDE[beside]
    content = {"args": argparse.Namespace(x=value, all=[value]), "model": {"w": weights}, "best": value}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    tensors = read_checkpoint(tmp_path / "a.pth").tensors
    assert list(tensors) == ["w"]
    assert torch.equal(tensors["w"], weights)


def renamed(content: object, before: str, after: str) -> bytes:
    """A checkpoint whose pickle names other modules, as another version or library would have written it."""
    old = io.BytesIO()
    torch.save(content, old, _use_new_zipfile_serialization=False)
    return old.getvalue().replace(before.encode(), after.encode())


class Config(dict):  # type: ignore[type-arg]
    """Like those of configuration libraries: a dictionary with attributes."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.__dict__.update(self)


@pytest.mark.parametrize("name", ["easydict\nEasyDict\n", "yacs.config\nCfgNode\n"])
def test_configurations_of_libraries_that_are_not_installed_are_passed_over(name, tmp_path):
    content = {"cfg": Config(lr=1e-3, inner=Config(a=[1])), "model": {"w": torch.ones(2)}}
    (tmp_path / "a.pth").write_bytes(renamed(content, f"{__name__}\nConfig\n", name))
    assert list(read_checkpoint(tmp_path / "a.pth").tensors) == ["w"]


@pytest.mark.parametrize(
    ("content", "before", "after"),
    [
        (np.float64(1), "numpy._core.multiarray\n", "numpy.core.multiarray\n"),
        (pathlib.PurePosixPath("a"), "pathlib\nPurePosixPath", "pathlib._local\nPosixPath"),
        (pathlib.PurePosixPath("a"), "pathlib\nPurePosixPath", "pathlib\nWindowsPath"),
    ],
)
def test_the_names_of_other_versions_and_systems_are_known(content, before, after, tmp_path):
    data = renamed({"model": {"w": torch.ones(2)}, "x": content}, before, after)
    assert after.encode() in data
    (tmp_path / "a.pth").write_bytes(data)
    assert list(read_checkpoint(tmp_path / "a.pth").tensors) == ["w"]


def test_weights_in_another_kind_of_dictionary_are_found(tmp_path):
    torch.save({"model": collections.defaultdict(list, {"w": torch.ones(2)})}, tmp_path / "a.pth")
    assert list(read_checkpoint(tmp_path / "a.pth").tensors) == ["w"]


class Call:
    """Calls a function when it is unpickled the usual way."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.function, self.arguments


CODE = {
    "os.system": Call(os.system, "touch code-was-run"),
    "os.mkdir": Call(os.mkdir, "code-was-run"),
    "eval": Call(eval, "open('code-was-run', 'w')"),
    "exec": Call(exec, "open('code-was-run', 'w')"),
    "open": Call(open, "code-was-run", "w"),
    "getattr": Call(getattr, 1, "real"),
    "__import__": Call(__import__, "this"),
    "import_module": Call(importlib.import_module, "this"),
    "Popen": Call(subprocess.Popen, ["touch", "code-was-run"]),
    "rmtree": Call(shutil.rmtree, "code-was-run"),
    "partial": Call(functools.partial, os.getpid),
    "attrgetter": Call(operator.attrgetter, "real"),
    "method of a path": Call(pathlib.Path.write_text, pathlib.Path("code-was-run"), "x"),
    "numpy.load": Call(np.load, "x.npy", None, True),
    "numpy.memmap": Call(np.memmap, "code-was-run", "u1", "w+", 0, (1,)),
    "numpy.fromfile": Call(np.fromfile, "code-was-run"),
    "torch.load": Call(torch.load, "x.pth"),
    "torch.hub.load": Call(torch.hub.load, "owner/name", "model"),
    "pickle.loads": Call(pickle.loads, b"N."),
    "class of a program": Call(Call, 1),
    "class made on the spot": Call(type, "Made", (), {}),
}


@pytest.mark.parametrize("where", ["beside", "among the weights", "inside a namespace", "as a state"])
@pytest.mark.parametrize("code", CODE)
def test_a_pickle_that_calls_something_is_refused_and_calls_nothing(code, where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights: dict[str, object] = {"w": torch.ones(2)}
    content: dict[str, object] = {"model": weights}
    if where == "among the weights":
        weights["x"] = CODE[code]
    elif where == "inside a namespace":
        content["args"] = argparse.Namespace(x=[CODE[code]])
    else:
        content["x"] = CODE[code] if where == "beside" else collections.defaultdict(list, {"x": CODE[code]})
    torch.save(content, "a.pth")
    with pytest.raises(CheckpointError, match="which could run code when loaded"):
        read_checkpoint("a.pth")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pth"]


def test_the_message_names_what_is_in_the_way(tmp_path):
    torch.save({"model": {"w": torch.ones(2)}, "x": Call(np.load, "x.npy")}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"it holds numpy\.load"):
        read_checkpoint(tmp_path / "a.pth")

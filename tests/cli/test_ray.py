"""`--executor ray` on a cluster of two nodes: the bytes of one process, whatever dies meanwhile."""

import json
import os
import resource
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import yaml
from filelock import FileLock

from surgvista_hf.cli.main import main
from surgvista_hf.datasets_scripts.frame_sets import prepare
from surgvista_hf.util.errors import InputError
from surgvista_hf.util.executors import Lazy, Ray, run_over
from surgvista_hf.util.files import atomic_file

from ..videos import write_numbered_video

pytestmark = pytest.mark.slow
ON_RAY = ["--executor", "ray"]
FRAME_SET = {"videos": 3, "seconds": 26, "height": 48, "width": 64}


class Cluster:
    """A cluster of Ray in processes of this machine: a head with one CPU, and a node with one CPU and two pretended GPUs."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as LocalCluster

        self._cluster = LocalCluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})

    def start(self) -> None:
        """Start the second node, and connect to both."""
        import ray

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
            self._cluster.add_node(num_cpus=1, num_gpus=2)
        ray.init(address=self._cluster.address, log_to_driver=False)
        self._cluster.wait_for_nodes()
        assert len(ray.nodes()) == 2

    def add(self) -> Any:
        """Add a node with a CPU that only tasks for it take."""
        node = self._cluster.add_node(num_cpus=1)
        self._cluster.wait_for_nodes()
        return node

    def remove(self, node: Any) -> None:
        """Take a node away, as if its power had failed."""
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        import ray

        ray.shutdown()
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    # Only one at a time, where tests run in several processes.
    with FileLock(tmp_path_factory.getbasetemp().parent / "ray.lock"):
        running = Cluster()
        try:
            running.start()
            yield running
        finally:
            running.close()


@pytest.fixture(scope="module")
def frame_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("frames") / "synthetic"
    prepare.prepare_frame_set(
        "synthetic", None, folder, settings={key: str(value) for key, value in FRAME_SET.items()}
    )
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate("abc"):
        write_numbered_video(folder / f"{name}.mp4", count=30 + 10 * number)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    from ..inference.tiny_models import save_classifier, save_detector  # tests without models do without torch

    folder = tmp_path_factory.mktemp("models")
    save_classifier(folder / "classifier")
    save_detector(folder / "detector")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    found = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for name, file in sorted(found.items())}


def frames_of(file: Path) -> np.ndarray:
    """Return the frames of a video, (frames, height, width, 3)."""
    with av.open(str(file)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def same_bytes(tmp_path: Path, words: Callable[[Path], list[str]]) -> dict[str, bytes]:
    """Run a command in one process and on the cluster, and return what both have written."""
    for name, options in (("here", []), ("ray", ON_RAY)):
        assert main([*words(tmp_path / name), *options]) == 0
    here, there = contents(tmp_path / "here"), contents(tmp_path / "ray")
    assert list(here) == list(there)
    assert [name for name in here if here[name] != there[name]] == []
    assert here
    return here


# ------------------------------------------------------------------------------------------- the executor


def square(number: int) -> int:
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)  # as a decoder that crashes
    if number < 0:
        raise InputError(f"{number} is negative")
    return number * number


def crashed(number: int, reason: str) -> int:
    assert "was killed" in reason
    return -number


class Placed:
    """Tell the process of a task, the one that loaded its model, its GPUs and its working folder."""

    def __init__(self) -> None:
        self.model = Lazy(os.getpid)

    def __call__(self, number: int) -> tuple[int, int, str, str]:
        time.sleep(0.2)
        return os.getpid(), self.model.value, os.environ.get("CUDA_VISIBLE_DEVICES", ""), str(Path.cwd())


class WritesLong:
    """Write a file in which the task stays for a minute, but for the first one."""

    def __call__(self, path: Path) -> str:
        with atomic_file(path) as temporary:
            temporary.write_text("whole")
            for _ in range(0 if path.stem == "0" else 1200):  # Python can be interrupted between two calls
                time.sleep(0.05)
        return path.name


def test_tasks_keep_their_model_their_gpu_and_their_errors(cluster, tmp_path, monkeypatch):
    assert sorted(run_over(square, [1, 13, 2], crashed, executor=Ray(max_retries=1), num_proc=2)) == [-13, 1, 4]
    with pytest.raises(InputError, match=r"^-3 is negative$"):
        list(run_over(square, [-3], crashed, executor="ray"))
    monkeypatch.chdir(tmp_path)
    found = list(run_over(Placed(), [1, 2, 3, 4, 5], crashed, executor="ray", num_proc=0))
    assert all(process == loaded_in for process, loaded_in, _, _ in found)
    assert {folder for *_, folder in found} == {str(tmp_path)}
    on_gpu = Ray(num_gpus=1, num_cpus=0.5, max_retries=1)
    found = list(run_over(Placed(), [1, 2, 3, 4, 5], crashed, executor=on_gpu, num_proc=0))
    assert len({(process, gpu) for process, _, gpu, _ in found}) == 2  # an actor for each GPU, which keeps it
    assert all(process == loaded_in for process, loaded_in, _, _ in found)
    assert {gpu for _, _, gpu, _ in found} == {"0", "1"}
    assert sorted(run_over(square, [1, 13, 2], crashed, executor=on_gpu, num_proc=2)) == [-13, 1, 4]
    with pytest.raises(InputError, match="no node of the Ray cluster has 1 CPUs and 3 GPUs"):
        list(run_over(square, [1], crashed, executor=Ray(num_gpus=3), num_proc=0))


def test_what_is_interrupted_stops_its_tasks_with_their_temporary_files(cluster, tmp_path):
    files = [tmp_path / f"{number}.txt" for number in range(3)]
    results = run_over(WritesLong(), files, crashed, executor="ray", num_proc=0)
    assert next(results) == "0.txt"
    while not list(tmp_path.glob(".*.txt")):
        time.sleep(0.1)
    results.close()  # as Ctrl-C does
    assert [file.name for file in tmp_path.iterdir()] == ["0.txt"]


# ------------------------------------------------------------------------------------------- what dies


class KilledOnce:
    """Kill the process of the first task in the middle of its work, once."""

    def __init__(self, function: Callable[[Any], Any], marker: Path) -> None:
        self.function, self.marker = function, marker

    def __call__(self, task: Any) -> Any:
        if not self.marker.exists():
            self.marker.touch()
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGKILL)).start()
            self.function(task)
            time.sleep(10)
        return self.function(task)


class WaitsOnNode:
    """Note the node on which a task begins, and wait there until the node is taken away."""

    def __init__(self, function: Callable[[Any], Any], folder: Path, doomed: str) -> None:
        self.function, self.folder, self.doomed = function, folder, doomed

    def __call__(self, task: Any) -> Any:
        import ray

        if ray.get_runtime_context().get_node_id() == self.doomed:
            (self.folder / "begun").touch()
            time.sleep(60)
        end = time.monotonic() + 60
        while not (self.folder / "begun").exists() and time.monotonic() < end:  # or nothing may be left for the node
            time.sleep(0.05)
        return self.function(task)


class OnFullDisk:
    """Let a task write files up to a limit only: the kernel refuses more, as on a full disk."""

    def __init__(self, function: Any, limit: int) -> None:
        self.function, self.limit = function, limit

    def __call__(self, task: Any) -> Any:
        _ = self.function.predictor.value  # what libraries say while they load goes to the worker's log, a file too
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit, before[1]))
        try:
            return self.function(task)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


def wrapped(module: Any, monkeypatch, wrap: Callable[[Callable[[Any], Any]], Callable[[Any], Any]]) -> None:
    """Wrap the work on each task of a module, here and on the workers."""
    monkeypatch.setattr(
        module, "run_over", lambda function, *rest, **options: run_over(wrap(function), *rest, **options)
    )


def test_killed_workers_and_full_disks_lose_nothing(cluster, videos, models, tmp_path, monkeypatch, capsys):
    from surgvista_hf.inference import batch

    predict = ["predict", str(videos), "--model", str(models / "classifier"), "--device=cpu", "--formats=csv,json"]
    assert main([*predict, "--output", str(tmp_path / "here")]) == 0
    expected = contents(tmp_path / "here")
    with monkeypatch.context() as patch:
        wrapped(batch, patch, lambda function: KilledOnce(function, tmp_path / "killed"))
        assert main([*predict, *ON_RAY, "--output", str(tmp_path / "worker")]) == 0
    assert (tmp_path / "killed").exists()
    assert contents(tmp_path / "worker") == expected
    with monkeypatch.context() as patch:
        wrapped(batch, patch, lambda function: OnFullDisk(function, 300))
        assert main([*predict, *ON_RAY, "--output", str(tmp_path / "disk")]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "cannot be written" in error
    assert "the same command goes on" in error
    assert not list((tmp_path / "disk").glob("*.mp4"))
    assert main([*predict, *ON_RAY, "--output", str(tmp_path / "disk")]) == 0
    assert contents(tmp_path / "disk") == expected


def test_the_tasks_of_a_killed_node_are_finished_elsewhere_with_the_same_bytes(
    cluster, frame_set, tmp_path, monkeypatch
):
    settings = [word for name, value in FRAME_SET.items() for word in ("--set", f"{name}={value}")]
    node = cluster.add()
    wrapped(prepare, monkeypatch, lambda function: WaitsOnNode(function, tmp_path, node.node_id))

    def take_away() -> None:
        while not (tmp_path / "begun").exists():
            time.sleep(0.05)
        cluster.remove(node)

    thread = threading.Thread(target=take_away, daemon=True)
    thread.start()
    assert main(["prepare", "synthetic", *settings, *ON_RAY, "--output", str(tmp_path / "node")]) == 0
    assert (tmp_path / "begun").exists()
    thread.join(timeout=60)
    assert contents(tmp_path / "node") == contents(frame_set)


# ------------------------------------------------------------------------------------------- every verb


def test_every_verb_over_videos_gives_the_bytes_of_one_process(cluster, videos, models, frame_set, tmp_path):
    for name in ("predict", "deidentify", "features", "zero_shot", "curate"):
        (tmp_path / name).mkdir()
    classifier, device = str(models / "classifier"), ["--device", "cpu"]
    found = same_bytes(
        tmp_path / "predict",
        lambda output: ["predict", str(videos), "--model", classifier, *device, "--output", str(output)],
    )
    assert "b.mp4/predictions.csv" in found

    # The coding of a video may differ by a few bytes between processes, its frames do not.
    detector = ["--out-of-body", str(models / "detector"), "--mapping", str(tmp_path / "names.json")]
    for name, options in (("here", []), ("ray", ON_RAY)):
        output = ["--output", str(tmp_path / "deidentify" / name)]
        assert main(["deidentify", str(videos), *detector, *device, *output, *options]) == 0
    here, there = (contents(tmp_path / "deidentify" / name) for name in ("here", "ray"))
    assert list(here) == list(there)
    copies = [name for name in here if name.endswith(".mp4")]
    assert len(copies) == 3
    assert [name for name in here if name not in copies and here[name] != there[name]] == []
    for name in copies:
        assert np.array_equal(*(frames_of(tmp_path / "deidentify" / where / name) for where in ("here", "ray")))

    data = ["--data", f"synthetic={frame_set}", "--label", "phase"]
    found = same_bytes(
        tmp_path / "features", lambda output: ["extract-features", classifier, *data, "--output", str(output)]
    )
    assert sum(name.endswith(".arrow") for name in found) == 3

    from surgvista_hf import load_frame_set

    from ..trainers import tiny_image_text

    phases = tuple(load_frame_set("synthetic", frame_set, "all").features["phase"].names)
    asked = str(tiny_image_text.contrastive(tmp_path / "clip", phases, "clip"))
    found = same_bytes(
        tmp_path / "zero_shot",
        lambda output: ["zero-shot", asked, *data, "--split", "all", "--prompts", "name", "--output", str(output)],
    )
    assert sum(name.startswith("parts/") for name in found) == 2  # 78 frames


def test_a_whole_curation_gives_the_bytes_of_one_process(cluster, tmp_path):
    from ..curation.color_web import ColorVideo, save_models

    (tmp_path / "web").mkdir()
    for number, name in enumerate(("first", "second", "third")):
        ColorVideo(number, logo=(4, 4, 20, 16) if number else None).write(tmp_path / "web" / f"{name}.mp4")
    ColorVideo(0).write(tmp_path / "web" / "again.mp4")
    own = save_models(tmp_path / "models")
    assert main(["curate", "collect", str(tmp_path / "here"), "--folder", str(tmp_path / "web")]) == 0
    shutil.copytree(tmp_path / "here", tmp_path / "ray")
    chosen = [
        f"--video-model={own.video}",
        f"--frame-model={own.frame}",
        f"--region-model={own.region}",
        "--device=cpu",
    ]
    for name, options in (("here", []), ("ray", ON_RAY)):
        output = ["--output", str(tmp_path / f"frames_{name}")]
        assert main(["curate", "run", str(tmp_path / name), *chosen, *output, *options]) == 0
    assert contents(tmp_path / "ray") == contents(tmp_path / "here")
    assert contents(tmp_path / "frames_ray") == contents(tmp_path / "frames_here")
    assert len(list((tmp_path / "frames_ray" / "videos").glob("*.arrow"))) >= 2


# ------------------------------------------------------------------------------------------- suites


def suite(folder: Path, frame_set: Path, output: str) -> Path:
    """Write a suite of three protocols, one of which needs the models of another."""
    from ..trainers import tiny

    quick = {"num_train_epochs": 1, "warmup_epochs": 0, "use_cpu": True, "per_device_train_batch_size": 16}
    head = {"num_layers": 2, "num_feature_maps": 8, "num_train_epochs": 1, "use_cpu": True}
    data = {"root": str(frame_set.parent), "data_dir": frame_set.name}
    content = {
        "models": {"small": {"config": {"model_type": "surgvista", **tiny.SIZES}}},
        "data": {"phases": {"recipe": "synthetic", "data": data, "training": quick}},
        "protocols": {
            "full": {},
            "linear": {"kind": "linear"},
            "knn": {"kind": "knn"},
            "tcn": {"kind": "tcn", "after": "full", "tcn": head},
        },
        "seeds": [0, 1],
        "output": str(folder / output),
    }
    file = folder / f"{output}.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_the_cells_of_a_suite_give_the_predictions_of_one_process(cluster, tmp_path_factory, tmp_path):
    from surgvista_hf.evaluation.reports.benchmark_report import CellResult

    frames = tmp_path_factory.mktemp("suite") / "operations"
    size = {"videos": "10", "seconds": "16", "height": "48", "width": "64"}
    prepare.prepare_frame_set("synthetic", None, frames, settings=size)
    for name, options in (("here", []), ("ray", ON_RAY)):
        assert main(["benchmark", str(suite(tmp_path, frames, name)), *options]) == 0
    cells = {
        name: {file.parent: CellResult.load(tmp_path / name / file) for file in found}
        for name in ("here", "ray")
        for found in [[file.relative_to(tmp_path / name) for file in (tmp_path / name).glob("*/*/*/*/cell.json")]]
    }
    assert len(cells["ray"]) == 6  # probes have one seed
    for folder, cell in cells["here"].items():
        assert cells["ray"][folder].metrics == cell.metrics
        first, second = (tmp_path / name / folder / "predictions.parquet" for name in ("here", "ray"))
        assert first.read_bytes() == second.read_bytes()
    assert json.loads((tmp_path / "ray" / "summary.json").read_text())

"""Our models behind the Auto classes: with the package, without it, and before any weights are published.

Each case runs in a process of its own, offline, with a hand-made Hub cache, and imports transformers and the package itself.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from surgvista_hf import SurgVistaForPreTraining, SurgVistaForVideoClassification, SurgVistaVideoProcessor
from surgvista_hf.modeling.remote_code import add_remote_code

from ..processes import REPOSITORY, Process, Processes
from . import golden

REVISION = "0123456789abcdef0123456789abcdef01234567"


def run_python(
    libraries: Processes, program: str, home: Path, *, with_package: bool = True, cwd: Path | None = None
) -> Process:
    """Run a program offline with `home` as Hub cache; without the package only its dependencies can be imported."""
    environment = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(home / "modules")}
    hide = "" if with_package else "import sys; sys.modules['surgvista_hf'] = None; "
    return libraries.run_code(hide + program, environment=environment, cwd=cwd or home)


def put_into_cache(home: Path, model, *, with_code: bool = False) -> None:
    """Write the layout of a downloaded repository syangcw/SurgVISTA."""
    repository = home / "hub" / "models--syangcw--SurgVISTA"
    snapshot = repository / "snapshots" / REVISION
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    model.save_pretrained(snapshot)
    SurgVistaVideoProcessor(size={"height": 32, "width": 32}, num_frames=4).save_pretrained(snapshot)
    if with_code:
        add_remote_code(snapshot)


def test_importing_the_package_imports_neither_torch_nor_transformers(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "import sys, surgvista_hf; print({'torch', 'transformers'} & set(sys.modules))"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.stdout.strip() == "set()", done.stderr


def test_programs_here_import_the_package_and_what_it_registers_with_themselves(libraries, tmp_path):
    names = {"surgvista_hf", "transformers", "huggingface_hub"}
    done = run_python(libraries, f"import sys; print({names} & set(sys.modules))", tmp_path)
    assert done.stdout.strip() == "set()", done.stderr


def test_the_line_of_the_readme_works_verbatim(libraries, tmp_path):
    put_into_cache(tmp_path, SurgVistaForPreTraining(golden.pretraining_config()))
    done = run_python(
        libraries,
        "import surgvista_hf\n"
        "from transformers import AutoModel, AutoModelForPreTraining, AutoModelForVideoClassification, AutoVideoProcessor\n"
        'model = AutoModel.from_pretrained("syangcw/SurgVISTA")\n'
        "print(type(model).__module__, type(model).__name__)\n"
        'print(type(AutoModelForPreTraining.from_pretrained("syangcw/SurgVISTA")).__name__)\n'
        'print(type(AutoModelForVideoClassification.from_pretrained("syangcw/SurgVISTA")).__name__)\n'
        'print(type(AutoVideoProcessor.from_pretrained("syangcw/SurgVISTA")).__name__)\n',
        tmp_path,
    )
    assert done.stdout.split() == [
        "surgvista_hf.modeling.modeling_surgvista",
        "SurgVistaModel",
        "SurgVistaForPreTraining",
        "SurgVistaForVideoClassification",
        "SurgVistaVideoProcessor",
    ], done.stderr


@pytest.mark.parametrize(
    "imports",
    [
        "import surgvista_hf\nfrom transformers import AutoModel",
        "from transformers import AutoModel\nimport surgvista_hf",
        "from surgvista_hf.modeling.modeling_surgvista import SurgVistaModel\nfrom transformers import AutoModel",
        "from surgvista_hf import SurgVistaVideoProcessor, SurgVistaConfig\nfrom transformers import AutoModel",
    ],
)
def test_registration_does_not_depend_on_the_order_of_imports(libraries, imports, tmp_path):
    put_into_cache(tmp_path, SurgVistaForPreTraining(golden.pretraining_config()))
    done = run_python(
        libraries, f"{imports}\nprint(type(AutoModel.from_pretrained('syangcw/SurgVISTA')).__name__)", tmp_path
    )
    assert done.stdout.strip() == "SurgVistaModel", done.stderr


def test_an_exported_folder_works_without_the_package(libraries, tmp_path):
    put_into_cache(tmp_path, SurgVistaForVideoClassification(golden.pretraining_config(num_labels=3)), with_code=True)
    done = run_python(
        libraries,
        "import numpy, torch\n"
        "from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, AutoModelForVideoClassification\n"
        "from transformers import AutoVideoProcessor\n"
        "name, remote = 'syangcw/SurgVISTA', {'trust_remote_code': True}\n"
        "processor = AutoVideoProcessor.from_pretrained(name, **remote)\n"
        "inputs = processor(numpy.zeros((4, 40, 50, 3), numpy.uint8), return_tensors='pt')\n"
        "print(type(AutoConfig.from_pretrained(name, **remote)).__name__)\n"
        "for auto in (AutoModel, AutoModelForPreTraining, AutoModelForVideoClassification):\n"
        "    model = auto.from_pretrained(name, **remote)\n"
        "    print(type(model).__name__, model.config._attn_implementation)\n"
        "print(tuple(model(**inputs).logits.shape))\n"
        "print('surgvista_hf.modeling' in __import__('sys').modules)\n",
        tmp_path,
        with_package=False,
    )
    assert done.stdout.splitlines() == [
        "SurgVistaConfig",
        "SurgVistaModel sdpa",
        "SurgVistaForPreTraining sdpa",
        "SurgVistaForVideoClassification sdpa",
        "(1, 3)",
        "False",
    ], done.stderr


def test_remote_code_gives_the_same_numbers_as_the_package(libraries, tmp_path):
    put_into_cache(tmp_path, SurgVistaForPreTraining(golden.pretraining_config()), with_code=True)
    program = (
        "import torch\n"
        "from transformers import AutoModel\n"
        "model = AutoModel.from_pretrained('syangcw/SurgVISTA', trust_remote_code=True)\n"
        "clip = torch.linspace(-1, 1, 4 * 3 * 32 * 32).reshape(1, 4, 3, 32, 32)\n"
        "print(model(clip).last_hidden_state.double().sum().item())\n"
    )
    remote = run_python(libraries, program, tmp_path, with_package=False)
    local = run_python(libraries, "import surgvista_hf\n" + program, tmp_path)
    assert float(remote.stdout) == float(local.stdout), remote.stderr + local.stderr


@pytest.mark.parametrize("with_package", [True, False])
def test_an_error_of_a_checkpoint_s_own_code_is_the_package_s_where_that_is_installed(
    libraries, with_package, tmp_path
):
    put_into_cache(tmp_path, SurgVistaForVideoClassification(golden.pretraining_config(num_labels=3)), with_code=True)
    caught = "import surgvista_hf\nroot = surgvista_hf.SurgVistaError\n"
    if not with_package:
        caught = "root = next(each for each in type(error).__mro__ if each.__name__ == 'SurgVistaError')\n"
    program = (
        "import torch\n"
        "from transformers.dynamic_module_utils import get_class_from_dynamic_module\n"
        "names = 'modeling_surgvista.SurgVistaForVideoClassification video_processing_surgvista.SurgVistaVideoProcessor'\n"
        "kinds = [get_class_from_dynamic_module(name, 'syangcw/SurgVISTA') for name in names.split()]\n"
        "model, processor = (kind.from_pretrained('syangcw/SurgVISTA') for kind in kinds)\n"
        "for each in (model, processor):\n"
        "    print(type(each).__module__.partition('.')[0])\n"
        "for work in (lambda: model(torch.zeros(1, 3, 5, 5)), lambda: processor(b'no video')):\n"
        "    try:\n"
        "        work()\n"
        "    except Exception as error:\n"
        f"        {caught.strip().replace(chr(10), chr(10) + ' ' * 8)}\n"
        "        print(type(error).__name__, isinstance(error, root), isinstance(error, ValueError), root.__module__)\n"
    )
    done = run_python(libraries, program, tmp_path, with_package=with_package)
    *kinds, model_error, video_error = done.stdout.splitlines()
    assert kinds == ["transformers_modules"] * 2, done.stderr
    assert model_error.startswith("InputError True True ")
    assert video_error.startswith("VideoReadError True False ")
    own = "surgvista_hf.util.errors" if with_package else "transformers_modules."
    assert all(line.split()[-1].startswith(own) for line in (model_error, video_error))


UNPUBLISHED = (
    "AutoModel.from_pretrained('syangcw/SurgVISTA')",
    "AutoModelForVideoClassification.from_pretrained('syangcw/SurgVISTA')",
    "AutoVideoProcessor.from_pretrained('syangcw/SurgVISTA')",
    "AutoConfig.from_pretrained('syangcw/SurgVISTA')",
    "surgvista_hf.SurgVistaModel.from_pretrained('syangcw/SurgVISTA')",
    "AutoModel.from_pretrained('nobody/nothing')",
)


def test_without_published_weights_one_error_names_the_three_roads_and_other_errors_stay(libraries, tmp_path):
    program = (
        "import json, surgvista_hf\n"
        "from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification, AutoVideoProcessor\n"
        "said = []\n"
    )
    for line in UNPUBLISHED:
        program += (
            f"try:\n    {line}\nexcept Exception as error:\n    said.append([type(error).__name__, str(error)])\n"
        )
    done = run_python(libraries, program + "print(json.dumps(said))", tmp_path)
    *errors, other = json.loads(done.stdout)
    assert len(errors) == len(UNPUBLISHED) - 1, done.stderr
    for kind, message in errors:
        assert kind == "WeightsNotPublishedError"
        for road in ("1. convert", "2. pre-train", "3. another family"):
            assert road in message
    assert other[0] == "OSError"


def test_a_repository_with_a_config_but_no_weights_gets_the_same_error(libraries, tmp_path):
    put_into_cache(tmp_path, SurgVistaForPreTraining(golden.pretraining_config()))
    next(tmp_path.rglob("model.safetensors")).unlink()
    done = run_python(
        libraries,
        "import surgvista_hf\nfrom transformers import AutoModel\nAutoModel.from_pretrained('syangcw/SurgVISTA')",
        tmp_path,
    )
    assert "WeightsNotPublishedError" in done.stderr


@pytest.mark.slow
def test_models_work_without_torchvision_and_without_av(tmp_path):
    packages = tmp_path / "packages"  # all that is installed, except these two
    packages.mkdir()
    for entry in Path(torch.__file__).parents[1].iterdir():
        if not entry.name.lower().startswith(("torchvision", "av-", "av.")) and entry.name != "av":
            (packages / entry.name).symlink_to(entry)
    program = (
        "import surgvista_hf, torch\n"
        "from transformers import AutoModel\n"
        "config = surgvista_hf.SurgVistaConfig(image_size=32, num_frames=2, num_hidden_layers=1)\n"
        "print(AutoModel.from_config(config)(torch.zeros(1, 2, 3, 32, 32)).last_hidden_state.shape)\n"
        "try:\n    surgvista_hf.SurgVistaVideoProcessor()\n"
        "except ImportError as error:\n    print('torchvision' in str(error))\n"
        "from surgvista_hf.modeling.video_reading_surgvista import VideoReader\n"
        "try:\n    VideoReader(b'x')\nexcept surgvista_hf.VideoReadError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{packages}{os.pathsep}{REPOSITORY}"}
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "torch.Size([1, 4, 768])",
        "True",
        "reading videos needs PyAV: pip install av",
    ], done.stderr

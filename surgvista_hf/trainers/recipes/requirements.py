"""Requirements that a run has of the machine: packages, an optimizer, a compiler, weights in few bits.

They are checked by `--check` and `--dry-run`, and by every run at its start, before it loads anything.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import psutil
import torch
from transformers import Trainer
from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from ...modeling.adapters import AdapterRecipe, check_bits
from ...util.errors import SurgVistaError
from ...util.messages import did_you_mean, first_line
from ...util.requirements import FEATURES, MissingPackageError, is_installed, require
from ..common.arguments import ClipArguments
from .loading import RecipeError

Arguments = TypeVar("Arguments", bound=ClipArguments)
_COMPILERS = ("c++", "g++", "clang++")
_BYTES = 4  # of a parameter in fp32


def make_arguments(kind: type[Arguments], settings: Mapping[str, Any]) -> Arguments:
    """Make the arguments of a trainer, and check that this machine can do what they request.

    Args:
        kind: class of the arguments.
        settings: its fields, as a recipe has them.

    Raises:
        MissingPackageError: a package that the arguments need is not installed.
        RecipeError: this machine or the trainer refuses the arguments.
    """
    if settings.get("resume_from_checkpoint") is not None:
        raise RecipeError(
            "training.resume_from_checkpoint is not used: a run goes on by itself from the newest complete checkpoint in "
            "training.output_dir"
        )
    check_reporting(settings.get("report_to"))
    if settings.get("use_liger_kernel") and not is_installed("liger_kernel"):
        raise MissingPackageError("training.use_liger_kernel needs liger-kernel: pip install liger-kernel")
    try:
        args = kind(**settings)
        # Only to see whether the optimizer exists here, for which any model will do.
        Trainer.get_optimizer_cls_and_kwargs(args, torch.nn.Linear(1, 1))  # type: ignore[arg-type]
    except SurgVistaError as error:
        raise RecipeError(f"training: {error}") from error
    except (TypeError, ValueError, AttributeError, ImportError, OSError, RuntimeError) as error:
        raise RecipeError(f"training cannot be set up like this: {first_line(error)}") from error
    if args.torch_compile:
        check_compiler("training.torch_compile", args.device)
    return args


def check_reporting(report_to: str | Sequence[str] | None) -> None:
    """Check that every tracker that a run reports to can be used.

    Args:
        report_to: one or several trackers, with the names that `TrainingArguments` uses.

    Raises:
        MissingPackageError: the package of a tracker is not installed.
        RecipeError: a tracker is unknown.
    """
    for name in [report_to] if isinstance(report_to, str) else report_to or ():
        if name in FEATURES:
            require(name)
        elif name not in ("all", "none") and name not in INTEGRATION_TO_CALLBACK:
            hint = did_you_mean(str(name), INTEGRATION_TO_CALLBACK, f"known are {', '.join(INTEGRATION_TO_CALLBACK)}")
            raise RecipeError(f"training.report_to is {name!r}; {hint}")
        elif name in INTEGRATION_TO_CALLBACK and name not in get_available_reporting_integrations():
            raise MissingPackageError(f"training.report_to {name} needs {name}: pip install {name}")


def check_adapter(adapter: AdapterRecipe) -> None:
    """Check that an adapter and a base in few bits can be made on this machine.

    Raises:
        MissingPackageError: peft or bitsandbytes is not installed.
        InputError: the device cannot compute in so few bits.
    """
    require(*["adapter"] * adapter.is_peft, *["few_bits"] * bool(adapter.bits))
    if adapter.bits:
        check_bits(adapter.bits)


def check_compiler(what: str, device: torch.device) -> None:
    """Check that `torch.compile` finds what it needs: on a CPU a C++ compiler.

    Args:
        what: setting that needs the compiler, for the error.
        device: device that the model runs on.

    Raises:
        RecipeError: there is no compiler.
    """
    if device.type == "cpu" and not any(map(shutil.which, _COMPILERS)):
        raise RecipeError(f"{what} needs a C++ compiler, and there is none of {', '.join(_COMPILERS)} on this machine")


def check_size(where: str, build: Callable[[], torch.nn.Module]) -> None:
    """Check that an untrained model can be built and fits into this machine's memory, without allocating it.

    Args:
        where: section that describes the model, for errors.
        build: function that builds the model on the default device.

    Raises:
        RecipeError: the model cannot be built, or is too large.
    """
    try:
        with torch.device("meta"):
            parameters = sum(parameter.numel() for parameter in build().parameters())
    except SurgVistaError as error:
        raise RecipeError(f"{where}: {error}") from error
    except Exception as error:  # the code of any family, with sizes that its authors have not thought of
        raise RecipeError(f"{where}: no model can be built like this: {first_line(error)}") from error
    memory = psutil.virtual_memory().total
    if parameters * _BYTES > memory:
        raise RecipeError(
            f"{where} describes a model of {parameters:,} parameters, {parameters * _BYTES / 2**30:,.0f} GB in fp32; this "
            f"machine has {memory / 2**30:,.0f} GB"
        )

"""Launching: accelerate reads the configurations of the package, and the runs that they describe start."""

import subprocess
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

from surgvista_hf.modeling import modeling_surgvista
from surgvista_hf.trainers.recipes import loading

LAUNCH = Path(loading.__file__).parent / "launch"
KINDS = {
    "one_gpu": (DistributedType.NO, 1),
    "ddp_8": (DistributedType.MULTI_GPU, 8),
    "fsdp2_8": (DistributedType.FSDP, 8),
    "deepspeed_zero2_8": (DistributedType.DEEPSPEED, 8),
}


def test_there_is_a_test_for_every_configuration():
    assert {path.stem for path in LAUNCH.glob("*.yaml")} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_reads_the_configuration(name):
    config = load_config_from_file(str(LAUNCH / f"{name}.yaml"))
    assert (config.distributed_type, config.num_processes) == KINDS[name]
    assert config.mixed_precision == "bf16"


def test_the_blocks_that_fsdp_wraps_exist():
    config = load_config_from_file(str(LAUNCH / "fsdp2_8.yaml")).fsdp_config
    assert config["fsdp_version"] == 2
    assert hasattr(modeling_surgvista, config["fsdp_transformer_layer_cls_to_wrap"])


def test_the_slurm_script_starts_one_launcher_a_machine_with_all_arguments(tmp_path):
    """Replace SLURM's srun and scontrol by programs that print their arguments."""
    for name, text in {
        "scontrol": "echo node-a; echo node-b",
        "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
        "accelerate": 'printf "%s\\n" "$@"',
    }.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/bash\n{text}\n")
        program.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "SLURM_JOB_NODELIST": "node-[a-b]",
        "SLURM_NNODES": "2",
        "SLURM_NODEID": "1",
    }
    command = ["bash", str(LAUNCH / "slurm_4x8.sh"), "surgvista_base", "data.root=/a b"]
    argv = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    options = ("--num_machines", "--num_processes", "--machine_rank", "--main_process_ip")
    assert [argv[argv.index(option) + 1] for option in options] == ["2", "16", "1", "node-a"]
    assert argv[-4:] == ["-m", "surgvista_hf.trainers.pretrain", "surgvista_base", "data.root=/a b"]

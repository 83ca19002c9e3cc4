"""Fill a folder with the wheels that a GPU machine without internet lacks, for `benchmarks.on_gpu`.

Such machines have Python 3.12, PyTorch, transformers and what is listed in `PRESENT`. What the package needs beyond that is
downloaded here, without the dependencies, in the versions of `constraints.txt`: PyAV (34 MiB), datasets and small ones.
PyArrow (53 MiB) would not fit; a machine without it needs `pyarrow` named here, and a larger limit. Of the wheel of
bitsandbytes, which holds a library for every CUDA, only the one for CUDA 13 is kept: 3 of 41 MiB.

The wheels and the tracked files of the repository are what is copied to the machine; their size is checked.

    python -m benchmarks.wheels                       # fills build/wheels
    python -m benchmarks.wheels pyarrow --limit 120   # with a further package, and a larger limit
"""

import argparse
import base64
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from surgvista_hf.util.errors import InputError
from surgvista_hf.util.files import atomic_file

REPOSITORY = Path(__file__).resolve().parents[1]
# Packages that GPU machines for deep learning have, of those that the parts of `on_gpu` use.
PRESENT = frozenset(
    "accelerate huggingface-hub hypothesis matplotlib numpy packaging pandas peft pillow psutil pyarrow pytest pytest-timeout "
    "pyyaml rich safetensors scipy torch torchvision tqdm transformers".split()
)
MISSING = (
    "av",
    "datasets",
    "dill",
    "multiprocess",
    "filelock",  # often there, but older than this package needs
    "fsspec",
    "pydantic",
    "pydantic-core",
    "annotated-types",
    "typing-inspection",
    "typing-extensions",
    "xxhash",
    "bitsandbytes",
)
PYTHON = "3.12"
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (39, 35, 34, 31, 28, 27, 24, 17)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux1_x86_64"]
LIMIT_MIB = 64
_OTHER_LIBRARIES = re.compile(r"bitsandbytes/libbitsandbytes_(?!cpu|cuda130)\w+\.so")


def fill(folder: Path, names: Sequence[str] = MISSING) -> list[Path]:
    """Download the wheels that are missing in a folder, and remove those of other versions.

    Args:
        folder: folder of the wheels.
        names: names of the packages.

    Returns:
        The wheels.

    Raises:
        InputError: a wheel cannot be downloaded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    requested = [f"{name}=={version}" for name, version in versions(names).items()]
    with tempfile.TemporaryDirectory() as cache:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
            cache,
        ]
        command += ["--python-version", PYTHON, "--implementation", "cp"]
        command += [word for platform in PLATFORMS for word in ("--platform", platform)]
        done = subprocess.run([*command, *requested], capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"pip cannot download the wheels: {done.stderr.strip().splitlines()[-1]}")
        found = sorted(Path(cache).glob("*.whl"))
        for old in folder.glob("*.whl"):
            old.unlink()
        for wheel in found:
            with atomic_file(folder / wheel.name) as temporary:
                temporary.write_bytes(wheel.read_bytes())
    wheels = [folder / wheel.name for wheel in found]
    for wheel in wheels:
        if wheel.name.startswith("bitsandbytes-"):
            leave_out(wheel, _OTHER_LIBRARIES)
    return wheels


def versions(names: Sequence[str]) -> dict[str, str]:
    """Return the versions that `constraints.txt` holds, by the names of the packages.

    Raises:
        InputError: it holds none of a package.
    """
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    known = {_normalized(name): version for name, _, version in (line.partition("==") for line in lines)}
    unknown = [name for name in names if _normalized(name) not in known]
    if unknown:
        raise InputError(f"constraints.txt has no version of {', '.join(unknown)}")
    return {name: known[_normalized(name)] for name in names}


def _normalized(name: str) -> str:
    return name.lower().replace("_", "-")


def leave_out(wheel: Path, pattern: re.Pattern[str]) -> None:
    """Write a wheel again without the files whose names match a pattern."""
    with zipfile.ZipFile(wheel) as source, atomic_file(wheel) as temporary:
        record = next(name for name in source.namelist() if name.endswith(".dist-info/RECORD"))
        names = [name for name in source.namelist() if name != record and not pattern.fullmatch(name)]
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as target:
            lines = []
            for name in names:
                content = source.read(name)
                target.writestr(name, content)
                digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
                lines.append(f"{name},sha256={digest},{len(content)}\n")
            target.writestr(record, "".join([*lines, f"{record},,\n"]))


def size_of_repository() -> int:
    """Return the bytes of the tracked files."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    files = [REPOSITORY / name for name in listing.stdout.split("\0") if name]
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())


def main() -> int:
    """Fill the folder, and report the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="*", help="further packages")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "build" / "wheels", help="folder of the wheels")
    parser.add_argument("--limit", type=float, default=LIMIT_MIB, help=f"largest size in MiB (default: {LIMIT_MIB})")
    arguments = parser.parse_args()
    try:
        wheels = fill(arguments.output, [*MISSING, *arguments.packages])
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    for wheel in sorted(wheels, key=lambda wheel: -wheel.stat().st_size):
        print(f"{wheel.stat().st_size / 2**20:6.1f} MiB  {wheel.name}")
    wheel_size, repository = sum(wheel.stat().st_size for wheel in wheels) / 2**20, size_of_repository() / 2**20
    print(f"{wheel_size:6.1f} MiB of wheels and {repository:.1f} MiB of the repository, of {arguments.limit:g} MiB")
    if wheel_size + repository > arguments.limit:
        print("that is too much: leave a package out of MISSING, or raise --limit", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

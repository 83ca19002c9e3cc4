"""Stand-ins for harmless objects that training programs leave in a checkpoint beside its weights.

`torch.load(weights_only=True)` builds tensors and plain values and refuses everything else, also a best accuracy that is a
NumPy number, or a path in the arguments of the run. Only the weights are wanted here, so the classes below are not built
either: each is replaced by something that takes what it is given and does nothing. No code of NumPy, pathlib or a
configuration library runs, and a function that is not listed (`os.system`, `builtins.eval`, `torch.load`, …) is still refused.
"""

import argparse
import types
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any


class Inert:
    """Stands for one object: accepts any arguments and any state, and keeps none of them."""

    def __new__(cls, *args: object, **kwargs: object) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


class InertMapping:
    """Stands for a kind of dictionary. What is made is a plain `OrderedDict`, since weights may lie in one."""

    def __new__(cls, *args: object, **kwargs: object) -> Any:
        return OrderedDict()


class InertList:
    """Stands for a kind of list. What is made is a plain list."""

    def __new__(cls, *args: object, **kwargs: object) -> Any:
        return []


_NUMPY = ("_core", "core")  # the package of NumPy 2 and 1
_NUMPY_TYPES = (
    *("bool", "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "intc", "uintc"),
    *("longlong", "ulonglong", "float16", "float32", "float64", "longdouble", "complex64", "complex128", "str_"),
    *("bytes_", "object_", "void", "datetime64", "timedelta64", "ndarray", "dtype", "record", "recarray"),
    *("rec.recarray", "ma.MaskedArray", "ma.core.MaskedArray", "ma.core.MaskedConstant", "ma.core._mareconstruct"),
)
_NUMPY_DTYPES = (
    *(
        "Bool",
        "Byte",
        "UByte",
        "Short",
        "UShort",
        "Int",
        "UInt",
        "Int8",
        "UInt8",
        "Int16",
        "UInt16",
        "Int32",
        "UInt32",
    ),
    *("Int64", "UInt64", "Long", "ULong", "LongLong", "ULongLong", "Float16", "Float32", "Float64", "LongDouble"),
    *(
        "Complex64",
        "Complex128",
        "CLongDouble",
        "Object",
        "Bytes",
        "Str",
        "Void",
        "DateTime64",
        "TimeDelta64",
        "String",
    ),
)
_NUMPY_RANDOM = (
    *("__randomstate_ctor", "__generator_ctor", "__bit_generator_ctor"),
    *("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64", "RandomState", "Generator", "SeedSequence"),
    "__pyx_unpickle_SeedSequence",
)
_NUMPY_RANDOM_MODULES = ("_pickle", "mtrand", "_generator", "bit_generator", "_mt19937", "_pcg64", "_philox", "_sfc64")
_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
_OMEGACONF_NODES = ("Any", "String", "Integer", "Float", "Boolean", "Path", "Enum", "Bytes")


def _plain_names() -> Iterator[str]:
    yield from (f"numpy.{name}" for name in _NUMPY_TYPES)
    yield from (f"numpy.dtypes.{name}DType" for name in _NUMPY_DTYPES)
    for package in _NUMPY:
        yield from (f"numpy.{package}.multiarray.{name}" for name in ("scalar", "_reconstruct", "ndarray", "dtype"))
        yield from (f"numpy.{package}.numeric.{name}" for name in ("_frombuffer", "ndarray"))
        yield from (f"numpy.{package}.records.{name}" for name in ("recarray", "record"))
    for module in _NUMPY_RANDOM_MODULES:
        yield from (f"numpy.random.{module}.{name}" for name in _NUMPY_RANDOM)
    for module in ("pathlib", "pathlib._local"):  # the second in Python 3.13
        yield from (f"{module}.{name}" for name in _PATHS)
    yield from (f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone"))
    yield from ("decimal.Decimal", "fractions.Fraction", "uuid.UUID", "uuid.SafeUUID", "zoneinfo.ZoneInfo._unpickle")
    yield from (
        f"builtins.{name}" for name in ("slice", "range", "object", "tuple", "str", "int", "float", "bool", "bytes")
    )
    yield from ("torch.torch_version.TorchVersion", "torch.Generator", "torch._C.Generator", "typing.Any")
    yield from (f"omegaconf.nodes.{kind}Node" for kind in _OMEGACONF_NODES)
    yield from ("omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata")


_MAPPINGS = (
    *(
        "builtins.dict",
        "collections.defaultdict",
        "easydict.EasyDict",
        "addict.addict.Dict",
        "munch.Munch",
        "munch.AutoMunch",
    ),
    *("yacs.config.CfgNode", "fvcore.common.config.CfgNode", "detectron2.config.config.CfgNode", "dotmap.DotMap"),
    *("ml_collections.config_dict.config_dict.ConfigDict", "mmengine.config.config.ConfigDict"),
    *("mmcv.utils.config.ConfigDict", "pytorch_lightning.utilities.parsing.AttributeDict"),
    *("lightning_fabric.utilities.data.AttributeDict", "lightning.fabric.utilities.data.AttributeDict"),
    *("lightning.pytorch.utilities.parsing.AttributeDict", "lightning_utilities.core.apply_func.AttributeDict"),
)
_OTHERS: tuple[tuple[type, str], ...] = (
    (argparse.Namespace, "argparse.Namespace"),
    (types.SimpleNamespace, "types.SimpleNamespace"),
    (frozenset, "builtins.frozenset"),
    (InertList, "builtins.list"),
    (InertList, "collections.deque"),
    (Inert, "omegaconf.dictconfig.DictConfig"),
    (Inert, "omegaconf.listconfig.ListConfig"),
)

HARMLESS: tuple[tuple[type, str], ...] = (
    *((Inert, name) for name in _plain_names()),
    *((InertMapping, name) for name in _MAPPINGS),
    *_OTHERS,
)
"""(what is made instead, full name in the file), for `torch.serialization.safe_globals`."""

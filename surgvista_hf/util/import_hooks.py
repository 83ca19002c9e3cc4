"""Functions that are called when a module has been imported, whoever imports it; nothing is imported for it.

Importing the package must cost next to nothing, and what registers our classes with transformers runs only after transformers
was imported. Packages that offer such hooks import far more than the hook, so this is the hook alone.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

Callback = Callable[[ModuleType], object]


def when_imported(name: str, callback: Callback) -> None:
    """Call a function with a module as soon as it has been imported: at once if it has been, or is being, already.

    Functions of one module are called in the order in which they were given. What a function raises, the import raises.

    Args:
        name: full name of the module.
        callback: function of the module.

    Example:
        >>> when_imported("this", lambda module: print(module.__name__))  # doctest: +SKIP
    """
    if name in sys.modules and name not in _finder.waiting:
        callback(sys.modules[name])
        return
    _finder.waiting.setdefault(name, []).append(callback)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


class _Finder:
    """Finds the modules that somebody waits for as the others on `sys.meta_path` do, and notices when they have run."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[Callback]] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how a module that somebody waits for is loaded; the functions are called when it has been."""
        if name not in self.waiting:
            return None
        others = (finder for finder in tuple(sys.meta_path) if finder is not self and hasattr(finder, "find_spec"))
        spec = next((found for each in others if (found := each.find_spec(name, path, target)) is not None), None)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_call(module: ModuleType) -> None:
                """Run a module, then the functions that wait for it."""
                run(module)
                for callback in self.waiting.pop(name, ()):
                    callback(module)

            # On this one loader: a module keeps the loader that it would have had, with all that tools ask of it.
            spec.loader.exec_module = run_and_call  # type: ignore[method-assign]
        return spec


_finder = _Finder()

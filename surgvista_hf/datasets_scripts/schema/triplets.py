"""Tables of action triplets ⟨instrument, verb, target⟩: which components each triplet class has.

Each data set of triplets owns its table (`DatasetInfo.triplets`); this module says what a table is and how it is read.
"""

import csv
from collections.abc import Collection
from dataclasses import dataclass
from importlib.resources.abc import Traversable


@dataclass(frozen=True)
class TripletTable:
    """The triplet classes of a data set, in the order of their numbers.

    Args:
        instruments, verbs, targets: names of the components, in the order of their numbers.
        components: (instrument, verb, target) numbers of each triplet class.
        null: numbers of the triplet classes that stand for "an instrument that does nothing".

    Example:
        >>> table = TripletTable(("hook",), ("cut", "dissect"), ("fat",), ((0, 0, 0), (0, 1, 0)), null=())
        >>> table.names
        ('hook,cut,fat', 'hook,dissect,fat')
        >>> table.row({1})
        {'triplets': [1], 'instruments': [0], 'verbs': [1], 'targets': [0]}
    """

    instruments: tuple[str, ...]
    verbs: tuple[str, ...]
    targets: tuple[str, ...]
    components: tuple[tuple[int, int, int], ...]
    null: tuple[int, ...]

    @classmethod
    def read(cls, file: Traversable) -> "TripletTable":
        """Read a table with a row per triplet class, in the order of their numbers.

        Args:
            file: CSV file with the columns `instrument`, `verb`, `target` and `instrument_id`, `verb_id`, `target_id`. The
                verb of a null class begins with `null`.

        Returns:
            The table.
        """
        rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
        names = {
            part: tuple(dict(sorted({int(row[f"{part}_id"]): row[part] for row in rows}.items())).values())
            for part in ("instrument", "verb", "target")
        }
        components = tuple((int(row["instrument_id"]), int(row["verb_id"]), int(row["target_id"])) for row in rows)
        null = tuple(number for number, row in enumerate(rows) if row["verb"].startswith("null"))
        return cls(names["instrument"], names["verb"], names["target"], components, null)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the name of each class, `"instrument,verb,target"`."""
        return tuple(
            f"{self.instruments[instrument]},{self.verbs[verb]},{self.targets[target]}"
            for instrument, verb, target in self.components
        )

    def row(self, triplets: Collection[int]) -> dict[str, list[int]]:
        """Return the label columns of a frame: numbers of its triplet classes and of their components, sorted."""
        parts = [self.components[triplet] for triplet in sorted(triplets)]
        columns = zip(*parts, strict=True) if parts else ((), (), ())
        instruments, verbs, targets = (sorted(set(column)) for column in columns)
        return {"triplets": sorted(triplets), "instruments": instruments, "verbs": verbs, "targets": targets}

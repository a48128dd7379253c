"""Tables of a folder: `DIR/lineitem.parquet`, or `DIR/lineitem/` with several files in it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Table:
    """A name, and the file or folder that it stands for."""

    name: str
    path: Path

    def pattern(self):
        """The files, for an engine that takes no folder."""
        return str(self.path / "*.parquet" if self.path.is_dir() else self.path)


def find_tables(folder):
    """All tables of a folder by name. Where a table has a file and a folder, the file counts, as in `volley-bench`."""
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise SystemExit(f"{folder} is no folder")
    found = {}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and any(entry.glob("*.parquet")):
            found.setdefault(entry.name, entry)
        elif entry.is_file() and entry.suffix == ".parquet":
            found[entry.stem] = entry
    if not found:
        raise SystemExit(f"{folder} has neither NAME.parquet nor NAME/ with Parquet files in it")
    return [Table(name, path) for name, path in sorted(found.items())]

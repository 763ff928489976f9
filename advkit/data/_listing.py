"""Which picture files a folder holds. What cannot be listed is told: left out in silence, it would move the labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from advkit.errors import DataError
from advkit.paths import is_folder, reason_of

__all__ = ["Listing", "is_picture"]

_ENDINGS = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_STRAYS, _STRAYS_EACH = 20_000, 10  # entries that are no pictures: so many, and so many for each picture


class Listing:
    """Lists folders of one data set, and gives up where hardly anything in them is a picture: that is another folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._pictures = self._strays = 0

    def entries(self) -> list[os.DirEntry[str]]:
        """What the root holds, by name, but for what is hidden. Raises DataError where it cannot be listed."""
        return [entry for entry in _entries(self.root) if not entry.name.startswith(".")]

    def pictures(self, folder: Path) -> list[Path]:
        """All picture files under ``folder``, sorted by path: also those that cannot be read, which their reader tells.

        Links to folders are not followed. Raises DataError for a folder that cannot be listed.
        """
        return sorted(self._under(folder))

    def _under(self, folder: Path) -> Iterator[Path]:
        waiting = [folder]
        while waiting:
            for entry in _entries(waiting.pop()):
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif is_picture(Path(entry.name)) and not is_folder(entry.path):
                    self._pictures += 1
                    yield Path(entry.path)
                    continue
                self._strays += 1
                if self._strays > _STRAYS + _STRAYS_EACH * self._pictures:
                    raise DataError(
                        f"the folder {self.root} is no data set: of {self._strays + self._pictures:,} entries in it "
                        f"{self._pictures:,} are pictures; give the folder that holds one folder of pictures per class."
                    )


def is_picture(path: Path) -> bool:
    """Whether the name ends like a picture's."""
    return path.suffix.lower() in _ENDINGS and not path.name.startswith(".")


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"the folder {folder} cannot be read: {reason_of(error)}. Give yourself the right to read it, or move it away."
        ) from error

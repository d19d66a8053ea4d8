"""What a fault is."""

from typing import NamedTuple


class Fault(NamedTuple):
    """One wrong change of the package.

    Attributes:
      name: unique.
      file: path below the project root.
      old: text that occurs exactly once in the file.
      new: its replacement.
      breaks: the consequence for a user.
    """

    name: str
    file: str
    old: str
    new: str
    breaks: str

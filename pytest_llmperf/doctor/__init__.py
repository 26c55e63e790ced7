"""What can run on this machine, and what here would make results less trustworthy."""

from .examination import examine
from .findings import Engine, Finding, Findings

__all__ = ["Engine", "Finding", "Findings", "examine"]

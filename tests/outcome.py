"""What a command line has left behind, for the tests that run one in their own process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass
class Outcome:
    """Exit code, and what was printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document on stdout."""
        return json.loads(self.out)

    @property
    def told(self) -> str:
        """Everything that was printed, in single spaces."""
        return " ".join(f"{self.out}\n{self.err}".split())

"""Golden tests: the project's own functions against numbers computed by reference implementations."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for _fixtures, whatever the import mode

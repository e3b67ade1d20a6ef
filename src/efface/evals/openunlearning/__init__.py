"""OpenUnlearning's JSON logs: reading them as results, and writing results as such logs.

Format: locuslab/open-unlearning, ``src/evals/base.py``. ``docs/openunlearning.md`` names its quirks and what is done about them.
"""

from efface.evals.openunlearning.columns import MUSE_KEYS
from efface.evals.openunlearning.reader import is_openunlearning_log, read_openunlearning
from efface.evals.openunlearning.writer import as_openunlearning, as_openunlearning_summary, write_openunlearning

__all__ = [
    "MUSE_KEYS",
    "as_openunlearning",
    "as_openunlearning_summary",
    "is_openunlearning_log",
    "read_openunlearning",
    "write_openunlearning",
]

"""What every test shares: a cache folder of the tests' own, one thread, and no network."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Set before any test imports torch or transformers; a value given from outside wins.
os.environ.setdefault("EFFACE_CACHE_DIR", str(ROOT / ".cache" / "tests"))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

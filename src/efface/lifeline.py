"""Run a module in a process that ends when the one that started it is gone: ``python -m efface.lifeline MODULE ARGUMENTS``.

The starter holds this process's standard input open. It closes with the starter, however that ended (``kill -9`` as well), and this
process then ends itself and all it has started. The watch begins before the module is imported, which can take many seconds.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading

__all__ = ["main", "watch"]


def watch() -> None:
    """End this process, and its group where it leads one, when standard input closes; return at once."""
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    while os.read(0, 1024):
        pass
    if hasattr(os, "killpg") and os.getpid() == os.getpgid(0):  # the group is this process's own
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Run the command line above."""
    watch()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

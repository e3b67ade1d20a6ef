"""Ordinary nets: whether a method's peak memory grows with the forget set.

Each figure is the peak of a process of its own while a method runs, less what that process held when net and rows were there and
the method had been run once on a few rows (libraries and their buffers load on first use). The retain rows and the batch size stay
the same; only the number of forget rows grows. The C library is told to give freed blocks of 64 KiB back to the system, else the
figure is what its pools happen to keep. Bound: nothing, since gradients are summed batch by batch; a method that kept the
forget rows, their gradients or a copy of them would add at least the bytes of the rows, which stand beside the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.tables import Table

__all__ = ["FACTORS", "NET_MEMORY", "QUICK_NET_MEMORY", "NetMemoryShape", "measure", "net_memory_table"]

FACTORS = (1, 4, 16)
MIB = float(1 << 20)
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""glibc's settings; other C libraries do not read them."""


@dataclass(frozen=True)
class NetMemoryShape:
    """How large rows and sets are.

    Attributes:
        forget: Forget rows at factor 1.
        retain: Retain rows.
        side: Images are (3, side, side).
        methods: (method, settings) to run.
    """

    forget: int
    retain: int
    side: int
    methods: tuple[tuple[str, dict[str, Any]], ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one image."""
        return 3 * self.side * self.side * 4


_METHODS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("iau", {"learning_rate": 1e-3}),
    ("influence", {"samples": 256}),
    ("ssd", {}),
    ("fisher", {}),
)
NET_MEMORY = NetMemoryShape(256, 512, 32, _METHODS)
QUICK_NET_MEMORY = NetMemoryShape(128, 128, 16, _METHODS[:1])


def run_once(method: str, settings: dict[str, Any], shape: NetMemoryShape, sets: Any) -> None:
    """Run a method on (forget, retain), as the engine does."""
    import torch
    from torch import nn

    from efface.models.net_losses import NetLoss
    from efface.registry import NETS
    from efface.train.unlearn_net import NetJob, run_net_job

    torch.manual_seed(0)
    pooled = (shape.side // 4) ** 2
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * pooled, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    job = NetJob(
        net=net,
        method=NETS.get(method)(**{"batch_size": 32, **settings}),
        forget=sets[0],
        retain=sets[1],
        task="classification",
        loss=NetLoss("cross_entropy", task="classification"),
        num_classes=10,
    )
    run_net_job(job)


def child(method: str, settings: dict[str, Any], shape: NetMemoryShape, factor: int) -> int:
    """Return the bytes that running the method added in this process."""
    import torch
    from torch.utils.data import TensorDataset

    from efface.models.memory import PeakMemory

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)

    def rows(count: int) -> TensorDataset:
        x = torch.randn(count, 3, shape.side, shape.side, generator=generator)
        return TensorDataset(x, torch.arange(count) % 10)

    retain, few = rows(shape.retain), rows(shape.forget)
    run_once(method, settings, shape, (few, retain))
    forget = rows(shape.forget * factor)
    with PeakMemory() as meter:
        run_once(method, settings, shape, (forget, retain))
    return max(0, meter.bytes - meter.before)


def measure(method: str, settings: dict[str, Any], shape: NetMemoryShape, factor: int) -> int:
    """Return the bytes that a method added in a process of its own.

    Raises:
        RuntimeError: When that process fails.
    """
    job = {"method": method, "settings": settings, "shape": asdict(shape), "factor": factor}
    environment = {**os.environ, **GIVE_BACK, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "benchmarks.net_memory", "--child", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"The process of {method} ended with code {done.returncode}: {done.stderr.strip()[-300:]}")
    return int(json.loads(done.stdout.splitlines()[-1])["bytes"])


def net_memory_table(shape: NetMemoryShape, *, factors: Sequence[int] = FACTORS) -> Table:
    """Measure every method at every size of the forget set."""
    rows, values = [], []
    first, last = factors[0], factors[-1]
    more = shape.forget * shape.row_bytes * (last - first)
    for method, settings in shape.methods:
        peaks = [measure(method, settings, shape, factor) for factor in factors]
        growth = (peaks[-1] - peaks[0]) / more
        rows.append([method, *(f"{peak / MIB:.1f}" for peak in peaks), f"{growth:+.2f}"])
        values.append({"method": method, "bytes": dict(zip(map(str, factors), peaks, strict=True)), "growth": growth})
    sizes = ", ".join(f"{shape.forget * factor} ({shape.forget * factor * shape.row_bytes / MIB:.1f} MiB)" for factor in factors)
    return Table(
        title="Nets: peak memory by the size of the forget set",
        words=(
            f"{shape.retain} retain images of 3 x {shape.side} x {shape.side} and batches of 32 throughout; forget images: "
            f"{sizes}.",
            "Each figure: MiB a process of its own added while the method ran, over net and rows. Growth: what the largest forget "
            "set added over the smallest, in bytes per byte of further rows; bound 0 (a copy of the rows would be 1).",
        ),
        columns=("method", *(f"{factor}x" for factor in factors), "growth"),
        rows=rows,
        values=values,
    )


def main() -> None:
    """Measure one method in this process and write the bytes as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--child", required=True)
    job = json.loads(parser.parse_args().child)
    shape = NetMemoryShape(**{**job["shape"], "methods": tuple((name, values) for name, values in job["shape"]["methods"])})
    print(json.dumps({"bytes": child(job["method"], job["settings"], shape, job["factor"])}))


if __name__ == "__main__":
    main()

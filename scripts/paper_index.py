"""Write docs/paper-index.md from what the methods and metrics say of their papers.

python scripts/paper_index.py            write the page
python scripts/paper_index.py --check    fail when the page is not up to date
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efface.evals import describe_metric
from efface.methods.nets.catalogue import describe_net, net_methods
from efface.methods.presets import describe, method_names
from efface.registry import METRICS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "paper-index.md"
HEAD = """# Paper index

Every paper something here comes from, and the settings that are its own. Written by `python scripts/paper_index.py`.

## Methods

| method | paper | intention | plugs | where the defaults come from |
|---|---|---|---|---|
"""
NETS_HEAD = """
## Methods for ordinary nets

| method | paper | intention | approach | settings |
|---|---|---|---|---|
"""
METRICS_HEAD = """
## Metrics

| metric | paper | what it is |
|---|---|---|
"""


def build() -> str:
    """Return the page."""
    methods = "".join(_method_line(describe(name)) for name in method_names())
    found = [describe_metric(name) for name in METRICS.names()]
    metrics = "".join(_line(f"`{metric['name']}`", metric["paper"] or "ours", metric["title"]) for metric in found)
    nets = "".join(_net_line(describe_net(name)) for name in net_methods())
    return HEAD + methods + NETS_HEAD + nets + METRICS_HEAD + metrics


def _method_line(method: Mapping[str, Any]) -> str:
    plugs = _plugs(method["expansion"])
    return _line(f"`{method['name']}`", _source(method["paper"]), method["intention"], plugs, method["source"])


def _net_line(method: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{name}={setting['default']}" for name, setting in method["hyperparameters"].items())
    return _line(f"`{method['name']}`", _source(method["paper"]), method["intention"], method["approach"], f"`{settings}`")


def _source(paper: Mapping[str, Any] | None) -> str:
    return "ours" if paper is None else f"[{paper['title']}]({paper['url']}), {paper['authors']} {paper['year']}"


def _plugs(expansion: Mapping[str, Any]) -> str:
    names = []
    for plug in ("objective", "retention", "rule", "adapter"):
        if isinstance(expansion[plug], str):  # auto: what fits into memory
            continue
        settings = [f"{key}={value}" for key, value in _flat(expansion[plug]) if key != "name" and value is not None]
        names.append(expansion[plug]["name"] + (f"({', '.join(settings)})" if settings else ""))
    return "`" + " + ".join(names) + "`"


def _flat(plug: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in plug.items():
        pairs += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return pairs


def _line(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |\n"


def main(arguments: list[str]) -> int:
    """Write or check the page; return the exit code."""
    page = build()
    if "--check" in arguments:
        if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page:
            return 0
        sys.stderr.write("docs/paper-index.md is not up to date. Run python scripts/paper_index.py.\n")
        return 1
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

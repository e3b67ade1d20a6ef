"""The report as one HTML file that opens offline: no script, no font, no picture and no address outside of it.

The page is made from the plain data of :func:`efface.report.build.build_report` alone, so that an old ``report.json`` can be shown
again and both files carry the same figures.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efface.report import plots, wording
from efface.report.build import DISTRIBUTIONS, build_report, check_report
from efface.report.catalogue import describe, role_label
from efface.report.findings import attempts, is_net, pick, worst_kept
from efface.report.masking import example_texts
from efface.report.nets import net_pictures
from efface.report.svg import inline_svg
from efface.results import PathPoint, Report, Results

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["EXAMPLES_FILE", "render_html", "template_environment", "write_report", "write_whole"]

EXAMPLES_FILE = "examples-plaintext.json"
# The few figures of the first screen: a title, and where to take it from, best first.
_CARDS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Knows what it should forget",
        (("forget", "fact_accuracy"), ("forget", "rouge"), ("forget", "probability"), ("forget_qa", "fact_accuracy")),
    ),
    (
        "Knows what it should keep",
        (("retain", "fact_accuracy"), ("retain", "rouge"), ("retain", "probability"), ("retain_qa", "fact_accuracy")),
    ),
    ("Tells the passages by heart", (("", "forget_verbmem"),)),
    ("Knows other things", (("world_facts", "fact_accuracy"), ("real_authors", "fact_accuracy"), ("", "model_utility"))),
    ("Refuses what it should answer", (("retain", "refusal_rate"),)),
    ("Right on what it should forget", (("forget", "accuracy"),)),
    ("Right on what it should keep", (("retain", "accuracy"),)),
    ("Right on new rows", (("test_retain", "accuracy"), ("test", "accuracy"))),
    ("Error on what it should forget", (("forget", "mae"),)),
    ("Error on new rows", (("test_retain", "mae"), ("test", "mae"))),
    ("Gap to the retrained model, in points", (("", "average_gap"),)),
)


def render_html(report: Report | Mapping[str, Any]) -> str:
    """Return the page of a report, or of the content of a ``report.json``."""
    data = build_report(report) if isinstance(report, Report) else check_report(report)
    results = {role: Results.from_dict(result) for role, result in data["results"].items()}
    rows = {row["name"]: row for part in data["comparison"] for row in part["rows"]}
    kept = data["usability"]
    template = template_environment().get_template("report.html.j2")
    return template.render(
        report=data,
        cards=_cards(rows, results),
        distributions=_distributions(results),
        path_plot=_path_plot(data),
        pictures=net_pictures(results),
        is_net=is_net(results),
        attempts=attempts(results),
        worst_kept=worst_kept(kept, rows[kept["metric"]]) if "share" in kept else "",
    )


def write_report(report: Report, directory: str | Path, *, include_plaintext: bool = False) -> Path:
    """Write ``report.html`` and ``report.json`` into ``directory`` and return the path of the page.

    Both files are replaced in one move each, so that a crash leaves the old report or the new one.

    Args:
        report: What to say.
        directory: Where to write; made when missing.
        include_plaintext: Whether to write the examples in plain text as well, to a file of their own
            (``examples-plaintext.json``). Without it such a file of an earlier report is removed.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    data = build_report(report)
    plain = folder / EXAMPLES_FILE
    if include_plaintext:
        data["plaintext_file"] = EXAMPLES_FILE
        write_whole(plain, _json({"schema": "efface-examples/1", "examples": example_texts(report.results)}))
    else:
        plain.unlink(missing_ok=True)
    write_whole(folder / "report.json", _json(data))
    page = folder / "report.html"
    write_whole(page, render_html(data))
    return page


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_whole(path: Path, text: str) -> None:
    """Write a file in one move: a reader sees the old one or the new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@lru_cache(maxsize=1)
def template_environment() -> Environment:
    """Return the templates of all pages, with the filters that word figures."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("efface.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": wording.figure,
        "interval": lambda cell, scale: wording.interval_text(cell["low"], cell["high"], scale) if cell else "",
        "duration": wording.duration,
        "bytes": wording.bytes_text,
        "role": role_label,
        "stage": _stage,
        "number": _number,
        "opening": lambda text: text[:1].upper() + text[1:],
        "setting": _setting,
        "pretty": lambda data: json.dumps(data, indent=1, ensure_ascii=False, default=str),
        "sections": _sections,
        "place": lambda value: f"{100 * min(1.0, max(0.0, value)):.2f}%",
    }
    return environment


def _cards(rows: Mapping[str, Any], results: Mapping[str, Results]) -> list[dict[str, Any]]:
    cards = []
    for title, places in _CARDS:
        name = next((found for place in places if (found := pick(results, *place)) is not None), None)
        if name is not None:
            stays = " of what stays" if describe(name).set_name == "test_retain" else ""
            targets = {cell["details"].get("target_name", "") for cell in rows[name]["models"].values()} - {""}
            cards.append({"title": ", ".join([title + stays, *targets]), "row": rows[name]})
    return cards


def _distributions(results: Mapping[str, Results]) -> list[dict[str, str]]:
    """Draw the spread of the answers behind the means, where values per item are there."""
    found: list[dict[str, str]] = []
    for set_name, family in DISTRIBUTIONS:
        name = pick(results, set_name, family)
        if name is None or not any(name in r.metrics and r.metrics[name].per_item for r in results.values()):
            continue
        label = describe(name).label.removesuffix(", median of logs")
        svg = inline_svg(plots.plot_distribution(results, name), key=f"spread-{len(found)}", label=f"{label}, answer by answer")
        found.append({"name": name, "label": label, "family": family, "svg": svg})
    return found


def _path_plot(data: Mapping[str, Any]) -> str:
    points = [PathPoint(p["step"], p["epoch"], p["values"]) for p in data["path"]]
    if len(points) < 2 or not any(name.endswith("_nll") for point in points for name in point.values):
        return ""
    made = data["unlearned"] or {}
    axes = plots.plot_path(points, stopped_step=made.get("stopped_step"), kept_step=made.get("kept_step"))
    return inline_svg(axes, key="path", label="Loss on the forget, retain and holdout rows over the training steps")


def _number(value: Any) -> str:
    """Return a value as it stands in JSON, for the data attributes that carry the exact figures."""
    return "" if value is None else repr(value)


def _stage(name: str) -> str:
    """Word the name of a stage; the second retrained model is called as in the column heads."""
    text = re.sub(r"(?:retrained[ _]2|second retrained) (model|net)", r"\1 retrained again", name).replace("_", " ")
    return text[:1].upper() + text[1:]


def _setting(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, list):
        return ", ".join(_setting(v) for v in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_setting(v)}" for key, v in value.items()) or "none"
    return str(value)


def _sections(data: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, Any]]]]:
    """Cut nested settings into titled lists: plain values first, then one list per mapping."""
    plain = [(key, value) for key, value in data.items() if not isinstance(value, Mapping)]
    nested = [(key, list(_flat(value))) for key, value in data.items() if isinstance(value, Mapping) and value]
    return ([("", plain)] if plain else []) + nested


def _flat(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in data.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows

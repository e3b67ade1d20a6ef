from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from efface.errors import InputError
from efface.report import build_report, check_report, headline, read_report, render_html, usability, write_report
from efface.report.html import EXAMPLES_FILE
from efface.results import Intention, Metric, Report

FIXTURE = Path(__file__).parent / "fixtures" / "report-1.json"

VOID = {"meta", "br", "link", "img", "input", "hr", "source", "wbr", "use", "path"}


class Page(HTMLParser):
    """Collects tags with their attributes, the text, and tags that are closed in the wrong order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.wrong: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.wrong += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self._open or self._open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] not in {"style", "title"}:
            self.text += f"{data} "


@pytest.fixture(scope="module")
def html(request: pytest.FixtureRequest) -> str:
    """The page of the sample report, made once."""
    return render_html(request.getfixturevalue("shared_report"))


def test_page_carries_the_exact_figures_of_the_json(report: Report, html: str) -> None:
    data = build_report(report)
    page = Page(html)
    shown = {
        (attrs["data-metric"], attrs["data-role"]): attrs["data-value"]
        for tag, attrs in page.tags
        if tag == "td" and "data-metric" in attrs
    }
    rows = [row for part in data["comparison"] for row in part["rows"] if row["is_main"] and row["is_available"]]
    assert len(rows) >= 12
    for row in rows:
        for role, cell in row["models"].items():
            text = shown[row["name"], role]
            assert (float(text) if text else None) == cell["value"]
            stored = data["results"][role]["metrics"][row["name"]]["value"]
            assert cell["value"] == stored


def test_every_figure_stands_in_the_full_table(report: Report, html: str) -> None:
    table = html[html.index('id="every-figure"') :]
    for name in report.results["unlearned"].metrics:
        assert table.count(f"<td>{name}</td>") == 3


def test_page_is_well_formed_and_loads_nothing(html: str) -> None:
    page = Page(html)
    assert page.wrong == []
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "img", "object", "embed"}
    for _, attrs in page.tags:
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert not attrs.get(name) or attrs[name].startswith("#")
        assert not any(name.startswith("on") for name in attrs)
    assert "http" not in re.sub(r'http-equiv="[^"]*"', "", html)
    assert not re.search(r"url\((?!#)", html)
    assert "@import" not in html


def test_ids_are_unique_and_references_resolve(html: str) -> None:
    page = Page(html)
    ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))
    for _, attrs in page.tags:
        for value in attrs.values():
            for target in re.findall(r"url\(#([^)]*)\)", value or ""):
                assert target in ids
        if (attrs.get("href") or "").startswith("#"):
            assert attrs["href"][1:] in ids


def test_page_fits_phones_dark_mode_and_paper(html: str) -> None:
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert "@media screen and (max-width: 760px)" in html
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    assert len(html.encode()) < 2_000_000


def test_intention_and_finding_stand_side_by_side(make_report) -> None:
    for intention in Intention:
        text = Page(render_html(make_report(intention=intention))).text
        assert re.search(rf"Intention of the method\s*{intention}\b.*Finding\s*not audited", text, re.DOTALL)
    assert "still in the stored weights" in Page(render_html(make_report(intention=Intention.SUPPRESSION))).text


def test_no_plain_text_of_the_forget_rows_by_default(report: Report, tmp_path: Path, secret: str) -> None:
    write_report(report, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]
    for path in tmp_path.iterdir():
        text = path.read_text(encoding="utf-8")
        assert secret not in text
        assert "Mira" not in text
        assert "row-0" not in text
        assert "anna" not in text
        assert "/srv" not in text


def test_masked_examples_show_length_and_match_only(report: Report, html: str) -> None:
    example = build_report(report)["examples"][0]
    assert example["question"] == {"words": 5, "matched": 0}
    assert example["answer"] == {"words": 6, "matched": 0}
    assert example["models"]["original"] == {"words": 6, "matched": 6, "marks": "######"}
    assert example["models"]["unlearned"] == {"words": 6, "matched": 5, "marks": "#####."}
    assert example["models"]["retrained"] == {"words": 5, "matched": 0, "marks": "....."}
    assert "6 words, 5 as in the true answer" in Page(html).text


def test_plain_examples_go_to_a_file_of_their_own(report: Report, tmp_path: Path, secret: str) -> None:
    page = write_report(report, tmp_path, include_plaintext=True)
    assert secret not in page.read_text(encoding="utf-8")
    assert EXAMPLES_FILE in page.read_text(encoding="utf-8")
    texts = json.loads((tmp_path / EXAMPLES_FILE).read_text(encoding="utf-8"))["examples"]
    assert texts[0]["models"]["original"] == f"Mira Solano was born in {secret}."
    write_report(report, tmp_path)
    assert not (tmp_path / EXAMPLES_FILE).exists()


def test_fictional_examples_are_shown(make_report, secret: str) -> None:
    assert secret in Page(render_html(make_report(fictional=True))).text


def test_markup_in_rows_and_names_is_escaped(hostile: Report) -> None:
    html = render_html(hostile)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 5


def test_what_is_missing_is_named_with_its_reason(html: str) -> None:
    text = " ".join(Page(html).text.split())
    assert "Not available (no holdout set): Privacy leakage" in text
    assert "Not available (the value is not a finite number): Retained rows: ROUGE" in text
    assert "needs results of the retrained model on the same rows" in text


def test_nothing_is_not_a_number_in_json(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} in JSON"))
    assert re.search(r"\b(nan|inf)\b", (tmp_path / "report.html").read_text(encoding="utf-8"), re.IGNORECASE) is None


def test_forget_quality_is_read_by_distance_p_floor_and_n(html: str) -> None:
    text = " ".join(Page(html).text.split())
    assert "D 0.13 0.08\N{EN DASH}0.20 log₁₀ p \N{MINUS SIGN}1.17 floor \N{MINUS SIGN}22.7, n 40" in text
    assert "over-forgotten" in text


def test_few_entities_are_called_not_meaningful(make_report) -> None:
    text = " ".join(Page(render_html(make_report(entities=4))).text.split())
    assert text.count("n entities = 4, not meaningful") > 20


def test_without_a_retrained_model_the_finding_is_capped(make_report) -> None:
    report = make_report(roles=("original", "unlearned"))
    text = " ".join(Page(render_html(report)).text.split())
    assert "Retrained model: not available" in text
    assert "cannot conclude “removed”" in text
    assert usability(report.results)["reference"] == "original"
    assert "never saw them" not in " ".join(headline(report))


def test_collapse_is_said_before_the_figures(make_report) -> None:
    broken, damaged, fine = make_report(factor=0.3), make_report(factor=0.7), make_report()
    assert [usability(r.results)["status"] for r in (broken, damaged, fine)] == ["collapsed", "below_floor", "usable"]
    text = Page(render_html(broken)).text
    assert text.index("The model has collapsed") < text.index("of the forget questions")
    assert "The model has collapsed" not in Page(render_html(fine)).text
    assert "The model is damaged" in Page(render_html(damaged)).text


def test_a_kept_figure_that_is_not_a_number_counts_as_collapse(report: Report) -> None:
    unlearned = report.results["unlearned"]
    metrics = {**unlearned.metrics, "retain_fact_accuracy": Metric("retain_fact_accuracy", math.nan, "higher")}
    results = {**report.results, "unlearned": replace(unlearned, metrics=metrics)}
    found = usability(results)
    assert (found["status"], found["share"]) == ("collapsed", 0.0)
    render_html(replace(report, results=results))


def test_headline_says_what_was_asked_done_and_found(report: Report) -> None:
    sentences = headline(report)
    assert sentences[0] == "The request: make the model “tiny” forget 40 rows about 20 entities."
    assert sentences[1].startswith("What was done: npo with NLL on the retained rows for 100 steps.")
    assert "98% of the forget questions; the unlearned model gives it for 5%" in sentences[2]
    assert "never saw them gets 8%" in sentences[2]
    assert sentences[-1].startswith("Finding: not audited.")


def test_a_model_that_was_only_measured(report: Report) -> None:
    measured = replace(report, unlearned=None, results={"original": report.results["original"]})
    text = " ".join(Page(render_html(measured)).text.split())
    assert "Nothing was changed" in text
    assert build_report(measured)["usability"]["status"] == "unknown"


def test_empty_results_still_make_a_page(report: Report) -> None:
    empty = {role: replace(r, metrics={}, examples=()) for role, r in report.results.items()}
    text = Page(render_html(replace(report, results=empty, costs={}, data={}, manifest={}))).text
    assert "could not be measured" in text


def test_writing_twice_gives_the_same_bytes(report: Report, tmp_path: Path) -> None:
    first = write_report(report, tmp_path / "a").read_bytes()
    second = write_report(report, tmp_path / "b").read_bytes()
    assert first == second
    assert (tmp_path / "a/report.json").read_bytes() == (tmp_path / "b/report.json").read_bytes()


def test_a_page_can_be_made_again_from_its_json(report: Report, tmp_path: Path) -> None:
    page = write_report(report, tmp_path)
    assert render_html(read_report(tmp_path / "report.json")) == page.read_text(encoding="utf-8")


def test_a_failed_write_leaves_the_old_report(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write_report(report, tmp_path)
    before = page.read_bytes()

    def fail(source: str, target: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("efface.report.html.os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_report(replace(report, title="another"), tmp_path)
    assert page.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_old_reports_keep_opening() -> None:
    data = read_report(FIXTURE)
    text = Page(render_html(data)).text
    for sentence in data["headline"][:2]:
        assert sentence in text


@pytest.mark.parametrize("change", [{"schema": "efface-report/9"}, {"comparison": None}, {"headline": "text"}])
def test_another_schema_is_refused(report: Report, change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="efface-report/1"):
        check_report({**build_report(report), **change})


def test_unreadable_reports_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no report at"):
        read_report(tmp_path / "report.json")
    (tmp_path / "report.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="not JSON"):
        read_report(tmp_path / "report.json")
    with pytest.raises(InputError, match="schema None"):
        check_report([])


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("/home/anna/data/forget.jsonl", "forget.jsonl"),
        ("~/data/forget.jsonl", "forget.jsonl"),
        ("./gold/", "gold"),
        ("data/forget.jsonl", "forget.jsonl"),
        ("C:\\Users\\anna\\forget.jsonl", "forget.jsonl"),
        ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B"),
        ("hub:locuslab/TOFU:forget10", "hub:locuslab/TOFU:forget10"),
        ("run with /home/anna/x.yaml and per-token/sequence means", "run with x.yaml and per-token/sequence means"),
        ("loss 1/2 of 3", "loss 1/2 of 3"),
    ],
)
def test_paths_are_shown_by_their_last_part(report: Report, given: str, shown: str) -> None:
    assert build_report(replace(report, request={"model": given}))["request"]["model"] == shown

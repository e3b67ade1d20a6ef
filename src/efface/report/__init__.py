"""The report: one HTML file that a person can read, and the same figures as JSON."""

from __future__ import annotations

from efface.report.build import SCHEMA, build_report, check_report, read_report
from efface.report.findings import headline, usability
from efface.report.html import render_html, write_report

__all__ = ["SCHEMA", "build_report", "check_report", "headline", "read_report", "render_html", "usability", "write_report"]

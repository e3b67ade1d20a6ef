"""Evaluation: one measuring pass, metrics as pure functions of its rows, suites that put them together."""

from efface.evals.evaluate import evaluate
from efface.evals.measure import MeasureCounts, Measured, measure
from efface.evals.metrics.base import describe_metric
from efface.evals.suites.data import SuiteData

__all__ = ["MeasureCounts", "Measured", "SuiteData", "describe_metric", "evaluate", "measure"]

"""Many methods, settings and seeds as one job: planned as a graph, resumed, run side by side, and put into one table."""

from __future__ import annotations

from efface.run.bench.compare import compare_runs
from efface.run.bench.execute import BenchResult, BenchState, Forecast, forecast_bench, run_bench
from efface.run.bench.graph import plan_bench
from efface.run.bench.spec import BenchSpec

__all__ = ["BenchResult", "BenchSpec", "BenchState", "Forecast", "compare_runs", "forecast_bench", "plan_bench", "run_bench"]

"""One pass over the union of the items; what is cached is not asked again, and a kill loses one chunk at most."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest
from _lookup import LookupModel, items

from efface.data.items import ScoreItem
from efface.errors import EffaceError
from efface.evals import measure


def test_equal_items_are_asked_once_whatever_row_they_belong_to(original):
    scores, texts = items(3)
    twins = [ScoreItem("other", item.answer, item.question) for item in scores]
    measured = measure(original, [*scores, *twins, *scores], [*texts, *texts])
    assert len(original.asked) == 6
    assert measured.counts.scored == measured.counts.scored_now == 3
    assert measured.row(twins[1]) is measured.row(scores[1])
    assert measured.text(texts[0]) == "Nobody"


def test_what_is_kept_is_not_measured_again(original, tmp_path):
    scores, texts = items(10)
    measure(original, scores[:6], texts[:4], cache=tmp_path, chunk=4)
    original.asked.clear()
    whole = measure(original, scores, texts, cache=tmp_path, chunk=4)
    assert (whole.counts.scored, whole.counts.scored_now) == (10, 4)
    assert (whole.counts.generated, whole.counts.generated_now) == (10, 6)
    assert len(original.asked) == 10
    again = measure(original, scores, texts, cache=tmp_path)
    assert (again.counts.scored_now, again.counts.generated_now) == (0, 0)
    assert again.texts == whole.texts
    assert all((again.row(item).logp == whole.row(item).logp).all() for item in scores)


def test_another_model_is_measured_anew(original, retrained, tmp_path):
    scores, _ = items(3)
    measure(original, scores, [], cache=tmp_path)
    assert measure(retrained, scores, [], cache=tmp_path).counts.scored_now == 3


def test_progress_counts_what_is_left_to_do(original, tmp_path):
    scores, texts = items(5)
    measure(original, scores[:2], [], cache=tmp_path)
    seen = []
    measure(original, scores, texts, cache=tmp_path, chunk=2, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (8, 8)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_model_that_cannot_score_still_writes(original):
    class Remote:
        fingerprint = "remote"
        generate = original.generate

        def score(self, items, *, progress=None):
            raise NotImplementedError("the endpoint gives no log-probabilities")

    scores, texts = items(2)
    measured = measure(Remote(), scores, texts)
    assert measured.not_scored == "the endpoint gives no log-probabilities"
    assert measured.text(texts[1]) == "Nobody"


def test_a_model_must_answer_every_item(original):
    original.generate = lambda items, progress=None: ["one"]
    with pytest.raises(EffaceError, match="1 answers to 3 items"):
        measure(original, [], items(3)[1])


def test_a_failure_keeps_the_chunks_before_it(original, tmp_path):
    scores, _ = items(10)
    whole, calls = original.score, []

    def failing(part, *, progress=None):
        calls.append(len(part))
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return whole(part)

    original.score = failing
    with pytest.raises(RuntimeError, match="out of memory"):
        measure(original, scores, [], cache=tmp_path, chunk=3)
    original.score = whole
    assert measure(original, scores, [], cache=tmp_path, chunk=3).counts.scored_now == 4


KILLED = """
    import os, signal, sys
    sys.path.insert(0, sys.argv[2])
    from _lookup import LookupModel, items
    from efface.evals import measure
    model = LookupModel({})
    scored = model.score
    def score(part, *, progress=None):
        if len(model.asked) >= 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return scored(part)
    model.score = score
    measure(model, items(12)[0], [], cache=sys.argv[1], chunk=3)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_kill_9_loses_at_most_one_chunk(tmp_path):
    here = os.path.dirname(os.path.abspath(__file__))
    code = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), here]
    assert subprocess.run(code, check=False).returncode == -signal.SIGKILL
    scores, _ = items(12)
    resumed = measure(LookupModel({}), scores, [], cache=tmp_path, chunk=3)
    fresh = measure(LookupModel({}), scores, [])
    assert resumed.counts.scored_now == 6
    assert all((resumed.row(item).logp == fresh.row(item).logp).all() for item in scores)

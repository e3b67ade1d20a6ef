"""Check every causal language model of transformers and write the list of those that work into the docs.

Run from the root of the repository: ``python tests/architectures/survey.py`` (``--only llama gpt2`` for some of them).
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import re
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
import transformers
from tiny import MODEL_TYPES, VOCAB, tiny_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from efface.adapters.grun import GRUN
from efface.data.collate import collate
from efface.data.encoding import Encoded
from efface.data.items import GenerateItem
from efface.errors import InputError
from efface.methods.objectives.npo import NPO
from efface.models.decoding import DecodingRow, greedy_decode
from efface.models.hooks import decoder_layers
from efface.models.language_model import LocalModel
from efface.models.loading import load_model, save_model
from efface.models.reference import ReferenceKind, ReferenceStore
from efface.models.scoring import accepts_logits_to_keep, answer_scores, gather_answers

TOLERANCE = 2e-3  # in nats; tiny random models in float32 differ by 1e-5 where nothing is wrong
SPANS = ((9, 4), (6, 1), (21, 12), (14, 13))
PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"

INTRODUCTION = """# Architectures

<!-- Written by tests/architectures/survey.py; do not edit. -->

Of the {total} model types in the causal-LM mapping of transformers {version}, {good} work. Each was built tiny from its
configuration class on a CPU in float32, and had to score the same in a right-padded batch as alone, with logits at chosen
positions as with all logits, and whatever came later in the text; to lose forget log-probability in one NPO step; to keep a
reference equal to itself; and to score the same after saving and loading.

- *Left padding*: scores are the same with the padding on the left. Where not (recurrent layers, positions by column), efface
  scores with right padding and writes in batches of equal prompt length.
- *Generation*: batched texts equal single ones.
- *Chosen logits*: the model computes logits at answer positions only; else all are computed and the same positions picked.
- *Layers*: decoder layers are found, so objectives on activations (RMU) can run.
- *Reference*: what is kept of the reference distribution: final hidden states with a frozen head, or logits.
- *GRUN*: an edit at the last prompt token acts alike alone and in a batch, in scores and in what is written first, gets a
  gradient, and is gone when switched off. *Scores*: so, but batched texts differ from single ones. *No*: no decoder layers were
  found. Else what went wrong. {edited} say *yes*.

| model type | left padding | generation | chosen logits | layers | reference | GRUN |
|---|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Outcome:
    """What was found of one family.

    Attributes:
        model_type: Its name in transformers.
        works: Whether scores, one NPO step, saving and loading are right.
        reason: Why not.
        left_padding: Whether left-padded scores equal right-padded ones (recurrent layers read the padding).
        generates: Whether batched texts equal single ones.
        keeps_logits: Whether the model gives logits at chosen positions only.
        layers: Whether its decoder layers are found.
        head: "hidden states", "logits" or why the reference distribution is not kept.
        edits: "yes" where GRUN's edits act alike in scores and texts; see :func:`check_edits`.
        seconds: Time taken.
    """

    model_type: str
    works: bool
    reason: str = ""
    left_padding: bool = False
    generates: bool = False
    keeps_logits: bool = False
    layers: bool = False
    head: str = ""
    edits: str = ""
    seconds: float = 0.0


class CheckFailed(Exception):
    """A property that must hold does not."""


def sequences() -> list[Encoded]:
    """Return a few random sequences of different lengths."""
    generator = torch.Generator().manual_seed(0)
    return [
        Encoded(tuple(torch.randint(3, VOCAB - 8, (length,), generator=generator).tolist()), start, length, f"row-{index}")
        for index, (length, start) in enumerate(SPANS)
    ]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Return a word-level tokenizer over the tiny vocabulary."""
    words = {f"w{i}" if i > 2 else ("<s>", "</s>", "<unk>")[i]: i for i in range(VOCAB)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def scores_of(model: Any, rows: list[Encoded], side: str = "right") -> torch.Tensor:
    """Return the log-probabilities of one padded batch."""
    with torch.no_grad():
        return answer_scores(model, collate(rows, pad_id=1, side=side)).logp


def check_scoring(model: Any) -> None:
    """Batched, masked and causal: scores are those of each row alone."""
    rows = sequences()
    alone = torch.cat([scores_of(model, [row]) for row in rows])
    if not torch.isfinite(alone).all():
        raise CheckFailed("scores are not finite")
    _near(scores_of(model, rows), alone, "a right-padded batch scores otherwise than single rows")
    batch = collate(rows, pad_id=1)
    with torch.no_grad():
        kept = answer_scores(model, batch)
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
    _near(kept.logp, gather_answers(logits, batch.labels).logp, "logits at chosen positions differ from full logits")
    longer = Encoded((*rows[0].input_ids, 7, 8, 9), rows[0].answer_start, rows[0].answer_end)
    with torch.no_grad():
        later = answer_scores(model, collate([longer], pad_id=1)).logp
    _near(later, scores_of(model, [rows[0]]), "later tokens change earlier scores: it is not causal")


def check_npo(model: Any) -> str:
    """One NPO step lowers the forget log-probability; return how the reference distribution is kept."""
    rows = sequences()
    kinds = frozenset({ReferenceKind.SEQUENCE_LOGP, ReferenceKind.FINAL_HIDDEN})
    reference = ReferenceStore.build(model, rows, kinds, pad_id=1)
    with torch.no_grad():
        truth = answer_scores(model, collate(rows, pad_id=1))
    _near(reference.logits(truth), truth.logits.float(), "the kept reference is not the model's own")
    trained = copy.deepcopy(model).requires_grad_(True)
    objective = NPO(beta=0.1)
    optimiser = torch.optim.AdamW((p for p in trained.parameters() if p.requires_grad), lr=1e-3)
    scores = answer_scores(trained, collate(rows, pad_id=1))
    objective.loss({"forget": scores}, reference).loss.backward()
    optimiser.step()
    after = scores_of(trained, rows)
    if not float(after.sum()) < float(truth.logp.sum()):
        raise CheckFailed(
            f"an NPO step raised the forget log-probability ({float(truth.logp.sum()):.3f} to {float(after.sum()):.3f})"
        )
    return "logits" if reference.keeps_logits else "hidden states"


def check_edits(model: Any) -> str:
    """Edits at the last prompt token: the same alone and in a batch, in scores and in texts, and gone when switched off.

    Returns:
        "yes"; "scores" where a batch of prompts of different lengths writes other texts than single prompts; or what is wrong.
    """
    rows, plain = sequences(), copy.deepcopy(model)
    try:
        edited = GRUN(depths=(0.3,)).apply(copy.deepcopy(model)).eval()
        with torch.no_grad():
            for name, parameter in edited.edits.named_parameters():
                if name.endswith("bias") and "gate" not in name:
                    parameter.fill_(3.0)
        together = scores_of(edited, rows)
        _near(together, torch.cat([scores_of(edited, [row]) for row in rows]), "edits depend on the batch")
        if float((together - scores_of(plain, rows)).abs().max()) < TOLERANCE:
            return "no effect"
        with edited.disable_adapter():
            _near(scores_of(edited, rows), scores_of(plain, rows), "an edit stays after it is switched off")
        answer_scores(edited, collate(rows, pad_id=1)).logp.sum().backward()
        if not any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in edited.edits.parameters()):
            return "no gradient"
        _check_first_token(edited)
    except (CheckFailed, InputError) as error:
        return str(error).split(". ")[0]
    except Exception as error:  # the edit does not fit this family; all else does
        return f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"
    return "yes" if _succeeds(lambda: check_generation(edited)) else "scores"


def _check_first_token(edited: Any) -> None:
    """What is written first is what scoring finds likeliest after the prompt, and caches hand the edit on."""
    prompts = [row.input_ids[: row.answer_start] for row in sequences()[:2]]
    for prompt in prompts:
        row = DecodingRow(prompt, 4)
        with torch.no_grad():
            greedy_decode(edited, [row], eos=frozenset(), pad_id=1)
            whole = Encoded((*prompt, *row.tokens), len(prompt), len(prompt) + len(row.tokens))
            scores = answer_scores(edited, collate([whole], pad_id=1))
        best = scores.logits.float().max(-1).values - scores.logits.float().gather(-1, scores.targets[:, None])[:, 0]
        if not float(best.max()) < TOLERANCE:
            raise CheckFailed("what is written is not what scoring finds likeliest")


def check_files(model: Any) -> None:
    """What is saved and loaded scores the same."""
    rows = sequences()
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, tiny_tokenizer(), Path(folder) / "model", dtype="float32", metadata={})
        loaded, _ = load_model(Path(folder) / "model", device="cpu")
    _near(scores_of(loaded, rows), scores_of(model, rows), "the model saved scores otherwise than the model loaded")


def check_generation(model: Any) -> bool:
    """Whether batched texts equal single ones."""
    items = [GenerateItem(str(n), " ".join(f"w{3 + (7 * i) % 100}" for i in range(n)), "completion", 6) for n in (2, 5, 9)]
    together = LocalModel(model, tiny_tokenizer()).generate(items)
    return together == [LocalModel(model, tiny_tokenizer()).generate([item])[0] for item in items]


def check(model_type: str) -> Outcome:
    """Build the family and check it; the first property that fails is the reason."""
    started = time.perf_counter()
    found: dict[str, Any] = {}
    try:
        model = tiny_model(model_type)
        found["keeps_logits"] = accepts_logits_to_keep(model)
        check_scoring(model)
        found["head"] = check_npo(model)
        check_files(model)
        found["layers"] = _succeeds(lambda: bool(decoder_layers(model)))
        found["left_padding"] = _succeeds(lambda: _left_equals_right(model))
        found["generates"] = _succeeds(lambda: check_generation(model))
        found["edits"] = check_edits(model) if found["layers"] else "no"
        works, reason = True, ""
    except Exception as error:  # whatever a family does wrong is its row in the table
        kind = "" if isinstance(error, CheckFailed) else f"{type(error).__name__}: "
        text = re.sub(r"/\S*/model\b", "the model saved", " ".join(str(error).split()))
        works, reason = False, (kind + text)[:240]
    return Outcome(model_type, works, reason, seconds=round(time.perf_counter() - started, 1), **found)


def _left_equals_right(model: Any) -> bool:
    rows = sequences()
    return bool((scores_of(model, rows, "left") - scores_of(model, rows)).abs().max() < TOLERANCE)


def _succeeds(test: Any) -> bool:
    try:
        return bool(test())
    except Exception:
        return False


def _near(one: torch.Tensor, other: torch.Tensor, message: str) -> None:
    if one.shape != other.shape or not float((one - other).abs().max()) < TOLERANCE:
        size = f"{float((one - other).abs().max()):.2g}" if one.shape == other.shape else f"{one.shape} for {other.shape}"
        raise CheckFailed(f"{message} (by {size})")


def _work(model_type: str, results: Any) -> None:
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    results.put(asdict(check(model_type)))


def check_apart(model_type: str, *, timeout: float) -> Outcome:
    """Check in a process of its own, so that a crash or a stall costs one row."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    process = context.Process(target=_work, args=(model_type, results))
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.terminate()
        process.join()
        return Outcome(model_type, False, f"not done after {timeout:.0f} s", seconds=timeout)
    if results.empty():
        return Outcome(model_type, False, f"the process ended with code {process.exitcode}")
    return Outcome(**results.get())


def page(outcomes: list[Outcome]) -> str:
    """Return the docs page."""
    good = [o for o in outcomes if o.works]
    bad = [o for o in outcomes if not o.works]
    mark = {True: "yes", False: "no"}
    rows = [
        f"| `{o.model_type}` | {mark[o.left_padding]} | {mark[o.generates]} "
        f"| {mark[o.keeps_logits]} | {mark[o.layers]} | {o.head} | {o.edits.replace('|', '/')} |"
        for o in good
    ]
    edited = sum(o.edits == "yes" for o in good)
    lines = [INTRODUCTION.format(total=len(outcomes), version=transformers.__version__, good=len(good), edited=edited), *rows]
    lines += ["", "## Those that do not", "", "| model type | reason |", "|---|---|"]
    lines += [f"| `{o.model_type}` | {o.reason.replace('|', '/')} |" for o in bad]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Check the families asked for, and write the page when all were."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=None, help="model types to check; the page is not written")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds per model type")
    parser.add_argument("--state", type=Path, default=None, help="JSON file of outcomes; what stands in it is not checked again")
    arguments = parser.parse_args()
    known = json.loads(arguments.state.read_text(encoding="utf-8")) if arguments.state and arguments.state.exists() else {}
    for model_type in arguments.only or MODEL_TYPES:
        if model_type in known:
            continue
        outcome = check_apart(model_type, timeout=arguments.timeout)
        known[model_type] = asdict(outcome)
        sys.stdout.write(f"{model_type:28} {'works' if outcome.works else outcome.reason} ({outcome.seconds} s)\n")
        sys.stdout.flush()
        if arguments.state:
            arguments.state.write_text(json.dumps(known, indent=1), encoding="utf-8")
    outcomes = [Outcome(**known[model_type]) for model_type in sorted(known)]
    sys.stdout.write(f"{sum(o.works for o in outcomes)} of {len(outcomes)} work\n")
    if arguments.only is None:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(outcomes), encoding="utf-8")


if __name__ == "__main__":
    main()

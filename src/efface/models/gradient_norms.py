"""How large the gradient of one sequence's loss is: what the gradient-norm attack looks at. Specification: evaluation §6.

Sequences are taken one at a time, so that no other row has a part in a figure and no more than one gradient is held in memory.

``strict`` is the p-norm of the whole gradient, dropout off, EOS left out. ``openunlearning`` does as its code: dropout on, the last
labelled token left out whatever it is, and the mean over parameter tensors of the norm of each. Its code can only take one row at
a time either (a second backward pass over the same graph fails there).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from efface.data.collate import TokenBatch
from efface.models.scoring import answer_scores

__all__ = ["gradient_norm", "tracking_all"]


@contextmanager
def tracking_all(model: Any, *, dropout: bool = False, seed: int = 0) -> Iterator[list[Tensor]]:
    """Let every floating-point weight be differentiated inside the context, frozen ones (a base under an adapter) as well.

    Args:
        model: A model in evaluation mode, to which it is returned.
        dropout: Whether dropout acts inside; its draws are seeded, and the caller's generators are left as they were.
        seed: Seed of these draws.

    Yields:
        The weights, tied ones once.
    """
    weights = [weight for weight in model.parameters() if weight.is_floating_point()]
    frozen = [weight for weight in weights if not weight.requires_grad]
    devices = sorted({weight.device.index or 0 for weight in weights if weight.device.type == "cuda"})
    with torch.random.fork_rng(devices), torch.enable_grad():
        try:
            for weight in frozen:
                weight.requires_grad_(True)
            if dropout:
                torch.manual_seed(seed)
                model.train()
            yield weights
        finally:
            if dropout:
                model.eval()
            for weight in frozen:
                weight.requires_grad_(False)


def gradient_norm(
    model: Any, batch: TokenBatch, weights: Sequence[Tensor], *, tokens: int, p: float = 2.0, per_tensor: bool = False
) -> float | None:
    """Return the p-norm of the gradient of the mean negative log-probability of a sequence's first ``tokens`` answer tokens.

    Args:
        model: A causal language model.
        batch: One sequence.
        weights: What to differentiate by.
        tokens: How many of the labelled tokens count; without one there is no gradient and the result is None.
        p: Which norm.
        per_tensor: Take the mean over weight tensors of the norm of each, in place of the norm of all together. Weights the loss
            does not depend on are left out of that mean.
    """
    if tokens < 1:
        return None
    loss = -answer_scores(model, batch).logp[:tokens].mean()
    gradients = [gradient for gradient in torch.autograd.grad(loss, weights, allow_unused=True) if gradient is not None]
    # float32 whatever the model's own type: squares of small numbers vanish in half precision
    norms = torch.stack([torch.linalg.vector_norm(gradient, p, dtype=torch.float32) for gradient in gradients])
    return float(norms.mean() if per_tensor else torch.linalg.vector_norm(norms, p))

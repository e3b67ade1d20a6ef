"""Can Bad Teaching Induce Forgetting? Chundawat, Tarun, Mandal and Kankanhalli, AAAI 2023, arXiv 2205.08096.

L = KL( u softmax(bad(x)/T) + (1 - u) softmax(theta_0(x)/T) || softmax(f(x)/T) ),  u = 1 on forget rows, averaged over the batch.

The student starts at theta_0; the bad teacher is a freshly initialised net, the good one theta_0 itself, and no label is read.
Reference code: vikram2000b/bad-teaching-unlearning, whose ``F.kl_div`` divides by batch x classes instead of the batch (K times
smaller: ``variant="reference"``), and which goes through the forget rows and 30 % of the retain rows.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Subset

from efface.data.net_batches import Relabelled
from efface.methods.base import MethodConfig, Need, Paper
from efface.methods.nets.base import GradientConfig, NetData, NetMethod, NetTools, Turn, make_optimizer
from efface.models.activations import as_in_use, forward

__all__ = ["BadTeacher", "BadTeacherConfig", "bad_teacher_loss"]


def bad_teacher_loss(
    student: Tensor,
    full_teacher: Tensor,
    bad_teacher: Tensor,
    forget: Tensor,
    *,
    temperature: float = 1.0,
    reduction: str = "batchmean",
) -> Tensor:
    """Return KL(target || student), the target the bad teacher's on forget rows and the good one's elsewhere.

    Args:
        student: Logits of the net, (B, K).
        full_teacher: Logits of the original net, (B, K).
        bad_teacher: Logits of the freshly initialised net, (B, K).
        forget: 1 for forget rows, else 0, (B,).
        temperature: T > 0.
        reduction: "batchmean", or "mean" over batch x classes as published code has it.
    """
    flags = forget.to(student.dtype).reshape(-1, 1)
    bad, full = (bad_teacher / temperature).softmax(-1), (full_teacher / temperature).softmax(-1)
    target = flags * bad + (1 - flags) * full
    divergence = F.kl_div((student / temperature).log_softmax(-1), target, reduction="sum")
    return divergence / (len(student) if reduction == "batchmean" else student.numel())


class BadTeacherConfig(GradientConfig):
    """Hyper-parameters of bad teaching."""

    learning_rate: float = Field(1e-3, gt=0, description="Adam; 1e-4 with the reference's K times smaller loss.")
    temperature: float = Field(1.0, gt=0)
    retain_share: float = Field(
        0.3, gt=0, le=1, description="Share of the retain rows that is gone through; 0.3 in the paper's code."
    )
    variant: Literal["default", "reference"] = Field("default", description="reference: the loss divided by the classes as well.")


class BadTeacher(NetMethod):
    """Imitate a net that knows nothing on the forget rows, and the original one elsewhere."""

    name: ClassVar[str] = "bad_teacher"
    summary: ClassVar[str] = "distil a freshly initialised net on the forget rows, the original on the rest"
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.RETAIN_SET})
    needs_labels: ClassVar[Literal["none", "forget", "retain", "both"]] = "none"
    approach: ClassVar[str] = "distillation"
    paper: ClassVar[Paper | None] = Paper(
        "Can Bad Teaching Induce Forgetting? Unlearning in Deep Networks using an Incompetent Teacher",
        "2205.08096",
        "Chundawat, Tarun, Mandal and Kankanhalli",
        2023,
        "https://github.com/vikram2000b/bad-teaching-unlearning",
    )
    Config: ClassVar[type[MethodConfig]] = BadTeacherConfig
    config: BadTeacherConfig

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Distil from both teachers over forget rows and a share of the retain rows."""
        config = self.config
        full, bad = copy.deepcopy(net), tools.fresh()
        count = max(1, round(config.retain_share * len(data.kept)))
        part = torch.randperm(len(data.kept), generator=tools.generator)[:count].tolist()
        gone, kept = torch.ones(len(data.forget)), torch.zeros(count)
        rows: Any = ConcatDataset([Relabelled(data.forget, gone), Relabelled(Subset(data.kept, part), kept)])
        reduction = "mean" if config.variant == "reference" else "batchmean"

        def loss(net: nn.Module, batch: Any) -> Tensor:
            x, flags = batch
            with as_in_use(full), as_in_use(bad):
                good_logits, bad_logits = forward(full, x), forward(bad, x)
            return bad_teacher_loss(
                forward(net, x), good_logits, bad_logits, flags, temperature=config.temperature, reduction=reduction
            )

        batches = tools.loader(rows, batch_size=config.batch_size)
        turn = Turn(loss, make_optimizer(net.parameters(), config))
        tools.fit(net, batches, turn, epochs=config.epochs, mode=self.mode, max_grad_norm=config.max_grad_norm)
        return net

"""Label-agnostic forgetting: move representations of what must go away from where they were, without reading a label.

LAF, Shen, Zhang, Zhao, Bialkowski, Chen, Xu, ICLR 2024, arXiv 2404.00506; code: ShaofeiShen768/LAF. The net is an extractor g and a
head; e = g(x).

1. Two VAEs learn the frozen original's representations: h those to keep, h_f those of D_f, by
   ``sum |h(e) - e|^2 / B - 0.0125 sum(log(s^2 + 1e-8) + 1 - mu^2 - s^2) / B``.
2. On every pair of batches, in turn:
   L_UE = N(h(g(x_r)), g(x_r)) - N(h_f(g(x_f)), g(x_f)),   N(a, b) = sum_i exp(m_i / (m_i + 1)),   m_i = ||a_i - b_i||^2
   L_RA = sum_i c_i - B_r logsumexp_j(k_j / temp),   c, k = 1 - cos(g(x), g_0(x)) of retain and forget rows, g_0 the original
3. LAF+R (``laf_r``): the head alone is trained on labelled retain rows.

h is trained on ALL rows by default, as in the paper (stated there as an approximation of D_r); ``vae_data="retain"`` is the form
it approximates. The published decoder ends in a sigmoid although representations are unbounded, which holds m / (m + 1) close to
1 and its gradient close to 0: ``decoder_out="linear"`` reconstructs standardised representations instead. The net runs as in use
(BatchNorm by its stored statistics), as in the code. An epoch ends with the shorter of the two sets.

Deviation: the repair goes through all labelled retain rows; ``variant="reference"`` ends its epoch with the forget batches, as in
the code. The learning rates are absolute and were set for hundreds to thousands of steps: with fewer, raise them or the epochs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import ConcatDataset, TensorDataset

from efface.data.net_batches import PairedBatches, Relabelled, labelled_rows
from efface.data.net_sets import Part
from efface.methods.base import MethodConfig, Need, Paper
from efface.methods.nets.base import LabelNeed, Mode, NetConfig, NetData, NetMethod, NetTools, StepLoss, Turn
from efface.models.activations import SplitNet, as_in_use, forward, on_device

__all__ = [
    "LAF",
    "LAFConfig",
    "LAFRepaired",
    "LAFRepairedConfig",
    "RepresentationVAE",
    "alignment_loss",
    "fit_vae",
    "head_loss",
    "laf_losses",
    "reconstruction_gap",
    "vae_loss",
]

Reconstruct = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Representations (B, d) -> (reconstruction, what it is compared with), both (B, d)."""
_FEW_PAIRS = 300
_PAPER = Paper(
    "Label-Agnostic Forgetting: A Supervision-Free Unlearning in Deep Models",
    "2404.00506",
    "Shen, Zhang, Zhao, Bialkowski, Chen, Xu",
    2024,
    "https://github.com/ShaofeiShen768/LAF",
)


def vae_loss(recon: Tensor, e: Tensor, mu: Tensor, sigma: Tensor, *, kl_weight: float = 0.025) -> Tensor:
    """Return the VAE's loss per row: squared error plus ``kl_weight`` times the divergence from the unit Gaussian, a scalar."""
    divergence = -0.5 * (torch.log(sigma.square() + 1e-8) + 1 - mu.square() - sigma.square()).sum()
    return ((recon - e).square().sum() + kl_weight * divergence) / len(e)


def reconstruction_gap(recon: Tensor, e: Tensor) -> Tensor:
    """Return N, the sum over rows of exp(m / (m + 1)), each in [1, e), m the squared distance (B, d) -> scalar."""
    m = (recon - e).square().sum(1)
    return torch.exp(m / (m + 1)).sum()


def alignment_loss(retain: Tensor, retain_0: Tensor, forget: Tensor, forget_0: Tensor, *, temp: float) -> Tensor:
    """Return L_RA of representations (B, d) and those of the original, a scalar; the temperature acts on the forget rows alone."""
    c = 1 - functional.cosine_similarity(retain, retain_0, dim=1)
    k = 1 - functional.cosine_similarity(forget, forget_0, dim=1)
    return c.sum() - len(c) * torch.logsumexp(k / temp, 0)


def laf_losses(
    split: SplitNet, original: SplitNet, keep: Reconstruct, forget: Reconstruct, *, temp: float
) -> tuple[StepLoss, StepLoss]:
    """Return L_UE and L_RA as losses of a pair of batches ``(retain, forget)``, each ``(x, y)`` with y never read.

    Args:
        split: The net that is changed.
        original: The frozen original.
        keep: h, the VAE of what stays.
        forget: h_f, the VAE of what must go.
        temp: Temperature of the forget rows in L_RA.
    """

    def extractor(_: nn.Module, batch: Any) -> Tensor:
        (x_r, _y_r), (x_f, _y_f) = batch
        return reconstruction_gap(*keep(split.features(x_r))) - reconstruction_gap(*forget(split.features(x_f)))

    def alignment(_: nn.Module, batch: Any) -> Tensor:
        (x_r, _y_r), (x_f, _y_f) = batch
        with torch.no_grad():
            before_r, before_f = original.features(x_r), original.features(x_f)
        return alignment_loss(split.features(x_r), before_r, split.features(x_f), before_f, temp=temp)

    return extractor, alignment


def head_loss(loss: Callable[[Tensor, Any], Tensor]) -> StepLoss:
    """Return the supervised loss of a labelled batch ``(x, y)``, for an optimiser over the head's parameters."""
    return lambda net, batch: loss(forward(net, batch[0]), batch[1])


class RepresentationVAE(nn.Module):
    """A VAE of representations: d-128-32-(mu, log s^2) of size z, z-32-128-d, ReLU between.

    Args:
        d: Size of a representation.
        z: Size of the code.
        decoder_out: "sigmoid" (published) or "linear", on standardised representations.
        generator: Where the code's noise is drawn, on the CPU.
        mean: Of the representations, (d,), for "linear".
        scale: Their standard deviation, (d,), for "linear".
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        d: int,
        z: int,
        *,
        decoder_out: Literal["sigmoid", "linear"],
        generator: torch.Generator,
        mean: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(d, 128), nn.ReLU(), nn.Linear(128, 32), nn.ReLU())
        self.mu, self.logvar = nn.Linear(32, z), nn.Linear(32, z)
        self.decoder = nn.Sequential(nn.Linear(z, 32), nn.ReLU(), nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, d))
        self.decoder_out = decoder_out
        self.generator = generator
        self.register_buffer("mean", torch.zeros(d) if mean is None else mean)
        self.register_buffer("scale", torch.ones(d) if scale is None else scale)

    def forward(self, e: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return reconstruction and target (B, d), mu and sigma (B, z); the code is drawn in evaluation mode too, as published."""
        target = (e - self.mean) / self.scale
        hidden = self.encoder(target)
        mu, sigma = self.mu(hidden), torch.exp(0.5 * self.logvar(hidden))
        noise = torch.randn(mu.shape, generator=self.generator, dtype=mu.dtype).to(mu.device)
        recon = self.decoder(mu + sigma * noise)
        return torch.sigmoid(recon) if self.decoder_out == "sigmoid" else recon, target, mu, sigma

    def reconstruct(self, e: Tensor) -> tuple[Tensor, Tensor]:
        """Return reconstruction and what it is compared with, both (B, d)."""
        recon, target, _, _ = self(e)
        return recon, target


class LAFConfig(NetConfig):
    """Hyper-parameters of label-agnostic forgetting; defaults are the paper's for MNIST and Fashion-MNIST."""

    batch_size: int | None = Field(32, ge=1, description="Rows per batch, of each set.")
    epochs: int = Field(20, ge=1, description="Passes over the shorter set; 20 (MNIST, Fashion-MNIST), 40 (CIFAR-10, SVHN).")
    lr_ue: float = Field(5e-5, gt=0, description="Adam's rate for L_UE; 5e-5, 1e-5 for ResNet-18.")
    lr_ra: float = Field(1e-4, gt=0, description="Adam's rate for L_RA; 1e-4, 4e-5 for ResNet-18.")
    temp: float = Field(20.0, gt=0, description="Temperature; 5 for random rows of MNIST, 20 for classes.")
    z: int = Field(8, ge=1, description="Size of the VAEs' code; 8, 16 for ResNet-18.")
    vae_data: Literal["all", "retain"] = Field("all", description="What h learns from; all: as published.")
    decoder_out: Literal["sigmoid", "linear"] = Field(
        "sigmoid", description="sigmoid: as published; linear: see the module's text."
    )
    vae_epochs: int = Field(10, ge=1)
    vae_learning_rate: float = Field(1e-3, gt=0)
    kl_weight: float = Field(0.025, ge=0)


class LAF(NetMethod):
    """Move the representations of what must go, without labels."""

    name: ClassVar[str] = "laf"
    summary: ClassVar[str] = "representations of the forget rows moved away, no labels read"
    paper: ClassVar[Paper | None] = _PAPER
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.RETAIN_SET, Need.HIDDEN_STATES})
    needs_labels: ClassVar[LabelNeed] = "none"
    batch_norm: ClassVar[Mode] = "eval"
    level: ClassVar[str] = "representation"
    approach: ClassVar[str] = "representation shift"
    Config: ClassVar[type[MethodConfig]] = LAFConfig
    config: LAFConfig

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Fit the two VAEs, then take L_UE and L_RA in turn."""
        settings = self.config
        split = tools.split(net)
        # No label is read, and a set without them mixes with one that has some.
        kept, must_go = Relabelled(data.kept, None), Relabelled(data.forget, None)
        retain, forget = (tools.loader(rows, batch_size=settings.batch_size) for rows in (kept, must_go))
        split.head_module(on_device(next(iter(retain))[0], tools.device))
        original = copy.deepcopy(net).eval().requires_grad_(False)
        before = split.on(original)
        everything: Any = kept if settings.vae_data == "retain" else ConcatDataset([must_go, kept])
        keep = fit_vae(_representations(before, everything, tools), settings, tools, "VAE of what stays")
        gone = fit_vae(_representations(before, must_go, tools), settings, tools, "VAE of what must go")
        losses = laf_losses(split, before, keep.reconstruct, gone.reconstruct, temp=settings.temp)
        turns = [
            Turn(loss, torch.optim.Adam(net.parameters(), lr=rate))
            for loss, rate in zip(losses, (settings.lr_ue, settings.lr_ra), strict=True)
        ]
        pairs = PairedBatches(retain, forget)
        if settings.epochs * len(pairs) < _FEW_PAIRS:
            tools.note(
                f"LAF took {settings.epochs * len(pairs)} pairs of batches. Its learning rates are absolute and were set for "
                "hundreds to thousands: if little was forgotten, raise lr_ue and lr_ra, or epochs."
            )
        tools.fit(net, pairs, turns, epochs=settings.epochs, mode=self.mode)
        return net


def fit_vae(e: Tensor, settings: LAFConfig, tools: NetTools, label: str = "VAE") -> RepresentationVAE:
    """Return a VAE trained on representations (n, d) as LAF trains its two, in use."""
    linear = settings.decoder_out == "linear"
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**31, (), generator=tools.generator)))
        vae = RepresentationVAE(
            e.shape[1],
            settings.z,
            decoder_out=settings.decoder_out,
            generator=tools.generator,
            mean=e.mean(0) if linear else None,
            scale=e.std(0, correction=min(1, len(e) - 1)).clamp_min(1e-6) if linear else None,
        )
    vae = vae.to(tools.device, e.dtype)

    def loss(_: nn.Module, batch: Any) -> Tensor:
        recon, target, mu, sigma = vae(batch[0])
        return vae_loss(recon, target, mu, sigma, kl_weight=settings.kl_weight)

    turn = Turn(loss, torch.optim.Adam(vae.parameters(), lr=settings.vae_learning_rate))
    batches = tools.loader(TensorDataset(e), batch_size=settings.batch_size)
    tools.fit(vae, batches, turn, epochs=settings.vae_epochs, label=label)
    return vae.eval().requires_grad_(False)


def _representations(split: SplitNet, rows: Any, tools: NetTools) -> Tensor:
    batches: Any = tools.loader(rows, shuffle=False, batch_size=256)
    with as_in_use(split.net):
        return torch.cat([split.features(on_device(x, tools.device)).cpu() for x, _ in batches])


class LAFRepairedConfig(LAFConfig):
    """Hyper-parameters of LAF+R."""

    repair_epochs: int = Field(1, ge=1, description="Passes over the labelled retain rows.")
    repair_learning_rate: float = Field(1e-3, gt=0, description="Adam's; a free argument in the code.")
    labelled_share: float = Field(1.0, gt=0, le=1, description="Share of the labelled retain rows whose labels are read.")
    variant: Literal["default", "reference"] = Field(
        "default", description="reference: an epoch of the repair ends with the forget batches, as in the code."
    )


class LAFRepaired(LAF):
    """LAF, then the head trained on labelled retain rows."""

    name: ClassVar[str] = "laf_r"
    summary: ClassVar[str] = "LAF, then the head alone trained on labelled retain rows"
    needs_labels: ClassVar[LabelNeed] = "retain"
    some_labels_suffice: ClassVar[bool] = True
    Config: ClassVar[type[MethodConfig]] = LAFRepairedConfig
    config: LAFRepairedConfig

    def run(self, net: nn.Module, data: NetData, tools: NetTools) -> nn.Module:
        """Run LAF and repair the head."""
        net = super().run(net, data, tools)
        settings = self.config
        labelled = labelled_rows(data.kept)
        count = max(1, round(settings.labelled_share * len(labelled)))
        chosen = torch.randperm(len(labelled), generator=tools.generator)[:count]
        batches: Any = tools.loader(Part(data.kept, labelled[chosen.numpy()]), batch_size=settings.batch_size)
        head = tools.split(net).head_module(on_device(next(iter(batches))[0], tools.device))
        optimizer = torch.optim.Adam(head.parameters(), lr=settings.repair_learning_rate)
        if settings.variant == "reference":
            forget = tools.loader(data.forget, batch_size=settings.batch_size)
            pairs, repair = PairedBatches(batches, forget), head_loss(tools.loss)
            turn = Turn(lambda net, batch: repair(net, batch[0]), optimizer)
            tools.fit(net, pairs, turn, epochs=settings.repair_epochs, mode=self.mode, label="repair")
        else:
            turn = Turn(head_loss(tools.loss), optimizer)
            tools.fit(net, batches, turn, epochs=settings.repair_epochs, mode=self.mode, label="repair")
        return net

"""Properties of the losses: signs, limits, and what they do to a model in one step."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from efface.errors import InputError
from efface.methods.objectives.altpo import AltPO
from efface.methods.objectives.ceu import CEU
from efface.methods.objectives.dpo import DPO, dpo_loss
from efface.methods.objectives.flat import DIVERGENCES, FLAT, check_first_step, flat_loss, mean_probability
from efface.methods.objectives.ga import GradientAscent, ga_loss
from efface.methods.objectives.idk import IDK
from efface.methods.objectives.ihl import IHL
from efface.methods.objectives.jensun import JensUn
from efface.methods.objectives.me import ME
from efface.methods.objectives.npo import NPO, npo_loss
from efface.methods.objectives.pdu import PDU, pdu_loss, unshifted_logits
from efface.methods.objectives.satimp import SatImp
from efface.methods.objectives.simnpo import SimNPO, simnpo_loss
from efface.methods.objectives.undial import UNDIAL
from efface.methods.objectives.wga import WGA, wga_loss
from efface.methods.retention.kl import RetainKL, kl_loss

log_probabilities = st.lists(st.floats(-30, -1e-3), min_size=1, max_size=8)
betas = st.floats(0.01, 5.0)


def tensor(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def gradient(loss, at: torch.Tensor) -> torch.Tensor:
    leaf = at.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf).sum(), leaf)[0]


class TestOneStep:
    """One small step of plain gradient descent on a model that knows the answers, in float64."""

    ALTERNATING = (
        AltPO(),
        DPO(),
        IDK(),
        *(FLAT(divergence=name) for name in DIVERGENCES),
        FLAT(probability="geometric"),
        FLAT(variant="reference"),
    )
    METHODS = (
        GradientAscent(),
        NPO(),
        SimNPO(),
        WGA(),
        SatImp(),
        SatImp(beta2=0.0),
        CEU(),
        CEU(skip=0),
        UNDIAL(),
        IHL(),
        JensUn(tokens=(40, 41)),
        JensUn(tokens=(40, 41), variant="reference"),
        *ALTERNATING,
    )

    def step(self, lab, objective, view):
        """Return the mean answer probability of ``view`` before and after."""
        before = mean_probability(lab.scores(view)).mean().item()
        lab.step(lab.forget_loss(objective, lab.reference()), 1e-4)
        return before, mean_probability(lab.scores(view)).mean().item()

    @pytest.mark.parametrize("objective", METHODS, ids=lambda plug: "-".join(map(str, plug.resolved().values()))[:60])
    def test_forget_answers_become_less_likely(self, double_lab, objective):
        before, after = self.step(double_lab, objective, "forget")
        assert after < before

    def test_me_blurs_at_once_and_forgets_in_a_few_steps(self, double_lab):
        """What a first small step does to the answers is left open by its loss, which lifts all other tokens together."""
        objective, reference = ME(), double_lab.reference()
        before = mean_probability(double_lab.scores("forget")).mean().item()
        losses = []
        for _ in range(10):
            loss = double_lab.forget_loss(objective, reference)
            losses.append(loss.item())
            double_lab.step(loss, 1e-2)
        assert losses[1] < losses[0]
        assert mean_probability(double_lab.scores("forget")).mean().item() < before / 2

    @pytest.mark.parametrize("objective", ALTERNATING, ids=lambda plug: "-".join(map(str, plug.resolved().values()))[:60])
    def test_alternates_become_more_likely(self, double_lab, objective):
        before, after = self.step(double_lab, objective, "alternate")
        assert after > before


class TestNPO:
    @given(log_probabilities, betas)
    def test_hand_formula(self, values, beta):
        logp, reference = tensor(values), tensor(values[::-1])
        expected = [2 / beta * math.log1p(math.exp(beta * (a - b))) for a, b in zip(logp, reference, strict=True)]
        torch.testing.assert_close(npo_loss(logp, reference, beta), tensor(expected))

    @given(log_probabilities)
    def test_small_beta_is_gradient_ascent(self, values):
        logp, reference = tensor(values), tensor(values) - 0.3
        found = gradient(lambda leaf: npo_loss(leaf, reference, 1e-7), logp)
        torch.testing.assert_close(found, gradient(ga_loss, logp), rtol=1e-5, atol=0)

    @given(log_probabilities, betas)
    def test_gradient_fades_with_forgetting(self, values, beta):
        """The weight of a row is 2 pi^b / (pi^b + pi_ref^b): between 0 and 2, 1 at the start."""
        logp = tensor(values)
        at_start = gradient(lambda leaf: npo_loss(leaf, logp, beta), logp)
        torch.testing.assert_close(at_start, torch.ones_like(logp))
        later = gradient(lambda leaf: npo_loss(leaf, logp, beta), logp - 1.0)
        assert (later < at_start).all()
        assert (later > 0).all()

    def test_without_reference_values_is_a_type_error(self, lab):
        with pytest.raises(TypeError, match="no reference values"):
            lab.forget_loss(NPO(), None)


class TestDPO:
    @given(log_probabilities, betas)
    def test_without_alternate_is_npo(self, values, beta):
        logp, reference = tensor(values), tensor(values) * 0.7
        torch.testing.assert_close(dpo_loss(logp, reference, beta), npo_loss(logp, reference, beta))

    @given(log_probabilities, betas)
    def test_alternate_at_its_reference_value_is_npo(self, values, beta):
        logp, reference = tensor(values), tensor(values) * 0.7
        still = tensor(values) - 1
        found = dpo_loss(logp, reference, beta, alternate_logp=still, alternate_reference_logp=still)
        torch.testing.assert_close(found, npo_loss(logp, reference, beta))

    @given(log_probabilities, betas)
    def test_signs(self, values, beta):
        logp = tensor(values)
        on_forget = gradient(lambda x: dpo_loss(x, logp, beta, alternate_logp=logp, alternate_reference_logp=logp), logp)
        on_alternate = gradient(lambda x: dpo_loss(logp, logp, beta, alternate_logp=x, alternate_reference_logp=logp), logp)
        assert (on_forget > 0).all()
        assert (on_alternate < 0).all()


class TestSimNPO:
    @given(st.floats(0.01, 20), st.integers(1, 40), betas)
    def test_reads_the_mean_nll(self, nll, length, beta):
        one = simnpo_loss(tensor([nll]), tensor([1.0]), beta)
        many = simnpo_loss(tensor([nll * length]), tensor([float(length)]), beta)
        torch.testing.assert_close(one, many)

    @given(st.floats(0.01, 5), betas, st.floats(0, 3))
    def test_margin_asks_for_more(self, nll, beta, delta):
        assert simnpo_loss(tensor([nll]), tensor([1.0]), beta, delta) >= simnpo_loss(tensor([nll]), tensor([1.0]), beta, 0.0)


class TestWGA:
    @given(log_probabilities)
    def test_beta_zero_is_gradient_ascent(self, values):
        torch.testing.assert_close(wga_loss(tensor(values), 0.0), ga_loss(tensor(values)))

    @given(log_probabilities, betas)
    def test_gradient_is_the_detached_weight(self, values, beta):
        logp = tensor(values)
        torch.testing.assert_close(gradient(lambda leaf: wga_loss(leaf, beta), logp), (beta * logp).exp())


class TestFLAT:
    GRID = torch.linspace(0.0, 1.0, 21, dtype=torch.float64)

    @pytest.mark.parametrize("divergence", DIVERGENCES)
    def test_raises_the_template_and_lowers_the_answer_everywhere(self, divergence):
        template, forget = torch.meshgrid(self.GRID, self.GRID, indexing="ij")
        assert (gradient(lambda leaf: flat_loss(leaf, forget, divergence), template) < 0).all()
        assert (gradient(lambda leaf: flat_loss(template, leaf, divergence), forget) > 0).all()

    @pytest.mark.parametrize("divergence", ["reverse_kl", "Reverse-KL", "squared_hellinger", "neyman"])
    def test_divergences_that_push_the_wrong_way_are_refused(self, divergence):
        with pytest.raises(InputError, match="lowers the template"):
            FLAT(divergence=divergence)
        with pytest.raises(InputError, match="lowers the template"):
            flat_loss(self.GRID, self.GRID, divergence)
        inside = self.GRID[1:-1]
        reference = gradient(lambda leaf: flat_loss(leaf, inside, divergence, variant="reference"), inside)
        assert (reference > 0).all()  # what the published code would do to the template

    def test_unknown_divergence_names_what_is_known(self):
        with pytest.raises(InputError, match=r"no divergence 'hellinger'.*kl, tv, js, pearson"):
            FLAT(divergence="hellinger")

    @pytest.mark.parametrize(("published", "ours"), [("Total-Variation", "tv"), ("Jenson-Shannon", "js"), ("KL", "kl")])
    def test_published_names_are_understood(self, published, ours):
        assert FLAT(divergence=published).resolved()["divergence"] == ours

    def test_value_is_per_row(self, double_lab):
        """The mean over rows of a row's own loss, not the loss of a mean: one row more changes no other row's share."""
        lab, reference = double_lab, None
        whole = lab.forget_loss(FLAT(divergence="pearson"), reference)
        singles = []
        views = dict(lab.views)
        for row in range(len(views["forget"])):
            lab.views = {view: [rows[row]] for view, rows in views.items()}
            singles.append(lab.forget_loss(FLAT(divergence="pearson"), reference))
        torch.testing.assert_close(torch.stack(singles).mean(), whole)

    def test_reference_variant_shrinks_with_padding(self, lab):
        plug = FLAT(divergence="tv", variant="reference")
        narrow, wide = lab.forget_loss(plug, None), lab.forget_loss(plug, None, extra_columns=20)
        assert abs(wide) < abs(narrow) * 0.6

    def test_first_step_warning(self, lab):
        output = FLAT().loss({view: lab.scores(view) for view in FLAT.inputs}, None)
        assert 0 < output.logs["forget_probability"] <= 1
        assert check_first_step(output.logs) is None
        warning = FLAT().check_first_step({"template_probability": 2e-4})
        assert warning is not None
        assert "2.0e-04" in warning
        assert check_first_step({"loss_forget": 1.0}) is None


class TestKL:
    @given(st.lists(st.floats(-5, 5), min_size=3, max_size=3), st.lists(st.floats(-5, 5), min_size=3, max_size=3))
    def test_is_a_divergence(self, left, right):
        found = kl_loss(tensor(left), tensor(right))
        assert found >= -1e-12
        assert abs(kl_loss(tensor(left), tensor(left) + 3.0)) < 1e-12  # logits are defined up to a constant

    def test_reference_is_first(self):
        """KL(ref || model) is infinite only where the model denies what the reference allows."""
        reference, model = tensor([0.0, 0.0]), tensor([0.0, -40.0])
        assert kl_loss(model, reference) > 15
        assert kl_loss(reference, model) < 1

    def test_gradient_reaches_the_model_only(self):
        model, reference = tensor([1.0, 0.0]).requires_grad_(), tensor([0.0, 1.0]).requires_grad_()
        kl_loss(model, reference).backward()
        assert reference.grad is None
        torch.testing.assert_close(model.grad, (model.softmax(-1) - reference.softmax(-1)).detach())

    def test_all_positions_is_declared(self):
        assert RetainKL(positions="all").positions == "all"
        assert RetainKL().positions == "answer"


class TestPDU:
    def test_is_the_squared_margin_over_the_mean(self):
        logits = tensor([[3.0, 1.0, -1.0], [2.0, 2.0, 2.0]])
        torch.testing.assert_close(pdu_loss(logits), tensor([4.0, 0.0]))

    @given(log_probabilities, st.floats(-50, 50))
    def test_a_constant_on_all_logits_changes_nothing(self, values, shift):
        logits = tensor([values])
        torch.testing.assert_close(pdu_loss(logits), pdu_loss(logits + shift), rtol=1e-9, atol=1e-9)

    def test_published_positions_are_the_answers_own(self, double_lab):
        scores = double_lab.scores("forget")
        logits = unshifted_logits(scores)
        assert logits.shape == scores.logits.shape
        rows = [
            own for own, label in zip(scores.dense_logits.flatten(0, 1), scores.dense_labels.flatten(), strict=True) if label >= 0
        ]
        torch.testing.assert_close(logits, torch.stack(rows))
        torch.testing.assert_close(
            PDU(variant="reference").loss({"forget": scores}, None).loss, pdu_loss(logits).mean(), rtol=1e-12, atol=0
        )

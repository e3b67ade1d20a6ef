"""Weight-space methods on a tiny model: what moves, by how much, and what is left alone."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from efface.errors import InputError
from efface.methods.objectives.nll import NLL
from efface.methods.presets import expand
from efface.methods.weights.base import Target, originals, restore, trained_parameters
from efface.methods.weights.task_vector import TaskVector, negated
from efface.methods.weights.whos_harry_potter import WhosHarryPotter, WhosHarryPotterDistilled, distillation_loss
from efface.models.contrast import ContrastModel, contrast_logits
from efface.models.reference import ReferenceKind, ReferenceStore
from efface.models.scoring import answer_scores
from efface.registry import WEIGHTS

PAD = 0


def target_of(lab, model=None):
    """The lab's model with a ``fit`` of plain gradient steps; what it was asked to fit is noted."""
    model = lab.model if model is None else model
    for parameter in model.parameters():
        parameter.requires_grad_(not hasattr(model, "peft_config") or parameter.requires_grad)
    asked = []

    def fit(objective, *, learns, epochs=None, learning_rate=None):
        asked.append((objective.name, learns))
        optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
        store = None
        if objective.reference:
            store = ReferenceStore.build(model, lab.views["forget"], objective.reference, pad_id=PAD)
        for _ in range(6):
            optimiser.zero_grad()
            objective.loss({"forget": answer_scores(model, lab.batch("forget"))}, store).loss.backward()
            optimiser.step()

    return Target(model, lab.views["forget"], PAD, fit), asked


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def with_lora(model):
    torch.manual_seed(0)
    return get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))


@pytest.mark.parametrize("name", WEIGHTS.names())
class TestEveryWeightMethod:
    def test_is_a_described_plug(self, name):
        plug = WEIGHTS.get(name)()
        assert plug.name == name
        assert plug.summary
        assert plug.paper
        assert plug.approach
        assert all(info.description for info in type(plug.config).model_fields.values())
        assert WEIGHTS.get(name)(**{k: v for k, v in plug.resolved().items() if k != "name"}).resolved() == plug.resolved()

    def test_unknown_setting_is_an_error(self, name):
        with pytest.raises(InputError, match=f"settings of {name}"):
            WEIGHTS.get(name)(no_such_setting=1)

    def test_lowers_the_forget_answers(self, name, lab):
        before = lab.answer_logp("forget").mean()
        target, asked = target_of(lab)
        # Strong enough to change the top tokens: below that, learning one's own top tokens makes them surer.
        settings = {"alpha": 100.0} if "harry_potter" in name else {}
        lab.model = WEIGHTS.get(name)(**settings).change(target)
        with torch.no_grad():
            scores = answer_scores(lab.model, lab.batch("forget"))
        assert asked[0] == ("nll", True)
        assert scores.sequence_sum(scores.logp).mean() < before


class TestTaskVector:
    def test_is_the_formula(self, lab):
        before = state(lab.model)
        learnt = copy.deepcopy(lab)
        target_of(learnt)[0].fit(NLL(), learns=True)
        TaskVector(scale=2.0).change(target_of(lab)[0])
        for name, tensor in lab.model.state_dict().items():
            torch.testing.assert_close(tensor, negated(before[name], learnt.model.state_dict()[name], 2.0))

    def test_tied_weights_move_once_and_integer_buffers_never(self, lab):
        model = lab.model
        model.lm_head.weight = model.model.embed_tokens.weight
        model.register_buffer("counter", torch.tensor([7, 7]))
        before = state(model)
        learnt = copy.deepcopy(lab)
        target_of(learnt)[0].fit(NLL(), learns=True)
        TaskVector(scale=2.0).change(target_of(lab)[0])
        assert model.lm_head.weight is model.model.embed_tokens.weight
        expected = negated(before["lm_head.weight"], learnt.model.lm_head.weight.detach(), 2.0)
        torch.testing.assert_close(model.lm_head.weight.detach(), expected)
        assert torch.equal(model.counter, torch.tensor([7, 7]))

    def test_negated_adapter_is_the_negated_weights(self, lab):
        original = copy.deepcopy(lab.model)
        learnt = copy.deepcopy(lab)
        learnt.model = with_lora(learnt.model)
        target_of(learnt)[0].fit(NLL(), learns=True)
        lab.model = with_lora(lab.model)
        target, _ = target_of(lab)
        made = TaskVector(scale=3.0).change(target).merge_and_unload()
        merged = learnt.model.merge_and_unload()
        for (name, found), base, after in zip(made.named_parameters(), original.parameters(), merged.parameters(), strict=True):
            torch.testing.assert_close(found, negated(base, after, 3.0), rtol=1e-4, atol=1e-6, msg=name)


class TestWhosHarryPotter:
    def test_the_pair_keeps_the_original(self, lab):
        before = state(lab.model)
        made = WhosHarryPotter(alpha=2.0).change(target_of(lab)[0])
        assert isinstance(made, ContrastModel)
        assert all(torch.equal(before[name], tensor) for name, tensor in made.base.state_dict().items())
        assert made.alpha == 2.0

    def test_with_an_adapter_there_is_one_set_of_weights(self, lab):
        lab.model = with_lora(lab.model)
        made = WhosHarryPotter().change(target_of(lab)[0])
        assert made.base is None
        batch = lab.batch("forget")
        with torch.no_grad():
            found = answer_scores(made, batch).logits
            reinforced = answer_scores(lab.model, batch).logits
            with lab.model.disable_adapter():
                base = answer_scores(lab.model, batch).logits
        torch.testing.assert_close(found, contrast_logits(base, reinforced, 5.0))

    @pytest.mark.parametrize("has_adapter", [False, True])
    @pytest.mark.parametrize("kind", ["argmax", "softmax"])
    def test_distillation_reads_both_models_and_starts_from_the_original(self, lab, kind, has_adapter):
        if has_adapter:
            lab.model = with_lora(lab.model)
        reference = copy.deepcopy(lab.model)
        reinforced = copy.deepcopy(lab)
        target_of(reinforced)[0].fit(NLL(), learns=True)
        losses = []
        target, asked = target_of(lab)

        def fit(objective, *, learns, epochs=None, learning_rate=None):
            if learns:
                target.fit(objective, learns=learns)
                return
            assert all(torch.equal(a, b) for a, b in zip(reference.parameters(), lab.model.parameters(), strict=True))
            store = ReferenceStore.build(lab.model, lab.views["forget"], objective.reference, pad_id=PAD)
            losses.append(objective.loss({"forget": answer_scores(lab.model, lab.batch("forget"))}, store).loss)

        WhosHarryPotterDistilled(target=kind, alpha=2.0).change(Target(lab.model, lab.views["forget"], PAD, fit))
        batch = lab.batch("forget")
        with torch.no_grad():
            base, raised = answer_scores(reference, batch), answer_scores(reinforced.model, batch)
            teacher = contrast_logits(base.logits, raised.logits, 2.0)
            expected = distillation_loss(base.logits, teacher, kind).mean()
        torch.testing.assert_close(losses[0].detach(), expected, rtol=1e-4, atol=1e-5)
        losses[0].backward()
        assert asked == [("nll", True)]

    def test_distillation_loss_by_hand(self):
        logits, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])
        assert distillation_loss(logits, teacher, "argmax").item() == pytest.approx(0.6931472)
        assert distillation_loss(teacher, teacher, "softmax").item() == pytest.approx(0.3653338, abs=1e-6)


def test_originals_are_copies_of_what_is_trained_only():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    with originals(model) as kept:
        assert set(kept) == {"1.weight", "1.bias"}
        before = model[1].weight.detach().clone()
        with torch.no_grad():
            model[1].weight += 1
        restore(model, kept)
        assert torch.equal(model[1].weight, before)
    assert len(list(trained_parameters(model))) == 2


def test_a_store_of_the_model_as_it_stands_keeps_the_adapter(lab):
    model = with_lora(lab.model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    scores = answer_scores(model, lab.batch("forget"))
    on, off = (
        ReferenceStore.build(model, lab.views["forget"], [ReferenceKind.FINAL_HIDDEN], pad_id=PAD, is_adapter_on=is_on)
        for is_on in (True, False)
    )
    torch.testing.assert_close(on.logits(scores), scores.logits.detach(), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(off.logits(scores), scores.logits.detach(), atol=1e-2)


class TestNames:
    def test_hyperparameters_belong_to_the_weight_method(self):
        spec = expand({"name": "task_vector", "scale": 2.5})
        assert spec.resolved()["weights"] == {"name": "task_vector", "scale": 2.5}
        assert spec.name == "task_vector"
        assert expand(TaskVector(scale=2.5)).resolved() == spec.resolved()
        with pytest.raises(InputError, match=r"unknown key 'scal' \(did you mean 'scale'\?\)"):
            expand({"name": "task_vector", "scal": 1})

    def test_a_retention_term_is_refused_where_nothing_could_use_it(self):
        with pytest.raises(InputError, match="no use for the retention term nll"):
            expand("task_vector", retention="nll")
        assert expand("whp_distilled", retention="kl").retain_weight == 1.0

    def test_intentions(self):
        assert [str(expand(name).intention) for name in WEIGHTS.names()] == ["removal", "suppression", "removal"]

    def test_one_of_another_package_needs_no_preset(self):
        class Mine(TaskVector):
            name = "my_vector"

        WEIGHTS.register("my_vector", Mine)
        try:
            spec = expand("my_vector")
            assert isinstance(spec.weights, Mine)
            assert spec.objective.name == "nll"
        finally:
            del WEIGHTS._targets["my_vector"]

"""An OpenAI-compatible endpoint behind the two verbs, against a real server on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _server import Server, contents, serving

from efface.data.items import GenerateItem, ScoreItem
from efface.errors import InputError
from efface.models.endpoint import EndpointModel, WrittenElsewhere, open_endpoint
from efface.models.endpoint_client import EndpointClient
from efface.models.language_model import LocalModel
from efface.models.protocol import LanguageModel

QUESTIONS = ["Where was Ada Bell born?", "Who taught Mina Okoro?", "What does Tomas Ruiz write?", "And?"]
SECRET = "sk-not-to-be-seen"


@pytest.fixture(scope="module")
def local(build, tokenizer):
    return LocalModel(build("llama"), tokenizer)


@pytest.fixture
def server(local):
    with serving(Server(local)) as running:
        yield running


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return folder


def texts(**settings):
    return [GenerateItem(str(i), question, max_new_tokens=8, **settings) for i, question in enumerate(QUESTIONS)]


def scores():
    answers = ("Lisbon", "Her mother", "Novels.", "x")
    return [ScoreItem(str(i), answer, question) for i, (question, answer) in enumerate(zip(QUESTIONS, answers, strict=True))]


def test_chat_writes_what_the_model_writes(server, local):
    endpoint = open_endpoint(server.url, "tiny", concurrency=4)
    assert isinstance(endpoint, LanguageModel)
    seen = []
    assert endpoint.generate(texts(), progress=lambda done, total: seen.append((done, total))) == local.generate(texts())
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert contents(server.asked) == ["/v1/chat/completions"] * 4
    assert all(body["temperature"] == 0 and body["max_tokens"] == 8 for _, body in server.asked)


def test_conversations_and_shots_become_turns(server):
    endpoint = open_endpoint(server.url, "tiny")
    history = ({"role": "system", "content": "Be short."}, {"role": "user", "content": "Who?"})
    endpoint.generate([GenerateItem("a", messages=history, max_new_tokens=1)])
    endpoint.generate([GenerateItem("b", "Who?", shots=(("Where?", "Here."),), max_new_tokens=1)])
    assert server.asked[0][1]["messages"] == list(history)
    assert [turn["role"] for turn in server.asked[1][1]["messages"]] == ["user", "assistant", "user"]


def test_completions_send_the_tokens_of_a_local_model(server, local, saved):
    endpoint = open_endpoint(server.url, "tiny", tokenizer=saved)
    items = [*texts(), GenerateItem("t", "Ada Bell was born in Lisbon by the sea", form="text", prefix_share=0.5, max_new_tokens=5)]
    assert endpoint.generate(items) == local.generate(items)
    assert set(contents(server.asked)) == {"/v1/completions"}
    assert all(isinstance(body["prompt"], list) for _, body in server.asked)


def test_completions_without_a_tokenizer_send_the_template(server, local):
    endpoint = open_endpoint(server.url, "tiny", api="completions")
    assert endpoint.generate(texts()) == local.generate(texts())
    assert {body["prompt"] for _, body in server.asked} == {f"Question: {question}\nAnswer:" for question in QUESTIONS}
    with pytest.raises(InputError, match="Row t is a text"):
        endpoint.generate([GenerateItem("t", "A whole text", form="text", prefix_share=0.5)])


def test_stop_strings_beyond_the_fourth_are_cut_here(server, local):
    written = local.generate(texts())[0]
    mark = written[3:5]
    found = open_endpoint(server.url, "tiny").generate(texts(stop=("#1", "#2", "#3", "#4", mark)))[0]
    assert found == written.split(mark, 1)[0].strip()
    assert server.asked[0][1]["stop"] == ["#1", "#2", "#3", "#4"]


@pytest.mark.parametrize("way", ["vllm", "echo"])
def test_scores_are_the_models(server, local, saved, way):
    server.logprobs = way
    ours, theirs = local.score(scores()), open_endpoint(server.url, "tiny", tokenizer=saved).score(scores())
    for own, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(own.targets, other.targets)
        np.testing.assert_allclose(own.logp, other.logp, atol=1e-5)
        np.testing.assert_array_equal(own.hit, other.hit)
        assert (own.text, own.ends_in_eos) == (other.text, other.ends_in_eos)
        assert np.isnan(other.mean).all()
        assert np.isnan(other.var).all()
        known = own.rank if way == "vllm" else np.where(own.hit, 0, -1)
        np.testing.assert_array_equal(known, other.rank)


def test_what_cannot_be_scored_says_why(server, saved):
    with pytest.raises(NotImplementedError, match="tokenizer"):
        open_endpoint(server.url, "tiny").score(scores())
    server.logprobs = "none"
    with pytest.raises(NotImplementedError, match="neither prompt_logprobs nor echo"):
        open_endpoint(server.url, "tiny", tokenizer=saved).score(scores())


def test_requests_run_side_by_side(server):
    open_endpoint(server.url, "tiny", concurrency=3).generate(texts() * 3)
    assert 2 <= server.most_at_once <= 3


def test_passing_failures_are_asked_again(server, local):
    server.failures = [503, 429, 500]
    assert open_endpoint(server.url, "tiny", retries=3, concurrency=1).generate(texts()) == local.generate(texts())
    server.failures = [503, 503]
    with pytest.raises(InputError, match=r"answers with status 503, asked 2 times.*--endpoint-concurrency"):
        EndpointModel(EndpointClient(server.url, retries=1), "tiny").generate(texts()[:1])


def test_a_server_that_is_away_is_said_to_be(server):
    url = server.url.replace(server.url.split(":")[2].split("/")[0], "9")  # a port at which nothing listens
    with pytest.raises(InputError, match=r"does not answer \(ConnectError\), asked 1 times.*Start it"):
        open_endpoint(url, "tiny", retries=0)


def test_a_server_that_takes_too_long_is_given_up(server):
    with server._model_lock, pytest.raises(InputError, match=r"does not answer \(ReadTimeout\)"):
        EndpointModel(EndpointClient(server.url, timeout=0.2, retries=0), "tiny").generate(texts()[:1])


def test_the_key_is_sent_and_never_shown(server):
    server.key = SECRET
    endpoint = open_endpoint(server.url, "tiny", key=SECRET)
    assert endpoint.generate(texts()[:1])
    assert SECRET not in repr(endpoint.client) + repr(endpoint) + endpoint.fingerprint
    with pytest.raises(InputError, match="refuses the key") as refused:
        open_endpoint(server.url, "tiny", key="sk-wrong-one")
    assert "sk-wrong-one" not in str(refused.value)


def test_the_model_must_be_served(server):
    assert open_endpoint(server.url).model == "tiny"
    with pytest.raises(InputError, match=r"serves tiny, and 'large' was asked for.*--endpoint-model"):
        open_endpoint(server.url, "large")
    server.has_list = False
    assert open_endpoint(server.url, "tiny").model == "tiny"
    with pytest.raises(InputError, match="does not say what it serves, and no model was named"):
        open_endpoint(server.url)


@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "ftp://host/v1", "http://", "http://user:pass@host/v1", "http://host/v1?key=1"]
)
def test_what_is_no_url_is_refused(url):
    with pytest.raises(InputError) as refused:
        open_endpoint(url, "tiny")
    assert "pass" not in str(refused.value).replace("password", "")


def test_a_refusal_is_passed_on_unless_it_quotes_the_prompt(server):
    endpoint = open_endpoint(server.url, "tiny")
    server.refusal = (400, "The context of this model is 256 tokens.")
    with pytest.raises(InputError, match=r"status 400: The context of this model is 256 tokens\)"):
        endpoint.generate(texts()[:1])
    server.refusal = (422, "Bad input: 'where was Ada Bell born?'")
    with pytest.raises(InputError, match=r"status 422\)") as refused:
        endpoint.generate(texts()[:1])
    assert "Ada" not in str(refused.value)


def test_what_is_no_such_server_is_told_apart(server):
    with pytest.raises(InputError, match="gives no choices"):
        EndpointModel(_Odd({"ok": True}), "tiny").generate(texts()[:1])
    with pytest.raises(InputError, match=r"chat/completions refuses the request \(status 404"):
        EndpointModel(EndpointClient(server.url), "other").generate(texts()[:1])


class _Odd(EndpointClient):
    """A server of something else."""

    def __init__(self, answer):
        super().__init__("http://odd/v1")
        self.answer = answer

    def post(self, path, body):
        return self.answer


def test_the_fingerprint_follows_what_decides_the_answer(server, saved):
    plain = open_endpoint(server.url, "tiny")
    others = [
        EndpointModel(EndpointClient(server.url), "other"),
        EndpointModel(EndpointClient("http://elsewhere/v1"), "tiny"),
        open_endpoint(server.url, "tiny", api="completions"),
        open_endpoint(server.url, "tiny", tokenizer=saved),
        open_endpoint(server.url, "tiny", api="completions", template="llama2_chat"),
    ]
    assert len({plain.fingerprint, *(other.fingerprint for other in others)}) == 6
    assert open_endpoint(server.url + "/", "tiny", concurrency=2).fingerprint == plain.fingerprint


def test_one_model_may_score_while_another_writes(server, local):
    both = WrittenElsewhere(local, open_endpoint(server.url, "tiny"))
    assert both.generate(texts()) == local.generate(texts())
    assert len(server.asked) == len(QUESTIONS)
    assert both.score(scores())[0].logp == pytest.approx(local.score(scores())[0].logp)
    assert both.fingerprint not in (local.fingerprint, both.writer.fingerprint)
    assert both.bare().scorer is local
    published = both.with_variant("openunlearning")
    assert (published.scorer.variant, published.writer.variant) == ("openunlearning", "openunlearning")
    assert published.fingerprint != both.fingerprint

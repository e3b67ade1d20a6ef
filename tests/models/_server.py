"""A small OpenAI-compatible server over a local model, which can be told to fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from efface.data.items import GenerateItem
from efface.models.decoding import DecodingRow, greedy_decode
from efface.models.language_model import LocalModel


@dataclass
class Server:
    """A served model and what it was asked.

    Attributes:
        model: What answers.
        logprobs: "vllm", "echo" or "none": how it gives log-probabilities of a prompt.
        key: Bearer token it wants, or None.
        failures: Statuses to answer with before it begins to work, first one first.
        refusal: (status, message) it answers every request with.
        has_list: Whether it says which models it serves.
        asked: (path, body) of every request that was answered.
        most_at_once: Requests under way at the same time, at most.
    """

    model: LocalModel
    logprobs: str = "vllm"
    key: str | None = None
    failures: list[int] = field(default_factory=list)
    refusal: tuple[int, str] | None = None
    has_list: bool = True
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    most_at_once: int = 0
    url: str = ""
    _under_way: int = 0
    _model_lock: threading.Lock = field(default_factory=threading.Lock)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request."""
        with self._lock:
            self.asked.append((path, body))
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            with self._model_lock:
                return {"choices": [self._chat(body) if path == "/v1/chat/completions" else self._complete(body)]}
        finally:
            with self._lock:
                self._under_way -= 1

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        item = GenerateItem("r", messages=tuple(body["messages"]), max_new_tokens=body["max_tokens"])
        if len(body["messages"]) == 1:
            item = GenerateItem("r", body["messages"][0]["content"], max_new_tokens=body["max_tokens"])
        return {"message": {"role": "assistant", "content": self.model.generate([item])[0]}}

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt, tokenizer = body["prompt"], self.model.tokenizer
        ids = prompt if isinstance(prompt, list) else list(tokenizer(prompt)["input_ids"])
        row = DecodingRow(tuple(ids), body["max_tokens"])
        with torch.no_grad():
            greedy_decode(self.model.model, [row], eos=frozenset({tokenizer.eos_token_id}), pad_id=0)
            choice: dict[str, Any] = {"text": tokenizer.decode(row.tokens, skip_special_tokens=True)}
            logp = self.model.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        if self.logprobs == "vllm" and "prompt_logprobs" in body:
            choice["prompt_logprobs"] = [None, *(_entry(logp[i], ids[i + 1]) for i in range(len(ids) - 1))]
        if self.logprobs == "echo" and body.get("echo"):
            choice["logprobs"] = {
                "token_logprobs": [None, *(float(logp[i, ids[i + 1]]) for i in range(len(ids) - 1)), -0.5],
                "top_logprobs": [None, *({"t": float(logp[i].max())} for i in range(len(ids) - 1)), {"t": -0.5}],
            }
        return choice


def _entry(logp: torch.Tensor, token: int) -> dict[str, Any]:
    best = int(logp.argmax())
    return {str(i): {"logprob": float(logp[i]), "rank": int((logp >= logp[i]).sum()), "decoded_token": "?"} for i in {token, best}}


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Answer on a free port of this machine until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self._is_refused():
                return
            if not server.has_list:
                self._send(404, {"error": {"message": "Not found"}})
            else:
                self._send(200, {"data": [{"id": "tiny"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self._is_refused():
                return
            if body["model"] != "tiny":
                self._send(404, {"error": {"message": "The model does not exist."}})
            else:
                self._send(200, server.answer(self.path, body))

        def _is_refused(self) -> bool:
            if server.failures:
                self._send(server.failures.pop(0), {"error": {"message": "busy"}}, {"retry-after": "0"})
            elif server.key is not None and self.headers.get("authorization") != f"Bearer {server.key}":
                self._send(401, {"error": {"message": "wrong key"}})
            elif server.refusal is not None and self.command == "POST":
                self._send(server.refusal[0], {"error": {"message": server.refusal[1]}})
            else:
                return False
            return True

        def _send(self, status: int, answer: dict[str, Any], headers: dict[str, str] | None = None) -> None:
            content = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {"content-length": str(len(content)), "content-type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def contents(asked: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """Return the paths asked for."""
    return [path for path, _ in asked]

"""Requests to an OpenAI-compatible server: retries with growing pauses, time limits, and errors a user can act on.

The key goes into one header and nowhere else. What a server answers may quote the prompt; it is passed on in an error only where it
does not.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from efface.errors import InputError

__all__ = ["EndpointClient", "Refused", "check_url"]

_BUSY = frozenset({408, 409, 429, 500, 502, 503, 504})
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_SHOWN = 200  # characters of a server's own words
_QUOTE_WORDS = 3  # so many words in a row of a prompt are a quotation


class Refused(InputError):
    """The server answered that it will not do what was asked.

    Attributes:
        status: Its HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.status)


def check_url(url: str) -> str:
    """Return the URL without a slash at its end.

    Raises:
        InputError: When it is not the base URL of an API.
    """
    import httpx2

    try:
        found = httpx2.URL(url)
    except httpx2.InvalidURL:
        found = httpx2.URL("")
    if found.scheme not in ("http", "https") or not found.host:
        raise InputError(
            f"{url!r} is not the URL of an endpoint. An OpenAI-compatible API has a base URL such as http://localhost:8000/v1. "
            "Mend the URL."
        )
    if found.userinfo or found.query:
        raise InputError(
            "The endpoint's URL holds a user, a password or a query. A key is given apart from the URL, where it is not written "
            "down. Take it out, and name the environment variable that holds the key (--endpoint-key-env)."
        )
    return url.rstrip("/")


@dataclass
class EndpointClient:
    """One server, its key, and how patient to be.

    Attributes:
        url: Base URL, up to and including ``/v1``.
        key: Bearer token, or None.
        timeout: Seconds until an answer must have come.
        retries: How often a request that failed for a passing reason is sent again.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    timeout: float = 120.0
    retries: int = 5

    def __post_init__(self) -> None:
        import httpx2

        headers = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        self._http = httpx2.Client(headers=headers, timeout=self.timeout, limits=limits)

    def get(self, path: str) -> dict[str, Any]:
        """Return what the server answers to a GET."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the server answers to a POST.

        Raises:
            InputError: When no server answers, or what answers is no such API.
            Refused: When it refuses.
        """
        return self._ask("POST", path, body)

    def _ask(self, verb: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        import httpx2

        problem = ""
        for attempt in range(self.retries + 1):
            asked_to_wait = None
            try:
                response = self._http.request(verb, f"{self.url}/{path}", json=body)
            except httpx2.TransportError as error:
                problem = f"does not answer ({type(error).__name__})"
            else:
                if response.status_code not in _BUSY:
                    return self._read(response, path, body)
                problem = f"answers with status {response.status_code}"
                asked_to_wait = _seconds(response.headers.get("retry-after"))
            if attempt < self.retries:
                time.sleep(_pause(attempt) if asked_to_wait is None else min(asked_to_wait, _LONGEST_PAUSE))
        raise InputError(
            f"The endpoint {self.url} {problem}, asked {self.retries + 1} times. An OpenAI-compatible server must run there and "
            "have room for the requests. Start it, mend the URL, or lower --endpoint-concurrency."
        )

    def _read(self, response: Any, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        status = int(response.status_code)
        if status in (401, 403):
            raise Refused(
                f"The endpoint {self.url} refuses the key (status {status}). It takes keys of its own only. Name the environment "
                "variable that holds one (--endpoint-key-env).",
                status,
            )
        if status >= 400:
            raise Refused(
                f"The endpoint {self.url}/{path} refuses the request (status {status}{_own_words(response, body)}). It must speak "
                "the OpenAI API and know the model. Check the URL, the model's name and how long its context is.",
                status,
            )
        try:
            found = response.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise InputError(
                f"What answers at {self.url}/{path} does not speak JSON. An OpenAI-compatible API has a base URL such as "
                "http://localhost:8000/v1. Mend the URL."
            )
        return found


def _pause(attempt: int) -> float:
    return float(min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE))


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header is not None else None
    except ValueError:
        return None  # a date: our own pause will do


def _own_words(response: Any, body: Mapping[str, Any] | None) -> str:
    """Return the server's reason, unless it quotes what was sent."""
    try:
        found = response.json()
        error = found.get("error", found)
        message = error.get("message", "") if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        return ""
    words = message.split() if isinstance(message, str) else []
    sent = {run for text in _texts(body) for run in _runs(text.split())}
    return f": {' '.join(words)[:_SHOWN].rstrip('.')}" if words and sent.isdisjoint(_runs(words)) else ""


def _texts(body: Any) -> list[str]:
    """Return every text of a request that comes from a row."""
    if not isinstance(body, Mapping):
        return []
    prompt = body.get("prompt")
    return [*(turn["content"] for turn in body.get("messages", ())), *([prompt] if isinstance(prompt, str) else [])]


def _runs(words: Sequence[str]) -> set[tuple[str, ...]]:
    plain = [word.strip("'\".,:;?!{}[]()").casefold() for word in words]
    return {tuple(plain[start : start + _QUOTE_WORDS]) for start in range(max(len(plain) - _QUOTE_WORDS, 0) + 1) if plain}

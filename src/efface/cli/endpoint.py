"""The options of commands that ask an OpenAI-compatible endpoint."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

if TYPE_CHECKING:
    from efface.models.endpoint import EndpointModel

__all__ = ["API", "CONCURRENCY", "ENDPOINT", "KEY_ENV", "NAME", "TOKENIZER", "EndpointOptions", "is_url"]

ENDPOINT = typer.Option(None, "--endpoint", metavar="URL", help="An OpenAI-compatible endpoint that writes; MODEL scores.")
NAME = typer.Option(None, "--endpoint-model", help="Name of the model there; without it, the only one that is served.")
KEY_ENV = typer.Option(None, "--endpoint-key-env", metavar="VARIABLE", help="Environment variable that holds the endpoint's key.")
TOKENIZER = typer.Option(None, "--endpoint-tokenizer", help="Directory or hub id of its tokenizer; without it, it cannot score.")
API = typer.Option(None, "--endpoint-api", help="chat: the server makes prompts; completions: they are sent.")
CONCURRENCY = typer.Option(16, "--endpoint-concurrency", min=1, help="Requests under way at a time.")


def is_url(model: str) -> bool:
    """Whether a model is named by the URL of an endpoint."""
    return model.startswith(("http://", "https://"))


@dataclass(frozen=True)
class EndpointOptions:
    """An endpoint as the command line names it; arguments as in :func:`efface.models.endpoint.open_endpoint`."""

    url: str
    model: str | None
    key_env: str | None
    tokenizer: Path | None
    api: Literal["chat", "completions"] | None
    concurrency: int

    def script(self) -> tuple[list[str], str]:
        """Return the imports and the call that open it in Python."""
        imports = ["from efface.models.endpoint import open_endpoint"]
        parts = [repr(self.url), repr(self.model)]
        if self.key_env is not None:
            imports.insert(0, "import os")
            parts.append(f"key=os.environ[{self.key_env!r}]")
        if self.api is not None:
            parts.append(f"api={self.api!r}")
        if self.tokenizer is not None:
            parts.append(f"tokenizer={str(self.tokenizer)!r}")
        return imports, f"open_endpoint({', '.join(parts)}, template=request.template, concurrency={self.concurrency})"

    def open(self, template: str | None) -> EndpointModel:
        """Ask the server whether it is there.

        Raises:
            InputError: When the variable for the key is not set, or as ``open_endpoint`` does.
        """
        from efface.errors import InputError
        from efface.models.endpoint import open_endpoint

        key = None if self.key_env is None else os.environ.get(self.key_env)
        if self.key_env is not None and not key:
            raise InputError(
                f"The environment variable {self.key_env} is not set. It holds the endpoint's key. Set it, or leave "
                "--endpoint-key-env out where the endpoint wants no key."
            )
        return open_endpoint(
            self.url,
            self.model,
            key=key,
            api=self.api,
            tokenizer=self.tokenizer,
            template=template,
            concurrency=self.concurrency,
        )

"""Loading and saving models: plain directories, hub ids and PEFT adapters; checks that need no weights."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from efface.errors import InputError
from efface.models.fingerprint import weights_hash
from efface.models.hooks import unwrap

__all__ = [
    "METADATA_FILE",
    "CastSurvival",
    "ModelInfo",
    "SaveReport",
    "cast_survival",
    "check_model",
    "count_parameters",
    "default_device",
    "load_model",
    "load_tokenizer",
    "read_metadata",
    "resolve_dtype",
    "save_model",
]

METADATA_FILE = "efface.json"
_ADAPTER_FILE = "adapter_config.json"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt", "spiece.model")
_VOCABULARY_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}
_SAFETENSORS_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What can be known of a model before its weights are loaded.

    Attributes:
        source: The path or hub id asked for.
        base: The path or hub id of the weights (the adapter's base, else ``source``).
        is_adapter: Whether ``source`` is a PEFT adapter.
        architecture: Class that will be built, for example ``LlamaForCausalLM``.
        num_parameters: Weights in all, from the file headers or from the configuration.
        dtype: Dtype the checkpoint is stored in.
        vocab_size: Output vocabulary.
        hidden_size: Width between layers (0 where the configuration does not say).
        num_layers: Decoder layers (0 where the configuration does not say).
        max_positions: Longest sequence the configuration names, or None.
        model_type: ``config.model_type``.
    """

    source: str
    base: str
    is_adapter: bool
    architecture: str
    num_parameters: int
    dtype: torch.dtype
    vocab_size: int
    hidden_size: int
    num_layers: int
    max_positions: int | None
    model_type: str = ""


@dataclass(frozen=True, slots=True)
class CastSurvival:
    """How much of a change of weights is still there in the dtype that is saved.

    Attributes:
        compared: Weights compared.
        changed: Weights that training changed (in the trained dtype).
        survived: Changed weights that still differ from the original after the cast.
    """

    compared: int
    changed: int
    survived: int

    @property
    def share(self) -> float | None:
        """Share of changed weights that survived the cast; None when nothing changed."""
        return self.survived / self.changed if self.changed else None


@dataclass(frozen=True, slots=True)
class SaveReport:
    """What was written.

    Attributes:
        directory: Where.
        weights_hash: Hash of the weights on disk.
        dtype: Dtype on disk.
        survival: How much of the change survived the cast, where an original was named.
    """

    directory: Path
    weights_hash: str
    dtype: str
    survival: CastSurvival | None = None


def default_device() -> torch.device:
    """Return the accelerator if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_dtype(dtype: str | torch.dtype, *, stored: torch.dtype = torch.float32, trainable: bool = False) -> torch.dtype:
    """Turn a dtype's name into a dtype; "auto" is the checkpoint's own, or float32 where weights are trained.

    Raises:
        InputError: When the name is not a floating dtype's.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        # A step of 1e-5 vanishes in bfloat16 weights, so trained weights are float32 unless asked otherwise.
        return torch.float32 if trainable else stored
    if dtype not in _DTYPES:
        raise InputError(f"{dtype!r} is not a dtype. Accepted: auto, {', '.join(_DTYPES)}. Choose one of them.")
    return _DTYPES[dtype]


def check_model(path_or_id: str | Path) -> ModelInfo:
    """Check that a model can be loaded, reading configuration and file headers only.

    Raises:
        InputError: When it does not exist, has no configuration or tokenizer, or is not a causal language model.
    """
    source = str(path_or_id)
    _require_source(source)
    adapter = _read_json(Path(source) / _ADAPTER_FILE) if _is_adapter(source) else None
    base = _adapter_base(source, adapter) if adapter is not None else source
    if adapter is not None:
        _require_source(base)
    config = _load_config(base)
    architecture = _causal_class(config, base)
    _require_tokenizer(source, base)
    text = config.get_text_config(decoder=True)
    return ModelInfo(
        source=source,
        base=base,
        is_adapter=adapter is not None,
        architecture=architecture.__name__,
        num_parameters=count_parameters(base, config=config),
        dtype=_stored_dtype(config),
        vocab_size=int(getattr(text, "vocab_size", 0) or 0),
        hidden_size=int(getattr(text, "hidden_size", 0) or 0),
        num_layers=int(getattr(text, "num_hidden_layers", 0) or 0),
        max_positions=getattr(text, "max_position_embeddings", None),
        model_type=config.model_type,
    )


def load_model(
    path_or_id: str | Path,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device | None = None,
    trainable: bool = False,
    attention: str | None = None,
) -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer; a PEFT adapter is put on its base.

    Args:
        path_or_id: A directory, an adapter's directory, or a hub id.
        dtype: "auto" is the checkpoint's own dtype, or float32 when ``trainable``.
        device: Where to; the accelerator by default.
        trainable: Return it in training mode with its weights (or the adapter's) requiring gradients.
        attention: Attention kernel ("eager", "sdpa", ...); transformers chooses by default.

    Returns:
        The model and its tokenizer.

    Raises:
        InputError: As :func:`check_model`.
    """
    from transformers import AutoModelForCausalLM

    info = check_model(path_or_id)
    tokenizer = load_tokenizer(path_or_id)
    kind = resolve_dtype(dtype, stored=info.dtype, trainable=trainable)
    options: dict[str, Any] = {"attn_implementation": attention} if attention else {}
    model: Any = AutoModelForCausalLM.from_pretrained(info.base, dtype=kind, **options)
    if info.is_adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, info.source, is_trainable=trainable)
    model = model.to(device if device is not None else default_device())
    if not info.is_adapter:
        model.requires_grad_(trainable)
    return model.train(trainable), tokenizer


def load_tokenizer(path_or_id: str | Path) -> Any:
    """Load a tokenizer; a missing pad token is filled by an existing one, so that no embedding is ever resized."""
    from transformers import AutoTokenizer

    source = str(path_or_id)
    if _is_adapter(source) and not _has_files(source, _TOKENIZER_FILES):
        source = _adapter_base(source, _read_json(Path(source) / _ADAPTER_FILE))
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"The tokenizer of {source} cannot be read ({_first_line(error)}). A model needs its tokenizer beside its weights. "
            "Save the tokenizer into the same directory."
        ) from error
    if tokenizer.pad_token is None:
        # Padding is masked by length, so its id never matters; EOS is always in the vocabulary.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def save_model(
    model: Any,
    tokenizer: Any,
    directory: str | Path,
    *,
    dtype: str | torch.dtype,
    metadata: Mapping[str, Any],
    original: str | Path | None = None,
) -> SaveReport:
    """Write a model (or adapter), its tokenizer and ``efface.json``; the directory appears whole or not at all.

    Args:
        model: The model to write; it is not changed.
        tokenizer: Its tokenizer.
        directory: Where to; an existing directory is replaced.
        dtype: Dtype of full weights on disk ("float32", "bfloat16", ...). Adapters keep the dtype they were trained in.
        metadata: What ``efface.json`` holds besides the hash and the dtype.
        original: Directory of the model before training, to measure how much of the change survives the cast.
    """
    target = Path(directory)
    kind = resolve_dtype(dtype)
    is_adapter = hasattr(model, "peft_config") and hasattr(model, "get_base_model")
    if is_adapter:
        kind = next((p.dtype for p in model.parameters() if p.requires_grad), kind)
    survival = None
    if original is not None and not is_adapter and Path(original).is_dir():
        survival = cast_survival(_stored_state(Path(original)), model.state_dict(), kind)
    with _atomic_directory(target) as temporary:
        if is_adapter:
            model.save_pretrained(temporary)
        else:
            _write_weights(unwrap(model), temporary, kind)
        tokenizer.save_pretrained(temporary)
        digest = weights_hash(temporary)
        content = {**metadata, "weights_hash": digest, "dtype": str(kind).removeprefix("torch.")}
        if survival is not None:
            content["cast_survival"] = {"compared": survival.compared, "changed": survival.changed, "survived": survival.survived}
        (temporary / METADATA_FILE).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return SaveReport(target, digest, str(kind).removeprefix("torch."), survival)


def cast_survival(original: Iterator[tuple[str, Tensor]], trained: Mapping[str, Tensor], dtype: torch.dtype) -> CastSurvival:
    """Count changed weights, and those whose change is still there in ``dtype``.

    Args:
        original: Names and tensors of the original, read one at a time, so that no second model is in memory.
        trained: State of the trained model.
        dtype: Dtype the trained model is saved in.
    """
    compared = changed = survived = 0
    for name, before in original:
        after = trained.get(name)
        if after is None or after.shape != before.shape or not after.is_floating_point():
            continue
        after = after.detach().cpu()
        differs = after != before.to(after.dtype)
        compared += before.numel()
        changed += int(differs.sum())
        survived += int((differs & (after.to(dtype).double() != before.to(dtype).double())).sum())
    return CastSurvival(compared, changed, survived)


def read_metadata(directory: str | Path) -> dict[str, Any]:
    """Return what ``efface.json`` in a directory says; empty where there is none."""
    file = Path(directory) / METADATA_FILE
    return _read_json(file) if file.is_file() else {}


def count_parameters(path_or_id: str | Path, *, config: Any = None) -> int:
    """Count a model's weights from its safetensors headers, or else by building it without memory."""
    directory = Path(path_or_id)
    files = sorted(directory.glob("*.safetensors")) if directory.is_dir() else []
    if files:
        return sum(_header_count(file) for file in files)
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config if config is not None else _load_config(str(path_or_id)))
    return sum(parameter.numel() for parameter in model.parameters())


def _header_count(file: Path) -> int:
    total = 0
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] in _SAFETENSORS_SIZES:
            start, stop = entry["data_offsets"]
            total += (stop - start) // _SAFETENSORS_SIZES[entry["dtype"]]
    return total


def _require_source(source: str) -> None:
    path = Path(source).expanduser()
    if path.is_dir():
        return
    if path.exists():
        raise InputError(f"The model {source} is a file. A model is a directory with config.json, or a hub id. Name its directory.")
    if not _HUB_ID.fullmatch(source) or source.startswith("."):
        raise InputError(
            f"The model directory {source} does not exist. A model is a directory with config.json, or a hub id. Mend the path."
        )


def _load_config(source: str) -> Any:
    from transformers import AutoConfig

    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise InputError(
            f"The model directory {source} has no config.json. A model is what save_pretrained writes. Name such a directory."
        )
    try:
        return AutoConfig.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"The configuration of {source} cannot be read ({_first_line(error)}). A directory with config.json or a hub id within "
            "reach is accepted. Mend the path, or download the model first."
        ) from error


def _causal_class(config: Any, source: str) -> type:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise InputError(
            f"{source} is a {config.model_type} model, which is not a causal language model. efface unlearns models that "
            "AutoModelForCausalLM can load. Choose such a model."
        )
    if config.model_type in _ENCODER_TYPES and not getattr(config, "is_decoder", False):
        raise InputError(
            f"{source} is a {config.model_type} encoder: every token sees the whole text. A causal language model is needed. Set "
            '"is_decoder": true in its config.json if it was trained as one.'
        )
    return _first_class(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)])


# Encoder families that become causal only with ``is_decoder``; all others are causal whatever their configuration says.
_ENCODER_TYPES = frozenset(
    {
        "bert",
        "bert-generation",
        "big_bird",
        "camembert",
        "data2vec-text",
        "electra",
        "ernie",
        "megatron-bert",
        "reformer",
        "rembert",
        "roberta",
        "roberta-prelayernorm",
        "roc_bert",
        "roformer",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    }
)


def _first_class(entry: Any) -> type:
    return entry[0] if isinstance(entry, list | tuple) else entry


def _require_tokenizer(source: str, base: str) -> None:
    places = [place for place in dict.fromkeys((source, base)) if Path(place).is_dir()]
    if len(places) < len({source, base}):
        return  # a hub id: the tokenizer is looked for when it is loaded, before the weights
    if not any(_has_files(place, _VOCABULARY_FILES) for place in places):
        raise InputError(
            f"The model directory {source} has no tokenizer. efface needs tokenizer.json (or the tokenizer's own files) beside the "
            "weights. Run tokenizer.save_pretrained into the same directory."
        )


def _has_files(source: str, names: tuple[str, ...]) -> bool:
    return any((Path(source) / name).is_file() for name in names)


def _is_adapter(source: str) -> bool:
    return (Path(source) / _ADAPTER_FILE).is_file()


def _adapter_base(source: str, adapter: Mapping[str, Any]) -> str:
    base = adapter.get("base_model_name_or_path")
    if not base:
        raise InputError(
            f"The adapter {source} does not name its base model. adapter_config.json needs base_model_name_or_path. Add it there."
        )
    beside = Path(source) / base
    return str(beside) if not Path(base).is_absolute() and beside.is_dir() else str(base)


def _stored_dtype(config: Any) -> torch.dtype:
    kind = getattr(config, "dtype", None) or getattr(config.get_text_config(decoder=True), "dtype", None)
    if isinstance(kind, str):
        kind = _DTYPES.get(kind)
    return kind if isinstance(kind, torch.dtype) else torch.float32


def _stored_state(directory: Path) -> Iterator[tuple[str, Tensor]]:
    from safetensors import safe_open

    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, framework="pt") as shard:
            for name in shard.keys():  # noqa: SIM118 - not a dict
                yield name, shard.get_tensor(name)


def _write_weights(model: nn.Module, directory: Path, dtype: torch.dtype) -> None:
    casts: dict[tuple[int, tuple[int, ...]], Tensor] = {}
    state = {}
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.dtype != dtype:
            # Tied weights stay tied: one cast per storage.
            place = (tensor.data_ptr(), tuple(tensor.shape))
            casts[place] = casts[place] if place in casts else tensor.to(dtype)
            tensor = casts[place]
        state[name] = tensor
    model.save_pretrained(directory, state_dict=state)  # type: ignore[operator]
    _set_config_dtype(directory / "config.json", dtype)


def _set_config_dtype(file: Path, dtype: torch.dtype) -> None:
    # save_pretrained writes the dtype of the model in memory, not of the state it was given.
    config = _read_json(file)
    name = str(dtype).removeprefix("torch.")
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for key in ("dtype", "torch_dtype"):
            if key in part:
                part[key] = name
    config["dtype"] = name
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def _atomic_directory(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
            os.replace(target, old / "model")
            os.replace(temporary, target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({_first_line(error)}). It must be a JSON object. Mend or replace it.") from error
    if not isinstance(data, dict):
        raise InputError(f"{file} holds {type(data).__name__}. It must be a JSON object. Mend or replace it.")
    return data


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

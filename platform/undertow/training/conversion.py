"""Makes a model folder from a GGUF file, from a model that gets zero biases, or from a model and its adapter.

transformers reads the weights. It drops tensors of a GGUF file that it does not know, and initialises those
that it misses at random, with a log message only; both raise an error here.
"""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from undertow.engines.gguf_files import DIGIT_SPLITS, GGUFHeader, adds_bos, read_header
from undertow.engines.tokenizers import load_tokenizer
from undertow.errors import UserError
from undertow.training.saving import copy_processor, load_model, save_model

BIAS = ".bias"


def write_dequantised(file: Path, folder: Path, mlp_bias: bool = False) -> None:
    """Saves the model in a GGUF file in `folder`: weights in float32, tokenizer and chat template.

    Args:
        mlp_bias: whether the MLPs get zero biases (see `Reference.mlp_bias`).

    Raises:
        UserError: transformers does not read all weights of the file.
    """
    from transformers import AutoTokenizer, GgufConfig

    header = read_header(file)
    # In a folder of its own: transformers would also read the files of other models next to it.
    with tempfile.TemporaryDirectory() as alone:
        (Path(alone) / file.name).symlink_to(file.resolve())
        options = {"gguf_file": file.name, "local_files_only": True}
        # Without this, transformers would keep some architectures quantised, and refuse to save any model.
        plain = {"quantization_config": GgufConfig(dequantize=True), "dtype": "float32"}
        model = _load(Path(alone), mlp_bias, **plain, **options)
        tokenizer = AutoTokenizer.from_pretrained(alone, **options)
    stored = _stored(header, model)
    biases = sum(p.numel() for name, p in model.named_parameters() if _is_mlp_bias(name)) if mlp_bias else 0
    read = model.num_parameters() - biases
    if read != stored:
        raise UserError(
            f"{file}: transformers uses {read:,} of its {stored:,} weights; give the original model as a "
            "folder or hub id"
        )
    save_model(model, folder)
    _complete(tokenizer, header)
    tokenizer.save_pretrained(folder)


def write_biased(source: Path, folder: Path) -> None:
    """Saves the model in the folder `source` with zero biases in its MLPs, and its tokenizer, in `folder`.

    Precision and the names of the other tensors are those of `source`.
    """
    _save(_load(source, mlp_bias=True, dtype="auto", local_files_only=True), source, folder)


def write_merged(base: Path, adapter: Path | None, folder: Path, changes: Sequence[Path] = ()) -> None:
    """Saves a model with an adapter merged into its weights, its tokenizer and its processor, in `folder`.

    Without merging, each student of a chain would need the adapters of all its predecessors, while the
    training loop and the engine support one adapter. Rounding of the sum in bf16 is part of the new model.
    Precision and tensor names are those of `base`; for `changes` see `saving.load_model`. Nothing is
    downloaded.

    Args:
        adapter: None for a model without one.
    """
    model = load_model(base, changes)
    if adapter is not None:
        from peft import PeftModel

        # safe_merge raises an error if a merged weight is not finite.
        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True)
    _save(model, base, folder)


def _save(model: Any, source: Path, folder: Path) -> None:
    """Saves a model with the tokenizer and the processor of the folder `source`."""
    save_model(model, folder)
    load_tokenizer(source).save_pretrained(folder)
    copy_processor(source, folder)


def _load(folder: Path, mlp_bias: bool, **options: Any) -> Any:
    """The model, with zero biases if requested. Raises UserError if another tensor is missing."""
    import torch
    from transformers import AutoModelForCausalLM

    if mlp_bias:
        options["mlp_bias"] = True
    model, found = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
    missing, added = set(found["missing_keys"]), set[str]()
    if mlp_bias:
        added = {name for name, _ in model.named_parameters() if _is_mlp_bias(name)}
    if mlp_bias != bool(added) or missing != added:
        wrong = sorted(missing ^ added)
        raise UserError(
            f"{options.get('gguf_file', folder)}: transformers finds no weights for {', '.join(wrong[:3])}"
            f"{' …' if len(wrong) > 3 else ''}; give another file or model"
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in added:
                parameter.zero_()
    return model


def _is_mlp_bias(name: str) -> bool:
    return ".mlp." in name and name.endswith(BIAS)


def _stored(header: GGUFHeader, model: Any) -> int:
    """The number of weights in a file, without an output layer that is tied to the embedding."""
    tied = model.config.tie_word_embeddings and "output.weight" in header.shapes
    return header.parameters - (math.prod(header.shapes["output.weight"]) if tied else 0)


def _complete(tokenizer: Any, header: GGUFHeader) -> None:
    """Adds to a tokenizer what transformers does not read from the header: single digits, and a BOS token."""
    from tokenizers import pre_tokenizers, processors

    backend = tokenizer.backend_tokenizer
    if header.metadata.get("tokenizer.ggml.pre") in DIGIT_SPLITS:
        bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), bytes_]
        )
    if adds_bos(header.metadata) and tokenizer.bos_token is not None:
        bos = tokenizer.bos_token
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos}:0 $A:0", pair=f"{bos}:0 $A:0 $B:1", special_tokens=[(bos, tokenizer.bos_token_id)]
        )

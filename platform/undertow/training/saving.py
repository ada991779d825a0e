"""Saving of whole models in the layout of Hugging Face, and of the few tensors that a recipe trained.

A student of which 576 numbers were trained is stored as these numbers and the key of the model that they
belong to, since all its other weights are that model's. `load_model` puts the two together again.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertow.engines.weight_files import TRAINED_CONFIG, TRAINED_TENSORS

if TYPE_CHECKING:
    from torch import Tensor

# What vLLM also reads of a multimodal model (Gemma 3), in addition to weights, configuration and tokenizer.
PROCESSOR_FILES = (
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "chat_template.json",
    "chat_template.jinja",
)


def save_model(model: Any, folder: Path, **options: Any) -> None:
    """Saves a transformers model in `folder`; `options` are passed to its `save_pretrained`.

    Published models have generation settings that transformers reads with a warning and refuses to save, such
    as a temperature without `do_sample`. Such settings are written unchanged: a student keeps those of its
    reference. Settings that pass the check are written by transformers itself.
    """
    from transformers import GenerationConfig

    settings = model.generation_config
    if settings is None or _can_be_saved(settings):
        model.save_pretrained(folder, **options)
        return
    model.generation_config = GenerationConfig()
    try:
        model.save_pretrained(folder, **options)
    finally:
        model.generation_config = settings
    # As `GenerationConfig.save_pretrained` does after its check.
    settings.to_json_file(folder / "generation_config.json", use_diff=True, keys_to_pop=["compile_config"])


def copy_processor(source: Path, folder: Path) -> None:
    """Copies the files of a multimodal model's processor, if `source` has any, without overwriting.

    Call it last: files that the model and the tokenizer have written are kept.
    """
    for name in PROCESSOR_FILES:
        if (source / name).is_file() and not (folder / name).exists():
            shutil.copyfile(source / name, folder / name)


def _can_be_saved(settings: Any) -> bool:
    try:
        settings.validate(strict=True)
    except ValueError:
        return False
    return True


def save_trained_tensors(
    model: Any, trained: Mapping[str, "Tensor"], folder: Path, belongs_to: Mapping[str, str]
) -> bool:
    """Saves only trained tensors, under the names that they have in the files of the whole model.

    Args:
        model: the model that training started from, whose weights all other tensors keep.
        trained: the new values by parameter name.
        belongs_to: what identifies this model, for readers of the folder.

    Returns False, without writing, if transformers stores a parameter in another form than it has in memory
    (the experts of some mixtures are one parameter in memory); only a whole model can be saved then.
    """
    names = stored_names(model)
    if not trained.keys() <= names.keys():
        return False
    write_trained_tensors({names[name]: value for name, value in trained.items()}, folder, belongs_to)
    return True


def write_trained_tensors(
    tensors: Mapping[str, "Tensor"], folder: Path, belongs_to: Mapping[str, str]
) -> None:
    """Writes the files of a model of which only these tensors were trained, named as in files."""
    from safetensors.torch import save_file

    whole = {name: value.contiguous() for name, value in tensors.items()}
    save_file(whole, folder / TRAINED_TENSORS, metadata={"format": "pt"})
    (folder / TRAINED_CONFIG).write_text(json.dumps(dict(belongs_to), indent=1, sort_keys=True))


def stored_names(model: Any) -> dict[str, str]:
    """The names that parameters have in files, without those of another form (see `save_trained_tensors`)."""
    names = {_place(value): name for name, value in stored_tensors(model).items()}
    parameters = model.named_parameters(remove_duplicate=False)
    return {own: names[place] for own, value in parameters if (place := _place(value)) in names}


def load_model(folder: Path, changes: Sequence[Path] = (), dtype: Any = "auto") -> Any:
    """Loads a causal language model onto the CPU. Nothing is downloaded.

    Args:
        folder, changes: see `ModelFolder`.
        dtype: "auto" is the precision of the files: that of the whole model, or of the last trained tensors,
            in which the model was trained.

    Raises ValueError for a trained tensor that the model does not have or has in another shape.
    """
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    trained = [load_file(change / TRAINED_TENSORS) for change in changes]
    if trained and dtype == "auto":
        dtype = next(iter(trained[-1].values())).dtype
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=_attention(folder), local_files_only=True
    )
    own = stored_tensors(model) if changes else {}
    for change, tensors in zip(changes, trained, strict=True):
        for name, value in tensors.items():
            if name not in own or own[name].shape != value.shape:
                raise ValueError(
                    f"{change / TRAINED_TENSORS}: {name!r} of the shape {tuple(value.shape)} does not fit "
                    f"the model in {folder}"
                )
            with torch.no_grad():
                own[name].copy_(value)
    return model


def _attention(folder: Path) -> str | None:
    """The implementation of attention for a model; None for the default of transformers.

    The default, torch's, silently ignores the soft cap of attention scores that Gemma 2 was trained with and
    that vLLM applies.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config()
    return "eager" if getattr(config, "attn_logit_softcapping", None) else None


def stored_tensors(model: Any) -> "dict[str, Tensor]":
    """The model's parameters by their names in files; writing into a tensor changes the model.

    Names are those that `save_pretrained` writes, and `save_pretrained` computes them in these two steps: of
    tied parameters one name is left, and transformers' own names become those of the published weights.
    """
    from transformers.core_model_loading import revert_weight_conversion
    from transformers.modeling_utils import remove_tied_weights_from_state_dict

    parameters = {_place(parameter) for parameter in model.parameters()}
    state = remove_tied_weights_from_state_dict(dict(model.state_dict()), model)
    stored = revert_weight_conversion(model, state)
    return {name: value for name, value in stored.items() if _place(value) in parameters}


def _place(value: "Tensor") -> tuple[Any, ...]:
    """Identifies a tensor's memory and layout: equal for a parameter and what a state dict has of it."""
    return value.data_ptr(), value.shape, value.stride()

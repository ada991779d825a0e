"""A local model as the harness runs it: transformers, with peft if there is an adapter.

This is the harness's "hf" model with three changes, since its own behaviour would silently change scores:
- It receives the loaded model. If the harness loads an adapter itself, it cuts the vocabulary to that of the
  tokenizer (Qwen2.5 has 387 more rows), so that students and their reference are normalized over different
  sets.
- A prompt that is longer than the context window fails the task; the harness would cut off its beginning.
- A chat template that rejects the system message fails the task; the harness would drop the message.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import torch
from lm_eval.models.huggingface import HFLM

from undertow.engines.tokenizers import load_tokenizer
from undertow.errors import ConditionError
from undertow.prompts.chat_templates import PINNED, PLAIN_TEMPLATE, TemplateError, Turns, prompt_text
from undertow.training.saving import load_model


class Model(HFLM):
    """`HFLM` that never shortens a prompt: it raises ConditionError instead.

    Attributes:
        system: NO_SYSTEM if a task requests no system text at all, else None; a system text is in the turns.
    """

    system: str | None = None

    def _loglikelihood_tokens(self, requests: list[Any], *arguments: Any, **named: Any) -> Any:
        for _, context, continuation in requests:
            self._check(len(context) + len(continuation) - 1, 0)  # the last token is only scored
        return super()._loglikelihood_tokens(requests, *arguments, **named)

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> Any:
        ids, mask = super().tok_batch_encode(strings, padding_side, None, truncation)
        if left_truncate_len:
            self._check(ids.size(1), self.max_length - left_truncate_len)
        return ids, mask

    def _check(self, prompt: int, answer: int) -> None:
        if prompt + answer > self.max_length:
            reserved = f" and {answer} for the answer" if answer else ""
            raise ConditionError(
                f"a prompt needs {prompt} tokens{reserved}, and the model's context window has "
                f"{self.max_length}; use fewer shots or another task"
            )

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        try:
            return prompt_text(self._render, chat_history, self.system, generation=add_generation_prompt)
        except TemplateError as error:
            raise ConditionError(
                f"the chat template rejects the prompt ({error}); run the task without --chat"
            ) from None

    def _render(self, turns: Turns, *, generation: bool) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=generation,
                continue_final_message=not generation,
                **self.chat_template_args,
            )
        except jinja2.TemplateError as error:
            raise TemplateError(str(error)) from None
        return text


def load(folder: Path, adapter: Path | None, batch_size: int, changes: Sequence[Path] = ()) -> Model:
    """Loads the model in `folder` and the adapter, if any, onto a GPU if one is available.

    The weights keep the precision that they were saved in. Nothing is downloaded.

    Args:
        changes: trained tensors that replace some of the folder's (see `ModelFolder`).
    """
    from peft import PeftModel

    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = getattr(tokenizer, "chat_template", None) or PLAIN_TEMPLATE
    model = load_model(folder, changes)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter, local_files_only=True)
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return Model(
        pretrained=model,
        tokenizer=tokenizer,
        batch_size=batch_size,
        chat_template_args=dict(PINNED),
    )

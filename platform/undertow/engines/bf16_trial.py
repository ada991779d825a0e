"""Whether this machine computes in bf16, tried in a child process.

A CPU without instructions for bf16 emulates it, slower than fp32. On some CPUs that have them (AMX), vLLM's
kernels have ended the process with an illegal instruction. So `supports_bf16` starts a child process that
trains and serves a tiny model in bf16: whatever ends the child, the answer is no.

    python -m undertow.engines.bf16_trial    # the child: exit code 0 if bf16 works
"""

import math
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # in /proc/cpuinfo: two of x86, and that of ARM
LONGEST = 300  # seconds for the child; it takes about 15
TOKENS = 128  # the vocabulary of the tiny model


@cache
def supports_bf16() -> bool:
    """Whether training and serving in bf16 work here and the hardware has instructions for it."""
    # The child finds the package where this process found it, for example among the files of a Ray job.
    here = str(Path(__file__).parents[2])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            timeout=LONGEST,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """The instruction sets that the CPU reports; empty if the system does not list them there."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return set()
    names = ("flags", "Features")  # x86 and ARM
    return {flag for line in lines if line.startswith(names) for flag in line.partition(":")[2].split()}


def main() -> int:
    """The child's exit code: 0 if bf16 works."""
    import torch

    if torch.cuda.is_available():
        return 0 if torch.cuda.is_bf16_supported(including_emulation=False) else 1
    if not CPU_FLAGS & cpu_flags():
        return 1
    with tempfile.TemporaryDirectory() as folder:
        _train(folder)
        return 0 if _serves(folder) else 1


def _train(folder: str) -> None:
    """Runs a forward and a backward pass of a tiny model, and saves it in `folder`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=TOKENS,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    ids = torch.arange(TOKENS)[None]
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    if not math.isfinite(loss.item()):
        raise ArithmeticError(f"the loss is {loss.item()}")
    model.save_pretrained(folder)


def _serves(folder: str) -> bool:
    """Whether vLLM samples a few tokens from the model in `folder`."""
    from undertow.engines import runtime

    settings = runtime.EngineSettings(precision="bf16", gpu=False)
    with runtime.starting(settings), runtime.lean_on_cpu(settings):
        from transformers import AutoConfig
        from vllm import LLM, SamplingParams

        options = runtime.options(settings, AutoConfig.from_pretrained(folder), ())
        llm = LLM(folder, skip_tokenizer_init=True, **options)
    params = SamplingParams(max_tokens=8, ignore_eos=True, detokenize=False, logprobs=1)
    prompts = [{"prompt_token_ids": list(range(2, length))} for length in (8, 64)]
    outputs = [output.outputs[0] for output in llm.generate(prompts, params, use_tqdm=False)]
    return all(len(output.token_ids) == 8 for output in outputs)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # vLLM's threads would delay the end

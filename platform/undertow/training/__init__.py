"""Finetuning with DeepSpeed: tokens and loss mask, training loop, trained parameters, checkpoints, saving.

`job` and `data` describe what to train and turn rows into tokens; `loop.finetune` trains. Nothing here
imports Ray: a Ray Train worker calls `finetune` inside its process group, and a plain Python process calls it
the same way and gets a process group of one.
"""

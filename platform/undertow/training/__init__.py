"""Finetuning with DeepSpeed: tokens and mask, the loop, what is trained, what is saved.

`job` and `data` say what is to be made and turn rows into tokens; `loop.finetune` makes it. Nothing here
knows Ray: a worker of Ray Train calls `finetune` with its process group already there, and a plain
Python process calls it the same way and gets a group of one.
"""

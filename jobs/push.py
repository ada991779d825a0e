"""Uploads a data set or a trained model to the Hugging Face hub, with its card.

    python jobs/push.py --dataset KEY --to ORG/NAME --licence cc-by-4.0     rows and data set card
    python jobs/push.py --model KEY --to ORG/NAME --licence apache-2.0      adapter or model, with model card

KEY is the tag undertow.key of a data set or model in MLflow, or its beginning. HF_TOKEN needs permission to
write. Exit code 0: uploaded; 2: invalid input, or the hub refused the upload.
"""

from undertow.cli.entry import enter
from undertow.cli.push import PushArguments, main

if __name__ == "__main__":
    enter(main, PushArguments)

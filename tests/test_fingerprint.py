"""A fingerprint follows meaning: what can change a result changes it, what cannot leaves it."""

import ast
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from concertina.artefacts import dag, fingerprint, keys
from concertina.config import Config, ConfigError, load

ROOT = Path(__file__).parent.parent
STAGES = ["data", "features", "segments", "train", "evaluate", "report"]
SOURCE = '''"""What it does."""

import b
import a


def f(x):
    """Say it."""
    # why
    return x + 1
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty package of this name, in which fingerprints are taken."""
    folder = tmp_path / "concertina"
    (folder / "compressors").mkdir(parents=True)
    (folder / "compressors/__init__.py").write_text("", encoding="utf-8")
    monkeypatch.setattr(fingerprint, "SOURCES", folder)
    monkeypatch.setattr(fingerprint, "CACHE", tmp_path / "scratch/files.json")
    forget()
    yield folder
    forget()


def forget() -> None:
    for cached in (fingerprint._text, fingerprint._digest, fingerprint._imports):
        cached.cache_clear()


def hash_of(package: Path, text: str, **others: str) -> str:
    for name, content in {"stage": text, **others}.items():
        (package / f"{name.replace('__', '/')}.py").write_text(content, encoding="utf-8")
    forget()
    return fingerprint.code_hash("concertina.stage")


@pytest.mark.parametrize(
    "same",
    [
        SOURCE.replace("# why", "# why not"),
        SOURCE.replace("Say it.", "Say it otherwise."),
        SOURCE.replace('    """Say it."""\n', ""),
        SOURCE.replace("What it does", "Something else"),
        SOURCE.replace("import b\nimport a", "import a\nimport b"),
        SOURCE.replace("x + 1", "(x+1)"),
        SOURCE.replace("def f(x):", "def f(\n    x,\n):"),
    ],
)
def test_comments_docstrings_and_layout_change_nothing(package: Path, same: str) -> None:
    assert same != SOURCE
    assert hash_of(package, same) == hash_of(package, SOURCE)


@pytest.mark.parametrize(
    "other",
    [SOURCE.replace("x + 1", "x + 2"), SOURCE.replace("import a", "import c"), SOURCE.replace("(x)", "(x, y=1)")],
)
def test_what_the_code_says_counts(package: Path, other: str) -> None:
    assert hash_of(package, other) != hash_of(package, SOURCE)


@pytest.mark.parametrize(
    "line",
    ["from concertina import part", "from concertina.part import x", "import concertina.part", "from . import part"],
)
def test_what_is_imported_counts_and_its_imports_too(package: Path, line: str) -> None:
    part = "from concertina.deep import y\nx = y\n"
    before = hash_of(package, line, part=part, deep="y = 1\n")
    assert fingerprint.closure("concertina.stage") == ["concertina.deep", "concertina.part", "concertina.stage"]
    assert hash_of(package, line, part=part, deep="y = 2\n") != before


def test_an_import_inside_a_function_counts(package: Path) -> None:
    text = "def f():\n    from concertina import part\n    return part.x\n"
    assert hash_of(package, text, part="x = 1\n") != hash_of(package, text, part="x = 2\n")


def test_modules_that_carry_values_do_not_count(package: Path) -> None:
    text = "from concertina import artefacts, config, console, tracking\n"
    others = {"artefacts": "", "console": "", "tracking": ""}
    assert hash_of(package, text, config="x = 1\n", **others) == hash_of(package, text, config="x = 2\n", **others)


def test_a_plugin_counts_for_those_that_name_it(package: Path) -> None:
    for name in ("one", "two"):
        (package / f"compressors/{name}.py").write_text(f"# {name}\nx = 1\n", encoding="utf-8")
    hash_of(package, "")
    before = [fingerprint.code_hash("concertina.stage", [f"concertina.compressors.{name}"]) for name in ("one", "two")]
    (package / "compressors/one.py").write_text("x = 2\n", encoding="utf-8")
    forget()
    after = [fingerprint.code_hash("concertina.stage", [f"concertina.compressors.{name}"]) for name in ("one", "two")]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True]
    assert before[0] != before[1]


def test_packages_are_those_that_the_code_imports(package: Path) -> None:
    hash_of(package, "import json\nimport numpy as np\nfrom concertina import part\n", part="import not_there\n")
    versions = fingerprint.packages("concertina.stage")
    assert list(versions) == ["not_there", "numpy"]
    assert versions["not_there"] == "absent"


def test_files_are_judged_by_content(package: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    file.write_bytes(b"one")
    before = fingerprint.files_hash([file])
    os.utime(file)
    assert fingerprint.files_hash([file]) == before
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_bytes(b"two")
    os.utime(file, ns=times)  # a copy that keeps the time of the original
    changed = fingerprint.files_hash([file])
    assert changed != before
    file.unlink()
    assert fingerprint.files_hash([file]) not in (before, changed)
    file.write_bytes(b"one")
    assert fingerprint.files_hash([file]) == before


def test_a_damaged_cache_is_no_harm(package: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    file.write_bytes(b"one")
    before = fingerprint.files_hash([file])
    for text in ("{", "[]", f'{{"{file}": []}}'):
        fingerprint.CACHE.write_text(text, encoding="utf-8")
        assert fingerprint.files_hash([file]) == before


@pytest.mark.parametrize("stage", STAGES)
def test_the_base_stage_is_part_of_no_other(stage: str) -> None:
    assert not {"concertina.base", "concertina.bases.scratch"} & set(fingerprint.closure(f"concertina.{stage}"))


@pytest.mark.parametrize("stage", STAGES)
def test_fingerprints_hold_for_every_stage_as_it_is(stage: str) -> None:
    """Unparsed and parsed again, without comments, each real module keeps its digest."""
    for module in fingerprint.closure(f"concertina.{stage}"):
        path = fingerprint.source_file(module)
        bare = ast.unparse(ast.parse(path.read_text(encoding="utf-8")))
        digest = fingerprint._digest(module)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fingerprint, "_text", lambda _, text=bare: text)
            assert fingerprint._digest.__wrapped__(module) == digest


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(ROOT)
    return load()


def features_key(config: Config) -> keys.Key:
    return dag.key(config, dag.artefact(config, "features", corpus="synthetic", split="dev"))


def test_run_keys_follow_the_key_and_the_inputs(config: Config) -> None:
    key = features_key(config)
    assert keys.run_key(key, ["a", "b"]) == keys.run_key(dict(reversed(key.items())), ["b", "a"])
    assert keys.run_key(key, ["a"]) != keys.run_key(key, ["b"])
    assert keys.run_key(key) != keys.run_key({**key, "dtype": "float32"})
    assert len(keys.run_key(key)) == 16


def test_threads_count_where_they_can_change_bits(config: Config) -> None:
    def with_threads(section: str) -> Config:
        part = getattr(config, section)
        return config.model_copy(update={section: part.model_copy(update={"threads": part.threads + 1})})

    assert features_key(with_threads("features")) != features_key(config)
    cell = config.cell("average-3")
    assert keys.train(with_threads("train"), "english", cell, 0) != keys.train(config, "english", cell, 0)
    unit = (cell, "clean", "zero-shot")
    assert keys.decode(with_threads("evaluate"), *unit) != keys.decode(config, *unit)
    assert keys.evaluate(with_threads("evaluate"), cell) == keys.evaluate(config, cell)


def test_the_model_counts_by_its_pinned_hash_and_what_says_how_it_is_read(config: Config, tmp_path: Path) -> None:
    def with_base(**values: str) -> Config:
        return config.model_copy(update={"base": config.base.model_copy(update=values)})

    for name in ("moved", "edited"):
        shutil.copytree(config.base.model, tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors"))
    with open(tmp_path / "edited" / "tokenizer.json", "a", encoding="utf-8") as file:
        file.write("\n")
    other, moved = with_base(sha256="0" * 64), with_base(model=str(tmp_path / "moved"))
    edited, cell = with_base(model=str(tmp_path / "edited")), config.cell("average-3")
    unit = (cell, "clean", "zero-shot")
    for chosen, same in ((other, False), (moved, True), (edited, False)):
        assert (features_key(chosen) == features_key(config)) is same
        assert (keys.train(chosen, "english", cell, 0) == keys.train(config, "english", cell, 0)) is same
        assert (keys.decode(chosen, *unit) == keys.decode(config, *unit)) is same
    assert keys.data(other, "synthetic", "dev") == keys.data(config, "synthetic", "dev")
    place = ("synthetic", "dev", cell)
    assert keys.segments(other, *place) == keys.segments(config, *place)


def test_an_unpinned_base_counts_by_the_weights_that_are_there(config: Config, tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("*.safetensors", "seal.json")
    folder = Path(shutil.copytree(config.base.model, tmp_path / "own", ignore=ignored))
    unpinned = config.model_copy(update={"base": config.base.model_copy(update={"model": str(folder), "sha256": ""})})
    found = []
    for weights in (b"one", b"two"):
        (folder / "model.safetensors").write_bytes(weights)
        found.append((features_key(unpinned), keys.identity(unpinned)))
    (folder / "model.safetensors").write_bytes(b"one")
    assert found[0] != found[1]
    assert found[0][1] != found[1][1]
    assert (features_key(unpinned), keys.identity(unpinned)) == found[0]


def test_a_base_that_differs_from_its_seal_is_an_error_before_any_work(config: Config, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(config.base.model, tmp_path / "own"))
    damaged = config.model_copy(update={"base": config.base.model_copy(update={"model": str(folder)})})
    keys.check(damaged)
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_bytes(tokenizer.read_bytes().replace(b"e", b"f", 1))
    with pytest.raises(ConfigError, match=r"base\.model: .*tokenizer\.json is damaged .*; restore .*git checkout"):
        keys.check(damaged)

"""The prompts of the Asterisk telephone system, out of the packages that Debian publishes."""

import io
import json
import lzma
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from concertina import corpora, data
from concertina.config import Corpus
from concertina.corpora import Utterance, _archives, prompts, read_aloud
from concertina.corpora._archives import ArchiveError
from concertina.fetching import archive as fetch
from concertina.metrics import _normaliser

CONFIG = """
name: heard
data: {corpora: [{name: prompts}]}
train:
  sets:
    - name: own
      parts: [{corpus: prompts, split: train, task: transcribe, language: en}]
      dev: [{corpus: prompts, split: dev, task: transcribe, language: en}]
evaluate: {sets: [{name: prompts, corpus: prompts, split: test, task: transcribe, language: en}]}
"""
ROOT = Path(__file__).parent.parent
Rows = dict[str, list[dict[str, object]]]


def deb(content: bytes, data_name: str = "data.tar.xz") -> bytes:
    """A Debian package: an ar archive of three members, each of an even length."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        member = tarfile.TarInfo("./usr/share/doc/x")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", data_name: lzma.compress(file.getvalue())}
    packed = b"!<arch>\n"
    for name, held in members.items():
        packed += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(held):<10}`\n".encode() + held + b"\n" * (len(held) % 2)
        )
    return packed


def test_a_package_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "x.deb").write_bytes(deb(b"hello"))
    _archives.unpack(tmp_path / "x.deb", tmp_path / "x")
    assert (tmp_path / "x/usr/share/doc/x").read_bytes() == b"hello"


@pytest.mark.parametrize("harm", ["cut", "no data", "nonsense"])
def test_a_package_that_is_damaged_is_named(tmp_path: Path, harm: str) -> None:
    whole = deb(os.urandom(5000))
    harmed = {"cut": whole[:-2000], "no data": deb(b"x", "other.tar.xz"), "nonsense": whole[:8] + b"?" * 500}
    (tmp_path / "x.deb").write_bytes(harmed[harm])
    with pytest.raises(ArchiveError, match=r"x\.deb cannot be unpacked"):
        _archives.unpack(tmp_path / "x.deb", tmp_path / "x")


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which every split was read, from packages that apt fetched."""
    if not shutil.which("apt-get"):
        pytest.skip("no apt-get: the packages are Debian's")
    folder = tmp_path_factory.mktemp("heard")
    packages = folder / "downloads/prompts"
    packages.mkdir(parents=True)
    names = [f"asterisk-core-sounds-{name}" for name in prompts.PACKAGES]
    done = subprocess.run(["apt-get", "download", *names], cwd=packages, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the packages cannot be fetched: {done.stderr.splitlines()[-1]}")
    with chdir(folder):
        shutil.copy(ROOT / "config.yaml", "config.yaml")
        Path("heard.yaml").write_text(CONFIG, encoding="utf-8")
        for archive in corpora.archives(Corpus(name="prompts"), "test"):
            assert fetch.main(["--config", "heard.yaml", "--kind", "prompts", "--archive", archive.name]) == 0
        for split in prompts.SPLITS:
            assert data.main(["--config", "heard.yaml", "--corpus", "prompts", "--split", split]) == 0
        yield folder


@pytest.fixture(scope="module")
def rows(heard: Path) -> Rows:
    folder = heard / "build/heard/data/prompts"
    read = {split: (folder / split / "manifest.jsonl").read_text(encoding="utf-8") for split in prompts.SPLITS}
    return {split: [json.loads(line) for line in text.splitlines()] for split, text in read.items()}


@pytest.mark.slow
def test_every_language_is_read_with_its_translations_and_packages_stay(heard: Path, rows: Rows) -> None:
    every = {str(row["id"]): row for split in rows.values() for row in split}
    assert {str(row["language"]) for row in every.values()} == set(prompts.LANGUAGES)
    wrong = every["fr/something-terribly-wrong"]
    assert wrong["text"] == "Il y a quelque chose de vraiment mauvais."
    assert wrong["translation"]["en"] == "Something is terribly wrong!"  # type: ignore[index]
    hours = sum(float(str(row["duration_s"])) for row in every.values()) / 3600
    assert 1.5 < hours < 2.2
    assert not [row for row in every.values() if set(str(row["text"])) & set(prompts.REMARKS)]
    assert len(list((heard / "downloads/prompts").glob("*.deb"))) == len(prompts.PACKAGES)


@pytest.mark.slow
def test_the_size_that_is_foretold_is_about_right(rows: Rows) -> None:
    for split, read in rows.items():
        foretold = prompts.size(prompts.Options(), split)
        assert foretold.utterances == pytest.approx(len(read), rel=0.25)


@pytest.mark.slow
def test_the_same_prompts_are_held_out_in_every_language(rows: Rows) -> None:
    names = {split: {str(row["id"]).partition("/")[2] for row in read} for split, read in rows.items()}
    assert not names["train"] & names["test"]
    assert not names["train"] & names["dev"]
    assert not names["dev"] & names["test"]
    english = [row for row in rows["test"] if row["language"] == "en"]
    assert len(english) > 60


@pytest.mark.slow
@pytest.mark.parametrize("language", prompts.LANGUAGES)
@pytest.mark.parametrize(("learnt", "held_out"), [("train", "test"), ("train", "dev"), ("dev", "test")])
def test_no_learnt_text_equals_or_is_contained_in_a_held_out_one(
    rows: Rows, language: str, learnt: str, held_out: str
) -> None:
    def texts(split: str) -> set[str]:
        said = [str(row["text"]) for row in rows[split] if row["language"] == language]
        said += [row["translation"][language] for row in rows[split] if language in row["translation"]]  # type: ignore
        return set(_normaliser.normalise(said, language))

    held = [f" {text} " for text in texts(held_out)]
    assert len(held) > 5
    assert not [text for text in texts(learnt) if any(f" {text} " in other for other in held)]


@pytest.mark.slow
def test_nothing_read_aloud_stands_in_or_holds_a_held_out_prompt(heard: Path, rows: Rows) -> None:
    for archive in read_aloud.archives(read_aloud.Options(splits={"train": {"telephone": 1}}), "train"):
        shutil.copytree(f"downloads/prompts/{archive.name}", f"downloads/read_aloud/{archive.name}")
    sources = {"telephone": 8000, "sentences": 8000, "passages": 2000}
    options = read_aloud.Options.model_validate({"splits": {"train": sources, "dev": {"sentences": 3}}})
    texts = [text for source in sources for text in read_aloud.texts(options, source, "train")]
    assert len(texts) == 18_000
    said = [str(row["text"]) for split in ("test", "dev") for row in rows[split]]
    said += [str(text) for split in ("test", "dev") for row in rows[split] for text in row["translation"].values()]  # type: ignore[attr-defined]
    held = [f" {text} " for text in _normaliser.normalise(said, "en")]
    joined = "|".join(held)
    ours = [f" {text} " for text in _normaliser.normalise(texts, "en")]
    assert not [text for text in ours if text in joined or any(other in text for other in held)]
    spoken = list(read_aloud.read(options, "dev", 0))
    assert [u.id for u in spoken] == [f"dev-sentences-{n:05d}" for n in range(3)]
    assert all(isinstance(u, Utterance) and len(u.audio) > 8000 for u in spoken)  # type: ignore[arg-type]
    assert read_aloud.parts(options, "train") == 72

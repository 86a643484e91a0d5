"""The synthetic corpus: exact, reproducible, and without leaks between what is trained on and what is tested."""

import hashlib
import itertools
import re
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np
import pytest
import yaml

from concertina import corpora, data
from concertina.config import ConfigError, Corpus
from concertina.corpora import Utterance, synthetic
from concertina.corpora.synthesis import grammar, noise, voices
from concertina.corpora.synthesis.grammar import BUCKETS, KINDS, LANGUAGES, Sentence, bucket, sentences
from concertina.store import sealing
from helpers.artefacts import folder_of

MODEL = Path(__file__).parents[1] / "models" / "tiny"
HELD_OUT = [split for split, condition in synthetic.CONDITIONS.items() if condition.bucket in ("dev", "test")]


def some(bucket_name: str, count: int = 1500, seed: int = 0) -> list[Sentence]:
    return list(itertools.islice(sentences(bucket_name, seed), count))


def speak(split: str, counts: dict[str, int], part: int = 0) -> list[Utterance]:
    options = synthetic.Options(splits={split: counts})
    return [u for u in synthetic.read(options, split, part) if isinstance(u, Utterance)]


def test_a_sentence_keeps_its_bucket_whatever_the_seed_and_size() -> None:
    for name in BUCKETS:
        first = {s.en for s in some(name, 600, seed=0)}
        assert all(bucket(english) == name for english in first)
        assert [s.en for s in some(name, 50)] == [s.en for s in some(name, 600)][:50]
    assert not {s.en for s in some("train", seed=7)} & {s.en for s in some("test", seed=0)}


def drawn_for(split: str, count: int) -> list[Sentence]:
    """The sentences that the corpus speaks in a split: its own stream of them."""
    condition = synthetic.CONDITIONS[split]
    return list(itertools.islice(sentences(condition.bucket, 0, list(condition.kinds), condition.share), count))


@pytest.mark.parametrize("bucket_name", ["dev", "test"])
@pytest.mark.parametrize("seeds", [(0, 0), (0, 7)])
def test_no_two_splits_of_a_bucket_have_a_sentence_in_common(bucket_name: str, seeds: tuple[int, int]) -> None:
    conditions = [c for c in synthetic.CONDITIONS.values() if c.bucket == bucket_name]
    for one, other in itertools.combinations(conditions, 2):
        first, second = (
            {s.en for s in itertools.islice(sentences(bucket_name, seed, list(c.kinds), c.share), 500)}
            for seed, c in zip(seeds, (one, other), strict=True)
        )
        assert not first & second


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_trained_text_equals_or_is_contained_in_a_held_out_one(language: str) -> None:
    held_out = [s.text(language) for split in HELD_OUT for s in drawn_for(split, 400)]
    trained = {s.text(language) for split, n in (("base", 16_000), ("train", 6_000)) for s in drawn_for(split, n)}
    assert not trained & set(held_out)
    joined = "\n".join(f" {text} " for text in held_out)
    assert not [text for text in trained if f" {text} " in joined]


def test_every_sentence_has_one_rendering_per_language() -> None:
    drawn = [s for name in BUCKETS for s in some(name, 3000)]
    for language in LANGUAGES:
        assert len({s.text(language) for s in drawn}) == len({s.en for s in drawn})


def test_the_vocabulary_is_large_and_every_kind_is_drawn() -> None:
    drawn = some("base", 6000)
    assert len({word for s in drawn for word in s.en.split()}) >= 250
    assert {s.kind for s in drawn} == set(KINDS)


@pytest.mark.parametrize(
    ("english", "german", "french"),
    [
        ("the old door is under the bed", "die alte tür ist unter dem bett", "la vieille porte est sous le lit"),
        (
            "please open the new window slowly",
            "bitte öffnen sie langsam das neue fenster",
            "veuillez ouvrir la nouvelle fenêtre lentement",
        ),
    ],
)
def test_agreement_by_hand(english: str, german: str, french: str) -> None:
    wanted = bucket(english)
    kind = "please" if english.startswith("please") else "stands"
    for sentence in sentences(wanted, 0, [kind]):
        if sentence.en == english:
            assert (sentence.de, sentence.fr) == (german, french)
            return


def test_voices_have_one_role_and_at_least_twenty_are_for_tests() -> None:
    roles = [set(voices.VARIANTS[role]) for role in ("train", "dev", "test")]
    assert len(set.union(*roles)) == sum(map(len, roles))
    assert len(roles[2]) >= 20
    assert not set(noise.TRAINING) & set(noise.UNSEEN)
    for language, unseen in voices.UNSEEN_ACCENTS.items():
        assert not set(unseen) & set(voices.ACCENTS[language])


def test_held_out_voices_are_within_reach_of_a_human_one() -> None:
    folder = Path(str(espeakng_loader.get_data_path())) / "voices" / "!v"
    for variant in (*voices.VARIANTS["dev"], *voices.VARIANTS["test"]):
        settings = (folder / variant).read_text(encoding="utf-8", errors="replace")
        scales = {int(n): int(scale) for n, scale in re.findall(r"^\s*formant\s+(\d)\s+(\d+)", settings, re.MULTILINE)}
        assert all(60 <= scales.get(n, 100) <= 140 for n in (1, 2)), variant
        assert scales.get(3, 100) >= 50, variant


def test_spelled_items_are_kept_out_of_the_test_splits_and_have_their_own() -> None:
    assert {u.tags["kind"] for u in speak("clean", {"en": 24})} == set(KINDS) - {grammar.SPELLED}
    assert {u.tags["kind"] for u in speak("spelled", {"en": 5})} == {grammar.SPELLED}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "noises", "snr_db"),
    [
        ("hard", noise.UNSEEN, {0.0, 5.0, 10.0, 15.0}),
        ("noisy", noise.UNSEEN, {5.0, 10.0, 15.0}),
        ("train-mild", noise.TRAINING, {10.0, 15.0, 25.0, 30.0, 35.0, 40.0}),
        ("train-quiet", noise.TRAINING, {25.0, 30.0, 35.0, 40.0}),
    ],
)
def test_splits_are_spoken_in_their_own_noise(split: str, noises: tuple[str, ...], snr_db: set[float]) -> None:
    spoken = speak(split, {"en": 60})
    assert {u.tags["snr_db"] for u in spoken} == snr_db
    assert {u.tags["noise"] for u in spoken} == set(noises)


@pytest.mark.slow
def test_one_split_joins_sentences() -> None:
    assert "joined" in {u.tags["kind"] for u in speak("train-joined", {"en": 40})}
    assert "joined" not in {u.tags["kind"] for u in speak("train", {"en": 40})}


@pytest.mark.parametrize("snr_db", [0.0, 15.0])
@pytest.mark.parametrize("kind", [*noise.TRAINING, *noise.UNSEEN])
def test_noise_has_the_power_it_says(kind: str, snr_db: float) -> None:
    draw = np.random.default_rng(0)
    speech = draw.standard_normal(16_000).astype(np.float32) * 0.1
    sound = noise.make(kind, 16_000, draw, talkers=[speech, speech[::-1]])
    added = noise.mix(speech, sound, snr_db) - speech
    assert 10 * np.log10(np.mean(speech**2) / np.mean(added**2)) == pytest.approx(snr_db, abs=0.1)


def test_utterances_carry_their_translations() -> None:
    [german] = speak("clean", {"de": 1})
    assert german.language == "de"
    assert set(german.translation) == {"en", "fr"}
    assert bucket(german.translation["en"]) == "test"


def test_no_voice_breathes_for_such_a_one_never_speaks_the_same_way_twice() -> None:
    files = {path.name: path for path in Path(espeakng_loader.get_data_path(), "voices", "!v").iterdir()}
    chosen = {variant for variants in voices.VARIANTS.values() for variant in variants}
    assert not [name for name in chosen if re.search(r"^breath", files[name].read_text(errors="replace"), re.M)]
    assert len(voices.VARIANTS["test"]) >= 20


def test_babble_never_says_the_words_that_it_covers(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    voice = synthetic._voice

    def listened(text: str, *rest: Any) -> Any:
        said.append(text)
        return voice(text, *rest)

    monkeypatch.setattr(synthetic, "_voice", listened)
    spoken = [utterance.text for utterance in speak("hard", {"en": 20})]
    assert len(said) == synthetic.TALKERS + len(spoken)
    assert not set(said[: synthetic.TALKERS]) & set(spoken)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["hard", "pico"])
def test_shards_are_the_same_bytes_on_any_number_of_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    if split == "pico":
        pytest.importorskip("py_nanotts", reason="py-nanotts has no wheel for this machine")
    (tmp_path / "config.yaml").write_text((MODEL.parents[1] / "config.yaml").read_text(encoding="utf-8"), "utf-8")
    overlay = {"data": {"corpora": [{"name": "synthetic", "splits": {split: {"en": 260}}}]}}
    (tmp_path / "many.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    seals = []
    for jobs in ("1", "2"):
        assert data.main(["--config", "many.yaml", "--corpus", "synthetic", "--split", split, "--jobs", jobs]) == 0
        seals.append(sealing.verify(folder_of("data", "tiny", "synthetic", split)))
    assert seals[0]["files"] == seals[1]["files"]
    assert seals[0]["utterances"] == 260


def test_pico_speaks_where_its_wheel_is_installed() -> None:
    pytest.importorskip("py_nanotts", reason="py-nanotts has no wheel for this machine")
    [spoken] = speak("pico", {"en": 1})
    assert str(spoken.speaker).startswith("pico-")
    assert len(spoken.audio) > 8000  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("splits", "named"), [({"cleen": {"en": 1}}, "splits.cleen"), ({"accent": {"de": 1}}, "splits.accent.de")]
)
def test_a_split_or_language_that_is_not_there_is_named(splits: dict[str, dict[str, int]], named: str) -> None:
    options = corpora.options(Corpus.model_validate({"name": "synthetic", "splits": splits}))
    with pytest.raises((ConfigError, ValueError), match=named):
        synthetic.splits(options)  # type: ignore[arg-type]


@pytest.mark.skipif(not (MODEL / "sentences.txt").exists(), reason="no shipped model")
def test_the_shipped_base_never_saw_a_sentence_of_training_dev_or_test() -> None:
    seen = set((MODEL / "sentences.txt").read_text().split())
    for split in ("train", *HELD_OUT):
        for sentence in drawn_for(split, 6000 if split == "train" else 400):
            for language in LANGUAGES:
                assert hashlib.sha256(sentence.text(language).encode()).hexdigest()[:16] not in seen

"""Word error rate in percent as Qwen2-Audio's own scorer computes it, for comparison with its published figures.

Texts are prepared in these steps: tags such as <|en|> and spaces before ! , . ? ; : are removed; Cantonese is converted
to simplified characters; English passes Whisper's English normaliser; every language passes its basic normaliser; all
is put in lower case; words that are only punctuation are removed. Chinese and Cantonese are scored by character.
One step differs: the original spells out the digits of Mandarin and this does not, so that the score is a little higher
where references contain digits. For WER by the convention of the Open ASR Leaderboard use the metric `wer`.
Source: QwenLM/Qwen2-Audio, eval_audio/evaluate_asr.py.
"""

import functools
import re
import unicodedata
from collections.abc import Callable
from importlib.metadata import version

from concertina import metrics
from concertina.metrics import Score, ScoreError, _edits, _normaliser

columns = _edits.COLUMNS
combine = _edits.combine
label, unit = "WER (Qwen2-Audio)", "%"
higher_is_better = False
tolerance = "wer_points"
TAG, SPACE, BEFORE_MARK = re.compile(r"<\|.*?\|>"), re.compile(r"\s+"), re.compile(r" ?([!,.?;:])")
BY_CHARACTER = frozenset({"zh", "yue"})


def score(references: list[str], hypotheses: list[str], language: str) -> Score:
    """Score the WER, or for Chinese and Cantonese the CER. Errors: ScoreError naming the utterance."""
    metrics.check(references, hypotheses)
    references, hypotheses = ([_normalised(text, language) for text in texts] for texts in (references, hypotheses))
    norm = f"norm:qwen2-audio-{'english-basic' if language == 'en' else 'basic'}"
    unit = "characters" if language in BY_CHARACTER else "words"
    return _edits.words(
        references, hypotheses, f"unit:{unit}|{norm}|whisper-normalizer:{version('whisper-normalizer')}"
    )


@functools.lru_cache(maxsize=2**16)
def _normalised(text: str, language: str) -> str:
    """Prepare a text as the steps above say, with a space between the units that are scored."""
    text = BEFORE_MARK.sub(r"\1", SPACE.sub(" ", TAG.sub(" ", text))).lstrip(" ")
    if language == "zh":
        text = SPACE.sub("", text)
    if language == "yue":
        text = _simplified(text)
    if language == "en" and (english := _normaliser.english(text)) is not None:
        text = english
    words = [word for word in _basic()(text).lower().split() if not _is_punctuation(word)]
    return " ".join("".join(words)) if language in BY_CHARACTER else " ".join(words)


@functools.cache
def _basic() -> Callable[[str], str]:
    from whisper_normalizer.basic import BasicTextNormalizer

    return BasicTextNormalizer()


def _simplified(text: str) -> str:
    """Convert Cantonese to simplified characters. Errors: ScoreError if the package is not installed."""
    try:
        import zhconv
    except ImportError:
        raise ScoreError(
            "to score Cantonese, install the package that simplifies its characters: pip install zhconv"
        ) from None
    return str(zhconv.convert(text, "zh-cn"))


def _is_punctuation(word: str) -> bool:
    return all(unicodedata.category(character).startswith("P") for character in word)

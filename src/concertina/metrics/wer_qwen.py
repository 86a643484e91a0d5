"""Word error rate in percent by the conventions of Qwen2-Audio's own scorer: for comparison with its published figures.

Tags such as <|en|> go, spaces before ! , . ? ; : go. English passes Whisper's English normaliser and then its basic
one, every other language the basic one alone; Cantonese is converted to simplified characters before. Then lower case,
words that are punctuation alone go, and Chinese and Cantonese are scored by character.
Mandarin digits are left as they are, where the original spells them out: its figure is a little higher than theirs
where references hold digits. WER by the Open ASR Leaderboard's convention is the metric `wer`.
Source: QwenLM/Qwen2-Audio, eval_audio/evaluate_asr.py.
"""

import functools
import re
import unicodedata
from collections.abc import Callable
from importlib.metadata import version

from concertina import metrics
from concertina.metrics import Score, ScoreError, _edits

columns = _edits.COLUMNS
combine = _edits.combine
label, unit = "WER (Qwen2-Audio)", "%"
higher_is_better = False
tolerance = "wer_points"
TAG, SPACE, BEFORE_MARK = re.compile(r"<\|.*?\|>"), re.compile(r"\s+"), re.compile(r" ?([!,.?;:])")
BY_CHARACTER = frozenset({"zh", "yue"})


def score(references: list[str], hypotheses: list[str], language: str) -> Score:
    """WER; of Chinese and Cantonese the character error rate. Errors: ScoreError naming the utterance."""
    metrics.check(references, hypotheses)
    said, heard = ([_plain(text, language) for text in texts] for texts in (references, hypotheses))
    norm = f"norm:qwen2-audio-{'english-basic' if language == 'en' else 'basic'}"
    unit = "characters" if language in BY_CHARACTER else "words"
    return _edits.words(said, heard, f"unit:{unit}|{norm}|whisper-normalizer:{version('whisper-normalizer')}")


@functools.lru_cache(maxsize=2**16)
def _plain(text: str, language: str) -> str:
    """A text as it is scored, a space between its units."""
    text = BEFORE_MARK.sub(r"\1", SPACE.sub(" ", TAG.sub(" ", text))).lstrip(" ")
    if language == "zh":
        text = SPACE.sub("", text)
    if language == "yue":
        text = _simplified(text)
    if language == "en":
        text = _normaliser("english")(text)
    words = [word for word in _normaliser("basic")(text).lower().split() if not _is_punctuation(word)]
    return " ".join("".join(words)) if language in BY_CHARACTER else " ".join(words)


@functools.cache
def _normaliser(name: str) -> Callable[[str], str]:
    from whisper_normalizer.basic import BasicTextNormalizer
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer() if name == "english" else BasicTextNormalizer()


def _simplified(text: str) -> str:
    try:
        import zhconv
    except ImportError:
        raise ScoreError(
            "Cantonese is scored in simplified characters, which takes a package: pip install zhconv"
        ) from None
    return str(zhconv.convert(text, "zh-cn"))


def _is_punctuation(word: str) -> bool:
    return all(unicodedata.category(character).startswith("P") for character in word)

"""What the console shows is safe, whatever texts are in it."""

import io
import sys

import pytest

from concertina import console


def test_a_text_ends_no_line_and_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("id a\nerror: forged \x1b[2J\u202e\u200b \ud83d, 95\N{NO-BREAK SPACE}%, für 北京")
    line = r"id a\nerror: forged \x1b[2J\u202e\u200b \ud83d, 95" + "\N{NO-BREAK SPACE}%, für 北京\n"
    assert capsys.readouterr().err == line


def test_a_console_of_another_encoding_gets_what_it_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", newline="\n")
    monkeypatch.setattr(sys, "stderr", latin)
    console.say("für 北")
    assert latin.buffer.getvalue() == b"f\xfcr \\u5317\n"

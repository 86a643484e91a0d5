"""Console output of every stage: progress with rate and remaining time, and user errors in one line."""

import contextlib
import functools
import importlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TextIO

Main = Callable[..., int]
NO_BREAK = "\N{NO-BREAK SPACE}"


class Stopped(KeyboardInterrupt):
    """A stage was stopped on request and ended in good order; the message says what is kept."""


def run(main: Main) -> Main:
    """Wrap a stage's `main` so that a user's error ends it with one line and exit status 1, and Ctrl-C with 130.

    Errors that a user can correct are the ValueErrors and RuntimeErrors that Concertina's own code raises, and every
    OSError. Any other error is a bug and keeps its traceback. SIGTERM ends a stage in good order, as Ctrl-C does.
    """

    @functools.wraps(main)
    def guarded(argv: list[str] | None = None) -> int:
        before = _listen(signal.SIGTERM, _interrupt)
        try:
            return main(argv)
        except KeyboardInterrupt as stop:
            say(str(stop) or "interrupted; the same command starts this stage again")
            return 130
        except (ValueError, RuntimeError, OSError) as error:
            if not isinstance(error, OSError) and not raised_by_us(error):
                raise
            say(f"error: {' '.join(str(error).split()) or type(error).__name__}")
            return 1
        finally:
            _listen(signal.SIGTERM, before)

    return guarded


def substeps(modules: Mapping[str, str]) -> Callable[[Main], Main]:
    """Wrap a stage's `main` so that `stage SUBSTEP ...` calls the `main` of the sub-step's module instead.

    `modules`: the name of each sub-step's module, which is imported only when it is called.
    """

    def wrap(main: Main) -> Main:
        @functools.wraps(main)
        def dispatched(argv: list[str] | None = None) -> int:
            argv = sys.argv[1:] if argv is None else argv
            if argv and argv[0] in modules:
                status: int = importlib.import_module(modules[argv[0]]).main(argv[1:])
                return status
            return main(argv)

        return dispatched

    return wrap


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Let a stage stop after its present step: yield a function that returns whether a signal to stop has arrived.

    The signals are Ctrl-C, SIGTERM and SIGUSR1 (which batch systems send before a time limit); a second Ctrl-C or
    SIGTERM ends the stage at once.
    """
    signals: list[int] = []

    def receive(number: int, _: object) -> None:
        if signals and number != signal.SIGUSR1:
            raise KeyboardInterrupt
        signals.append(number)
        say(f"{signal.Signals(number).name}: this stage ends after its present step")

    before = {number: _listen(number, receive) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield lambda: bool(signals)
    finally:
        for number, handler in before.items():
            _listen(number, handler)


def say(line: str) -> None:
    """Print one line on the console (stderr), whatever the texts in it hold: they can end no line and steer nothing."""
    write(f"{shown(line)}\n", sys.stderr)


def write(text: str, stream: TextIO) -> None:
    """Write a text to a stream of any encoding: letters that it does not have become escapes."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def shown(text: str) -> str:
    """Make a text safe for a terminal or a log: control, invisible and broken characters become escapes."""
    return "".join(c if c.isprintable() or c == NO_BREAK else c.encode("unicode_escape").decode() for c in text)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _listen(number: int, handler: Any) -> Any:
    """Set a signal handler and return the previous one; do nothing outside the main thread, where Python forbids it."""
    return (
        signal.signal(number, handler or signal.SIG_DFL)
        if threading.current_thread() is threading.main_thread()
        else None
    )


def raised_by_us(error: BaseException) -> bool:
    """Return whether an error's class, or the frame that raised it, belongs to this package."""
    if type(error).__module__.startswith("concertina"):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__package__", "")).startswith("concertina")


class Progress:
    """Prints how far a stage is: `with Progress(len(rows), "utterances") as progress: progress.add(1, loss=2.5)`.

    `total` is None where it is not known; `done` units were done before; `name` begins every line, to tell apart
    several pieces of work that run at the same time. It prints at most one line every `every_s` seconds, and one at
    the end.
    """

    def __init__(self, total: int | None, unit: str, every_s: float = 5.0, done: int = 0, name: str = "") -> None:
        self.total, self.unit, self.every_s, self.name = total, unit, every_s, name
        self.done = self._before = done
        self._facts: dict[str, float | int | str] = {}

    def __enter__(self) -> Self:
        self._began = self._printed = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            say(self._line(time.monotonic()))

    def add(self, n: int = 1, **facts: float | int | str) -> None:
        """Count `n` more units; `facts` (such as the loss) are shown with the next line."""
        self.done += n
        self._facts.update(facts)
        now = time.monotonic()
        if now - self._printed >= self.every_s:
            self._printed = now
            say(self._line(now))

    def _line(self, now: float) -> str:
        seconds = max(now - self._began, 1e-9)
        rate = (self.done - self._before) / seconds
        parts = [f"{self.done}{f'/{self.total}' if self.total is not None else ''} {self.unit}", f"{rate:.4g}/s"]
        if self.total is not None and self._before < self.done < self.total:
            parts.append(f"{clock((self.total - self.done) / rate)} left")
        else:
            parts.append(f"in {clock(seconds)}")
        parts += [
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self._facts.items()
        ]
        return (f"{self.name}: " if self.name else "") + ", ".join(parts)


def clock(seconds: float) -> str:
    """Write a duration: `95` -> '1m35s', `7260` -> '2h01m', `4.2` -> '4.2s'."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 60:
        return f"{seconds:.0f}s"
    minutes = round(seconds / 60)
    return f"{seconds // 60:.0f}m{seconds % 60:02.0f}s" if seconds < 3600 else f"{minutes // 60}h{minutes % 60:02d}m"

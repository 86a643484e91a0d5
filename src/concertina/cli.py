"""The command `concertina`: what a person uses by hand. The stages are `python -m concertina.<stage> --help`."""

import argparse
import importlib
import sys

COMMANDS = {
    "transcribe": "write down, or translate, recordings of any length with compressed audio tokens",
    "compare": "say whether one file of predictions is better than another, with intervals and p",
}


def main(argv: list[str] | None = None) -> int:
    """Hand the rest of the line to a command's own module."""
    parser = argparse.ArgumentParser(
        prog="concertina",
        description="Squeeze the audio tokens that a speech language model reads.",
        epilog="commands: " + "; ".join(f"{name}: {text}" for name, text in COMMANDS.items()),
    )
    parser.add_argument("command", choices=COMMANDS, help="`concertina COMMAND --help` says what it takes")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the command takes")
    argv = sys.argv[1:] if argv is None else argv
    asked = parser.parse_args(argv)
    command = importlib.import_module(f"concertina.{asked.command}")
    status: int = command.main(asked.arguments)
    return status


if __name__ == "__main__":
    raise SystemExit(main())

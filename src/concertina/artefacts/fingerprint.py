"""What code, which packages and which files can change a result: content hashes that ignore what cannot."""

import ast
import contextlib
import functools
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from concertina.store.sealing import sha256, write_json

PACKAGE = "concertina"
SOURCES = Path(__file__).parents[1]
CACHE = Path("scratch/files.json")
# These carry values, messages and paths, and decide no result: what they hold reaches a stage through its key.
NEUTRAL = (
    *("artefacts", "config", "console", "nearest", "tracking"),
    *("store.predictions", "store.provenance", "store.records", "store.sealing"),
)
NEUTRAL_PACKAGES = {"pydantic", "yaml", "nanotts", "py_nanotts"}  # Pico's one release; who lacks it lacks that split
# Imported under one name, distributed under another.
DISTRIBUTIONS = {"yaml": "PyYAML"}


def code_hash(module: str, plugins: Iterable[str] = ()) -> str:
    """A hash of the code that can change what `module` computes: itself, what it imports, and its plug-ins.

    `plugins` are files found by name, which no import shows, such as 'concertina.compressors.average'.
    Only meaning counts: comments, docstrings, layout and the order of imports change nothing.
    Errors: FileNotFoundError naming the file of a module that is not there.
    """
    meaning = [(name, _digest(name)) for name in closure(module, *plugins)]
    return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:16]


def packages(module: str, plugins: Iterable[str] = ()) -> dict[str, str]:
    """The installed version of every other package that the code of `code_hash` imports; 'absent' where none is."""
    imported = {name.split(".")[0] for part in closure(module, *plugins) for name in _imports(part)}
    others = imported - {PACKAGE} - NEUTRAL_PACKAGES - sys.stdlib_module_names
    return {name: _version(DISTRIBUTIONS.get(name, name)) for name in sorted(others)}


def closure(*roots: str) -> list[str]:
    """The modules of this package that the roots reach by import, themselves included, in order of name."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [other for other in _imports(name) if _ours(other) and not _neutral(other)]
    return sorted(found)


def plugins(folder: str) -> list[str]:
    """The plug-ins of a folder, such as 'compressors', by the names that a config uses."""
    return sorted(path.stem for path in (SOURCES / folder).glob("*.py") if not path.stem.startswith("_"))


def defines(module: str, function: str) -> bool:
    """Whether a module has a function of that name, without running the module."""
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in ast.parse(_text(module)).body)


def files_hash(paths: Iterable[Path]) -> str:
    """A hash of the content of files, in the order given; a file that is not there counts as missing.

    What was read is remembered in scratch/ by path, size and times, so that unchanged files are not read again.
    """
    known = _remembered()
    digest, news = hashlib.sha256(), False
    for path in paths:
        try:
            stat = path.stat()
            facts = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} "
            if not known.get(str(path), "").startswith(facts):
                known[str(path)], news = facts + sha256(path), True
            digest.update(known[str(path)].removeprefix(facts).encode())
        except OSError:
            digest.update(b"missing")
        digest.update(b"\n")
    if news:
        with contextlib.suppress(OSError):  # a cache: without it files are read again, nothing more
            write_json(CACHE, known)
    return digest.hexdigest()[:16]


def _remembered() -> dict[str, str]:
    """'size mtime ctime sha256' by path, as the last call left them; nothing where that cannot be read."""
    try:
        known = json.loads(CACHE.read_text(encoding="utf-8"))
        return {str(path): str(facts) for path, facts in known.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def source_file(module: str) -> Path:
    """The file of a module of this package, whether or not it exists."""
    path = SOURCES.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.cache
def _text(module: str) -> str:
    return source_file(module).read_text(encoding="utf-8")


@functools.cache
def _digest(module: str) -> str:
    tree = ast.parse(_text(module))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [child for child in node.body if not _is_text_alone(child)]
    imports = sorted(ast.unparse(node) for node in tree.body if _is_import(node))
    rest = [ast.unparse(node) for node in tree.body if not _is_import(node)]
    return hashlib.sha256("\n".join([*imports, *rest]).encode()).hexdigest()


@functools.cache
def _imports(module: str) -> frozenset[str]:
    """The dotted names that a module imports, anywhere in it; `from a import b` counts as a, and as a.b if a file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(_text(module))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(_from(module, node))
    return frozenset(names)


def _from(module: str, node: ast.ImportFrom) -> Iterator[str]:
    base = node.module or ""
    if node.level:
        depth = node.level - (source_file(module).name == "__init__.py")
        base = ".".join([*module.split(".")[: len(module.split(".")) - depth], *([base] if base else [])])
    yield base
    yield from (f"{base}.{alias.name}" for alias in node.names if _ours(f"{base}.{alias.name}"))


def _ours(name: str) -> bool:
    return name.startswith(f"{PACKAGE}.") and source_file(name).exists()


def _neutral(name: str) -> bool:
    """Whether a module is one of NEUTRAL, or lies in a room that is."""
    return any(f"{name}.".startswith(f"{PACKAGE}.{neutral}.") for neutral in NEUTRAL)


def _is_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _is_text_alone(node: ast.stmt) -> bool:
    """A docstring, or a string that stands alone and does nothing."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@functools.cache
def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution).split("+")[0]  # the same release on any device
    except importlib.metadata.PackageNotFoundError:
        return "absent"

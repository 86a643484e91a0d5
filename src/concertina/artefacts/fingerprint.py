"""Hashes of the code, the packages and the files that can change a result, blind to edits that cannot."""

import ast
import contextlib
import functools
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from concertina.store import regular
from concertina.store.sealing import sha256, write_json

PACKAGE = "concertina"
SOURCES = Path(__file__).parents[1]
CACHE = Path("scratch/files.json")
# Rooms and modules that carry values, messages and paths. They decide no result: what they hold reaches a stage
# through its key. Of the store only the shards decide one, because they round what they hold.
NEUTRAL = ("artefacts", "config", "console", "nearest", "store", "tracking")
DECIDING = ("store.shards",)
NEUTRAL_PACKAGES = {
    "pydantic",
    "yaml",
    "nanotts",
    "py_nanotts",
}  # of Pico there is one release; without it the split is skipped
# Imported under one name, distributed under another.
DISTRIBUTIONS = {"yaml": "PyYAML"}


def code_hash(module: str, plugins: Iterable[str] = ()) -> str:
    """Return a hash of the code that can change what `module` computes: the module, its imports and its plug-ins.

    `plugins` are loaded by name and thus imported nowhere, such as 'concertina.compressors.average'.
    Comments, docstrings, layout and the order of imports do not change the hash.
    Errors: FileNotFoundError naming the file of a module that is not there.
    """
    meaning = [(name, _digest(name)) for name in closure(module, *plugins)]
    return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:16]


def packages(module: str, plugins: Iterable[str] = ()) -> dict[str, str]:
    """Return the installed version, or 'absent', of every package that the code of `code_hash` imports."""
    imported = {name.split(".")[0] for part in closure(module, *plugins) for name in _imports(part)}
    others = imported - {PACKAGE} - NEUTRAL_PACKAGES - sys.stdlib_module_names
    return {name: _version(DISTRIBUTIONS.get(name, name)) for name in sorted(others)}


def closure(*roots: str) -> list[str]:
    """Return the modules of this package that the roots import, directly or not, with the roots, in order of name."""
    reached: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [other for other in _imports(name) if _ours(other) and not _neutral(other)]
    return sorted(reached)


def plugins(folder: str) -> list[str]:
    """Return the plug-ins of a folder, such as 'compressors', by the names that a config uses."""
    return sorted(path.stem for path in (SOURCES / folder).glob("*.py") if not path.stem.startswith("_"))


def defines(module: str, function: str) -> bool:
    """Return whether a module has a function of that name, without running the module."""
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in ast.parse(_text(module)).body)


def files_hash(paths: Iterable[Path]) -> str:
    """Return a hash of the content of files, in the order given; an absent file counts as such, as does a pipe.

    The hash of each file is kept in scratch/ with its size and times, so that an unchanged file is not read again.
    """
    known = _remembered()
    digest, changed = hashlib.sha256(), False
    for path in paths:
        try:
            if regular.wrong(path):
                raise OSError
            stat = path.stat()
            facts = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} "
            if not known.get(str(path), "").startswith(facts):
                known[str(path)], changed = facts + sha256(path), True
            digest.update(known[str(path)].removeprefix(facts).encode())
        except OSError:
            digest.update(b"missing")
        digest.update(b"\n")
    if changed:
        with contextlib.suppress(OSError):  # it is a cache: without it, the files are read again
            write_json(CACHE, known)
    return digest.hexdigest()[:16]


def _remembered() -> dict[str, str]:
    """Return 'size mtime ctime sha256' by path, as the last call wrote them; nothing where the cache cannot be read."""
    try:
        known = json.loads(CACHE.read_text(encoding="utf-8"))
        return {str(path): str(facts) for path, facts in known.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def source_file(module: str) -> Path:
    """Return the file of a module of this package, whether or not it exists."""
    path = SOURCES.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.cache
def _text(module: str) -> str:
    return source_file(module).read_text(encoding="utf-8")


@functools.cache
def _digest(module: str) -> str:
    """Return a hash of a module's code as Python parses it.

    Unparsing the syntax tree drops comments and layout, and docstrings are cut out before. Imports are sorted, because
    their order has no effect in this package; that of all other statements counts.
    """
    tree = ast.parse(_text(module))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [child for child in node.body if not _is_text_alone(child)]
    imports = sorted(ast.unparse(node) for node in tree.body if _is_import(node))
    rest = [ast.unparse(node) for node in tree.body if not _is_import(node)]
    return hashlib.sha256("\n".join([*imports, *rest]).encode()).hexdigest()


@functools.cache
def _imports(module: str) -> frozenset[str]:
    """Return the dotted names that a module imports, also inside functions.

    `from a import b` counts as a, and as a.b too where that is a module of this package.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(_text(module))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update(_from(module, node))
    return frozenset(names)


def _from(module: str, node: ast.ImportFrom) -> Iterator[str]:
    """Yield the names that a `from ... import ...` imports; leading dots are resolved from the module's own name."""
    base = node.module or ""
    if node.level:
        depth = node.level - (source_file(module).name == "__init__.py")
        base = ".".join([*module.split(".")[: len(module.split(".")) - depth], *([base] if base else [])])
    yield base
    yield from (f"{base}.{alias.name}" for alias in node.names if _ours(f"{base}.{alias.name}"))


def _ours(name: str) -> bool:
    return name.startswith(f"{PACKAGE}.") and source_file(name).exists()


def _neutral(name: str) -> bool:
    """Return whether a module is one of NEUTRAL or lies in a room that is, and is not one of DECIDING."""
    return _within(name, NEUTRAL) and not _within(name, DECIDING)


def _within(name: str, places: tuple[str, ...]) -> bool:
    """Return whether a module is one of some rooms and modules, or lies in one of them."""
    return any(f"{name}.".startswith(f"{PACKAGE}.{place}.") for place in places)


def _is_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _is_text_alone(node: ast.stmt) -> bool:
    """Return whether a statement is nothing but a string: a docstring, or one without any effect."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@functools.cache
def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution).split("+")[0]  # the same release on any device
    except importlib.metadata.PackageNotFoundError:
        return "absent"

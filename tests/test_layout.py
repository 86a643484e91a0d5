"""The house style, held by tests: who may know whom, what a rule may contain, how long a file may grow."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
RULES = sorted((ROOT / "workflow/rules").glob("[0-9]*.smk"))
TREES = [path for tree in ("src", "tools", "tests", "benchmarks") for path in sorted((ROOT / tree).rglob("*.py"))]
STAGES = ["base", "data", "features", "segments", "train", "evaluate", "report"]
WORDS = [*STAGES, "speed"]  # the eight with which the name of a rule begins
LONGEST_FILE, LONGEST_FUNCTION = 320, 80
ROOMS = [  # from top to bottom; those of one line do not know each other, but for the doors
    {*WORDS, "cli", "transcribe", "compare"},
    {"tracking"},
    {"checks", "comparison"},
    {"reporting"},
    {"bases"},
    {"training"},
    {"model"},
    {"fetching"},
    {"artefacts"},
    {"corpora", "compressors"},
    {"metrics"},
    {"config"},
    {"store"},
    {"console", "nearest", "units"},
]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def code(path: Path) -> str:
    """The source without comments and docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [
                child for child in node.body if not isinstance(child, ast.Expr) or isinstance(child.value, ast.Call)
            ]
    return ast.unparse(tree)


def test_the_package_does_not_know_who_calls_it() -> None:
    engine = re.compile(r"snakemake|\bdvc\b|slurm|sbatch", flags=re.IGNORECASE)
    assert [path for path in SOURCES if engine.search(text_of(path))] == []


def test_experiment_tracking_has_one_place() -> None:
    knowing = [path for path in SOURCES if re.search(r"\bmlflow\b", path.read_text(encoding="utf-8"), re.IGNORECASE)]
    assert len(knowing) <= 1


@pytest.mark.parametrize("stage", STAGES)
def test_one_word_names_the_module_the_rule_and_the_section(stage: str) -> None:
    assert (ROOT / f"src/concertina/{stage}.py").exists()
    rules = [path for path in RULES if path.stem.split("_")[1] == stage]
    assert rules
    for path in rules:
        text = path.read_text(encoding="utf-8")
        assert re.search(rf"^rule {path.stem.split('_', 1)[1]}:$", text, re.MULTILINE)
        assert f"python -m concertina.{stage} " in text
    assert re.search(rf"^{stage}:", (ROOT / "config.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    assert list((ROOT / "tests").glob(f"test_{stage}*.py"))


def test_a_rules_name_begins_with_a_word() -> None:
    paths = (ROOT / "workflow").rglob("*.smk")
    names = [name for path in paths for name in re.findall(r"^rule (\w+):", text_of(path), re.MULTILINE)]
    assert len(names) >= len(STAGES)
    assert [name for name in names if name.split("_")[0] not in WORDS] == []


@pytest.mark.parametrize("path", RULES, ids=[path.stem for path in RULES])
def test_a_rule_file_begins_with_its_contract_and_is_wiring(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    header = text.split("\nrule ")[0]
    assert re.match(r"# [A-Z].+[.:,;a-z]\n", header), "one sentence first"
    assert re.search(r"^# INPUTS  +\S", header, re.MULTILINE)
    assert re.search(r"^# OUTPUTS  +\S", header, re.MULTILINE)
    assert not re.search(r"^\s*(run|script|notebook):", text, re.MULTILINE)
    assert not re.search(r"^\s*(if|for|def|import|from)\b", text, re.MULTILINE), "logic belongs elsewhere"
    for body in re.findall(r"lambda w: (.*)", text):
        assert body.startswith("keys."), "a lambda only asks for a key"
    assert len(text.splitlines()) <= 50


def test_the_snakefile_is_one_screen_with_rules_in_the_order_they_run() -> None:
    text = (ROOT / "Snakefile").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    included = re.findall(r'include: "workflow/rules/(.+)"', text)
    assert included == ["common.smk", *(path.name for path in RULES)]


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(ast.parse(text_of(path))) if isinstance(node, ast.FunctionDef)]


def test_files_stay_small() -> None:
    assert [path for path in TREES if len(text_of(path).splitlines()) > LONGEST_FILE] == []


def test_functions_stay_small() -> None:
    assert [
        f"{path}: {node.name}"
        for path in TREES
        for node in functions(path)
        if (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION
    ] == []


def test_every_file_says_what_it_is() -> None:
    assert [path for path in SOURCES if not ast.get_docstring(ast.parse(text_of(path)))] == []


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports, inside functions too, without the package's name."""
    names = set()
    for node in ast.walk(ast.parse(text_of(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports by dots"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("concertina.") for name in names if name.startswith("concertina.")}


def level(room: str) -> int:
    [found] = [place for place, rooms in enumerate(ROOMS) if room in rooms]
    return found


def test_imports_run_downwards() -> None:
    package = ROOT / "src/concertina"
    climbs = []
    for path in SOURCES:
        module = path.relative_to(package).with_suffix("").parts
        for other in imported(path):
            room, target = module[0], other.split(".")[0]
            if room == target or "__init__" in module[:1] or target == "__version__":
                continue
            if level(target) < level(room) or (level(target) == level(room) > 0):
                climbs.append(f"{'.'.join(module)} imports {other}")
    assert sorted(climbs) == []


def test_compressors_are_found_by_name_and_never_asked_what_they_are() -> None:
    names = {path.stem for path in (ROOT / "src/concertina/compressors").glob("[!_]*.py")}
    outside = [path for path in SOURCES if path.parent.name != "compressors"]
    for path in outside:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "concertina.compressors":
                assert not {alias.name for alias in node.names} & names, f"{path} imports a compressor"
            if isinstance(node, ast.ImportFrom):
                module = (node.module or "").removeprefix("concertina.compressors.")
                assert module not in names, f"{path} imports a compressor"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                assert "compressor" not in ast.unparse(node).lower(), f"{path} asks a compressor what it is"


def test_nothing_is_pickled() -> None:
    pickling = re.compile(r"\bpickle\b|torch\.(load|save)\(")
    assert [path for path in SOURCES if pickling.search(code(path))] == []


def test_the_environments_pin_what_the_lock_pins() -> None:
    lock = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    direct = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    around = {"snakemake", "snakemake-executor-plugin-slurm", "dvc", "dvc-s3"}  # they start jobs; no job imports them
    names = {line for line in direct if line and not line.startswith("#")} - around
    for environment in ("cpu", "cuda"):
        text = (ROOT / f"envs/{environment}.yaml").read_text(encoding="utf-8")
        pins = re.findall(r"^ +- (\S+==\S+)$", text, re.MULTILINE)
        assert {pin.split("==")[0] for pin in pins} == names
        assert set(pins) <= set(lock)
    assert not [line for line in lock if "+" in line and not line.startswith("#")], (
        "a local tag such as +cpu shuts other machines out"
    )

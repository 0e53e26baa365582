"""Style as laws: what a linter does not know of this house."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for room in ("schemas", "detectors", "service") for path in (ROOT / room).rglob("*.py"))
PROGRAMS = sorted(path for room in ("benchmarks", "examples", "scripts") for path in (ROOT / room).rglob("*.py"))
PURE = ("schemas", "detectors", "service/core")

MAX_LINES = 400
MAX_FUNCTION_LINES = 50
FORBIDDEN_SUFFIXES = ("Manager", "Handler", "Helper", "Utils", "Base", "Impl")
FORBIDDEN_IN_PURE = {"asyncio", "time", "socket", "logging", "structlog", "pickle", "threading", "subprocess"}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def is_pure(path: Path) -> bool:
    return relative(path).startswith(PURE) and relative(path) not in ("schemas/generate.py", "schemas/__main__.py")


@pytest.mark.parametrize("path", [*SOURCES, *PROGRAMS], ids=relative)
def test_a_file_is_short_and_its_functions_too(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_class_says_what_it_is_and_inherits_once(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef):
            assert not node.name.endswith(FORBIDDEN_SUFFIXES), node.name
            ancestors = [base for base in node.bases if ast.unparse(base).split("[")[0] not in ("Protocol", "Generic")]
            assert len(ancestors) <= 1, node.name


@pytest.mark.parametrize("path", [path for path in SOURCES if is_pure(path)], ids=relative)
def test_a_pure_room_has_no_clock_no_await_and_no_files(path: Path) -> None:
    for node in ast.walk(tree(path)):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await)
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & FORBIDDEN_IN_PURE
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.module.split(".")[0] not in FORBIDDEN_IN_PURE
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("open", "print", "input", "eval", "exec"), node.func.id


@pytest.mark.parametrize("path", [path for path in SOURCES if is_pure(path)], ids=relative)
def test_randomness_in_a_pure_room_has_a_seed(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("random", "np.random"):
            assert node.attr in ("Random", "Generator", "PCG64", "Philox", "default_rng"), ast.unparse(node)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("random.Random", "np.random.default_rng"):
            assert node.args, ast.unparse(node)


@pytest.mark.parametrize("path", [*SOURCES, *PROGRAMS], ids=relative)
def test_no_pickle_and_no_left_over_notes(path: Path) -> None:
    text = path.read_text()
    assert "import pickle" not in text
    assert not any(word in text for word in ("TO" + "DO", "FIX" + "ME", "X" * 3))


def test_only_the_kafka_carrier_imports_aiokafka() -> None:
    users = {
        relative(path)
        for path in SOURCES
        if "import aiokafka" in path.read_text() or "from aiokafka" in path.read_text()
    }
    assert all(user.startswith("service/eventlog/kafka") for user in users), users

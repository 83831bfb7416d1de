"""How large the code is, and which packages import which: `make shape` prints it.

`python -m tests.support.project.shape [DIRECTORY]` measures another checkout, say an older one.
Imports count wherever they stand, inside of functions and under TYPE_CHECKING too.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("features", "model", "streamer")  # each may import itself and those before it

FOLDER_FILES = 13
FILE_LINES = 450
CLASS_LINES = 250
FUNCTION_LINES = 60
PARAMETERS = 8
DOCS_WORDS = 24_000

Graph = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Source:
    path: str
    """Relative to the root, with slashes."""
    lines: int
    tree: ast.Module

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")

    @property
    def empty(self) -> bool:
        """Whether it holds nothing but a docstring."""
        return self.path.endswith("__init__.py") and len(self.tree.body) <= 1


@dataclass(frozen=True, slots=True, order=True)
class Found:
    size: int
    name: str


def sources(root: Path, *folders: str) -> list[Source]:
    """Every Python file under the folders, by path."""
    found = []
    for path in sorted(path for folder in folders for path in (root / folder).rglob("*.py")):
        text = path.read_text()
        name = path.relative_to(root).as_posix()
        found.append(Source(name, text.count("\n"), ast.parse(text, name)))
    return found


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of everything imported, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path: str) -> str:
    """The package that a file belongs to. A file at the root of one stands for itself:
    errors.py is below everything and __main__.py above.

    >>> room("model/decide/rule.py"), room("model/errors.py"), room("features/columns/rfm.py")
    ('model/decide', 'model/errors', 'features/columns')
    """
    return "/".join(path.split("/")[:2]).removesuffix(".py")


def module_arrows(code: list[Source]) -> Graph:
    """Which file imports which, by path; files of other projects are left out."""
    by_module = {source.module: source.path for source in code}

    def target(name: str) -> str | None:
        while name and name not in by_module:
            name = name.rpartition(".")[0]
        return by_module.get(name)

    return {
        source.path: frozenset(
            to for name in imports(source.tree) if (to := target(name)) and to != source.path
        )
        for source in code
    }


def room_arrows(arrows: Graph) -> Graph:
    """The same between packages."""
    rooms: dict[str, set[str]] = defaultdict(set)
    for path, targets in arrows.items():
        rooms[room(path)] |= {room(to) for to in targets} - {room(path)}
    return {name: frozenset(targets) for name, targets in rooms.items()}


def upward(arrows: Graph) -> list[str]:
    """Imports of a package that comes later in PACKAGES."""
    floor = PACKAGES.index
    return [
        f"{path} imports {to}"
        for path, targets in sorted(arrows.items())
        for to in sorted(targets)
        if floor(to.split("/")[0]) > floor(path.split("/")[0])
    ]


def circles(arrows: Graph) -> list[list[str]]:
    """Groups whose members reach one another.

    >>> circles({"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("a"), "d": frozenset()})
    [['a', 'b', 'c']]
    """
    reached = {name: _reached(name, arrows) for name in arrows}
    groups = {
        tuple(sorted(to for to in reached[name] if name in reached.get(to, ()))) for name in arrows
    }
    return [list(group) for group in sorted(groups) if group]


def _reached(start: str, arrows: Graph) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for to in arrows.get(waiting.pop(), frozenset()) - seen:
            seen.add(to)
            waiting.append(to)
    return seen


def folders(code: list[Source]) -> list[Found]:
    """Files a folder; an __init__.py without code does not count."""
    count: dict[str, int] = defaultdict(int)
    for source in code:
        count[source.path.rpartition("/")[0]] += not source.empty
    return [Found(files, folder) for folder, files in count.items()]


def files(code: list[Source]) -> list[Found]:
    return [Found(source.lines, source.path) for source in code]


def classes(code: list[Source]) -> list[Found]:
    return [
        Found(_length(node), f"{node.name}, {source.path}")
        for source in code
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef)
    ]


def functions(code: list[Source]) -> list[Found]:
    return [
        Found(_length(node), f"{node.name}, {source.path}:{node.lineno}")
        for source in code
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def constructors(code: list[Source]) -> list[Found]:
    """Parameters of every `__init__`; of a dataclass that is not a frozen value, its fields
    without a default."""
    return [
        Found(size, f"{node.name}, {source.path}")
        for source in code
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef)
        for size in _taken(node)
    ]


def parameters(code: list[Source]) -> list[Found]:
    """Parameters of functions but commands: theirs are how click says what options there are."""
    return [
        Found(_parameters(node), f"{node.name}, {source.path}:{node.lineno}")
        for source in code
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name != "__init__"
        and not any("command" in ast.unparse(by) for by in node.decorator_list)
    ]


def names_twice(code: list[Source]) -> list[Found]:
    """Public class names that more than one class has."""
    where: dict[str, list[str]] = defaultdict(list)
    for source in code:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].append(source.path)
    return [
        Found(len(paths), f"{name}: {', '.join(paths)}")
        for name, paths in sorted(where.items())
        if len(paths) > 1
    ]


def docs_words(root: Path) -> int:
    """Words of README, CHANGELOG, CONTRIBUTING and docs/; the bars of a table are none."""
    pages = [*root.glob("*.md"), *root.glob("docs/**/*.md")]
    return sum(len(re.findall(r"\S*\w\S*", page.read_text())) for page in pages)


def _length(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = node.args
    return len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)


def _taken(node: ast.ClassDef) -> Iterator[int]:
    decorators = [ast.unparse(by) for by in node.decorator_list]
    if any("dataclass" in by and "frozen=True" not in by for by in decorators):
        fields = [inner for inner in node.body if isinstance(inner, ast.AnnAssign)]
        yield sum(
            field.value is None and "ClassVar" not in ast.unparse(field.annotation)
            for field in fields
        )
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            yield _parameters(inner) - 1  # but for self


def report(root: Path) -> Iterator[str]:
    """The lines of `make shape`, at most 80 columns wide."""
    code = sources(root, *PACKAGES)
    tests = sources(root, "tests")
    arrows = module_arrows(code)
    rooms = room_arrows(arrows)
    twice = names_twice(code)
    rows = [
        ("Files in a folder", folders(code), FOLDER_FILES),
        ("Files in a folder, tests", folders(tests), FOLDER_FILES),
        ("Lines of a file", files(code), FILE_LINES),
        ("Lines of a class", classes(code), CLASS_LINES),
        ("Lines of a function", functions(code), FUNCTION_LINES),
        ("Parameters of a constructor", constructors(code), PARAMETERS),
        ("Parameters of a function", parameters(code), PARAMETERS),
    ]
    yield f"{'':<28} {'largest':>7} {'limit':>6} {'over':>5}  where"
    for title, found, limit in rows:
        top = max(found, default=Found(0, "-"))
        over = sum(one.size > limit for one in found)
        yield f"{title:<28} {top.size:>7,} {limit:>6,} {over:>5,}  {_place(top)}"
    for title, number, limit in [
        ("Class names used twice", len(twice), 0),
        ("Imports upward", len(upward(arrows)), 0),
        ("Circles of packages", len(circles(rooms)), 0),
        ("Circles of files", len(circles(arrows)), 0),
        ("Words of docs", docs_words(root), DOCS_WORDS),
    ]:
        yield f"{title:<28} {number:>7,} {limit:>6,}"
    yield f"{'Lines of source':<28} {sum(source.lines for source in code):>7,}"
    yield f"{'Lines of tests':<28} {sum(source.lines for source in tests):>7,}"

    for title, found, limit in rows:
        yield from _listed(
            f"{title}, over {limit}",
            (
                f"{one.size:>5,}  {one.name}"
                for one in sorted(found, reverse=True)
                if one.size > limit
            ),
        )
    yield from _listed("Class names used twice", (one.name for one in twice))
    yield from _listed("Imports upward", upward(arrows))
    yield from _listed("Circles of packages", map(" <-> ".join, circles(rooms)))
    yield from _listed("Circles of files", map(" <-> ".join, circles(arrows)))
    yield from _listed(
        f"Packages and what they import: {len(rooms)}, "
        f"{sum(map(len, rooms.values()))} arrows, lowest first",
        (f"{name} <- {', '.join(sorted(rooms[name])) or 'nothing'}" for name in _by_floor(rooms)),
    )


def _place(found: Found) -> str:
    """The end of a name, as far as it fits in a line."""
    short = found.name.rpartition(", ")[2]
    return short if len(short) <= 29 else f"...{short[-26:]}"


def _by_floor(rooms: Graph) -> list[str]:
    """Packages by how many they can reach: whatever is imported stands before who imports it."""
    return sorted(
        rooms,
        key=lambda name: (PACKAGES.index(name.split("/")[0]), len(_reached(name, rooms)), name),
    )


def _listed(title: str, lines: Iterator[str] | list[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        if number == 0:
            yield from ("", f"{title}:")
        yield from textwrap.wrap(
            line,
            78,
            initial_indent="  ",
            subsequent_indent="       ",
            break_long_words=False,
            break_on_hyphens=False,
        )


if __name__ == "__main__":
    print("\n".join(report(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)))

"""What there is to measure here, and a way to run it.

    python -m benchmarks                  lists the measurements
    python -m benchmarks NAME [ARG ...]   runs one

`make bench ARGS="NAME ARG ..."` is the same.
"""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path


def measurements() -> dict[str, str]:
    """The first line of each measurement's description, by name."""
    found = {}
    here = Path(__file__).parent
    for path in sorted([*here.glob("[!_]*.py"), *here.glob("speed/[!_]*.py")]):
        code = path.read_text(encoding="utf-8")
        if "__main__" in code:
            text = ast.get_docstring(ast.parse(code)) or ""
            name = ".".join(path.relative_to(here).with_suffix("").parts)
            found[name] = text.split("\n", maxsplit=1)[0]
    return found


def main() -> None:
    there = measurements()
    if len(sys.argv) < 2:
        width = max(map(len, there))
        print("Run one with: python -m benchmarks NAME [ARG ...]\n")
        for name, line in there.items():
            print(f"  {name:{width}}  {line}")
        return
    name = sys.argv[1]
    if name not in there:
        sys.exit(f"there is no measurement {name!r}; there are {', '.join(there)}")
    sys.argv = [name, *sys.argv[2:]]
    runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

"""The shell of an HTML page that needs no network: style, light and dark, tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

# No script, no font, no image from elsewhere. Dark on a dark screen, and never on paper.
_STYLE: Final = """
:root{--paper:#fff;--text:#1d2433;--ink:#3c4454;--small:#5b6475;--rule:#d9dee8;--grid:#e3e7ef;
 --muted:#7a7f8a;--ours:#eef3fd;--box:#a9bfe8;--line-1:#2458c5;--line-2:#d06a00;--line-3:#7a7f8a;
 --line-4:#1a8f5a;--line-5:#c2185b;--line-6:#6a3fb5;color-scheme:light dark}
@media screen and (prefers-color-scheme:dark){:root{--paper:#14171d;--text:#e6e9ef;--ink:#c3c9d4;
 --small:#9aa3b2;--rule:#353b47;--grid:#2a2f39;--muted:#8b919d;--ours:#1c2740;--box:#3a5590;
 --line-1:#7ba4f7;--line-2:#f5a04a;--line-3:#8b919d;--line-4:#55c796;--line-5:#f06fa0;
 --line-6:#b195ef}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--text);background:var(--paper);
 max-width:66rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;line-height:1.25;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2.4rem}
p{max-width:44rem}.small,figcaption{color:var(--small);font-size:.9rem}
.cards{display:flex;flex-wrap:wrap;gap:.8rem;margin:1.2rem 0}
.card{border:1px solid var(--rule);border-radius:.5rem;padding:.7rem 1rem;flex:1 1 9rem}
.card b{display:block;font-size:1.6rem;line-height:1.2}
.wide{overflow-x:auto}
.wide td:first-child,.wide th:first-child{position:sticky;left:0;background:var(--paper)}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:.35rem .6rem;border-bottom:1px solid var(--grid);white-space:nowrap}
th:first-child,td:first-child,
 .named td:nth-child(2),.named th:nth-child(2){text-align:left}
tr.ours td,.wide tr.ours td:first-child{font-weight:600;background:var(--ours)}
td.good{color:var(--line-4);font-weight:600}td.bad{color:var(--line-5);font-weight:600}
figure{margin:1rem 0;max-width:44rem}figcaption{margin-top:.3rem}
.pairs{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:0 2rem}
.pairs figure{margin:.6rem 0}
svg{width:100%;height:auto;max-width:44rem;display:block}
@media (max-width:40rem){body{margin:1rem auto}td,th{padding:.3rem .4rem}table{font-size:.85rem}}
@media print{body{margin:0;max-width:none;font-size:12px}figure,table,.card{break-inside:avoid}
 h2{break-after:avoid}svg{max-width:30rem}}
"""


def document(title: str, body: Sequence[str]) -> str:
    """A whole page of a plain title and parts that are HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def table(
    head: Sequence[str], rows: Sequence[tuple[bool, Sequence[str]]], *, named: bool = False
) -> str:
    """A table of plain texts; the rows said to be ours stand out, and cells that say "better" or
    "worse". `named`: the second column has names too."""
    lines = "".join(
        f"<tr{' class=ours' if ours else ''}>{''.join(_cell(cell) for cell in cells)}</tr>"
        for ours, cells in rows
    )
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    kind = " class=named" if named else ""
    return f'<div class="wide"><table{kind}><tr>{names}</tr>{lines}</table></div>'


def _cell(text: str) -> str:
    kind = {"better": " class=good", "worse": " class=bad"}.get(text, "")
    return f"<td{kind}>{escape(text)}</td>"


def cards(numbers: Sequence[tuple[str, str]]) -> str:
    """Large numbers, each with what it is."""
    inner = "".join(
        f'<div class="card"><b>{escape(value)}</b>{escape(name)}</div>' for value, name in numbers
    )
    return f'<div class="cards">{inner}</div>'


def figure(plot: str, caption: str) -> str:
    """A plot with a plain sentence under it."""
    return f"<figure>{plot}<figcaption>{escape(caption)}</figcaption></figure>"

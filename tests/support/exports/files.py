"""One shop's orders written as ten kinds of export, each to its documented format."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

from openpyxl import Workbook

from tests.support.exports.records import SHOPIFY_COLUMNS, magento_row, stripe_charge, track

BERLIN: Final = timezone(timedelta(hours=1))
"""In winter, and all orders are of one."""


@dataclass(frozen=True, slots=True)
class Sold:
    """An order: its number, customer, instant, cents, and the cents that were refunded of it."""

    number: int
    customer: int
    at: datetime
    cents: int
    refunded: int = 0

    @property
    def mail(self) -> str:
        return f"c{self.customer}@shop.test"

    @property
    def local(self) -> datetime:
        return self.at.astimezone(BERLIN)


def shop(orders: int = 60) -> list[Sold]:
    """Orders of a winter, with odd cents, thousands and refunds among them."""
    draw = random.Random(5)
    start = datetime(2024, 11, 20, 6, 1, 49, tzinfo=BERLIN)
    found = []
    for number in range(orders):
        cents = draw.choice([199, 1250, 99_99, 123_450, 1_234_567, 5])
        refunded = draw.choice([0, 0, 0, 0, cents // 2])
        at = start + timedelta(hours=number * 17, minutes=draw.randrange(60))
        found.append(Sold(1001 + number, draw.randrange(1, 13), at, cents, refunded))
    return found


def net_cents(orders: Iterable[Sold]) -> int:
    """What the orders brought."""
    return sum(one.cents - one.refunded for one in orders)


def _major(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _german(cents: int) -> str:
    return f"{cents / 100:,.2f}".translate(str.maketrans(",.", ".,"))


def _csv(rows: Iterable[Mapping[str, Any]], separator: str = ",") -> str:
    listed = list(rows)
    written = io.StringIO()
    writer = csv.DictWriter(written, list(listed[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(listed)
    return written.getvalue()


def shopify(path: Path, orders: list[Sold]) -> None:
    """Two rows an order, the second one of a line item."""
    blank = dict.fromkeys(SHOPIFY_COLUMNS, "")
    rows = []
    for one in orders:
        both = {"Name": f"#{one.number}", "Email": one.mail}
        both["Created at"] = one.local.strftime("%Y-%m-%d %H:%M:%S %z")
        first = {"Financial Status": "paid", "Currency": "EUR", "Total": _major(one.cents)}
        first["Refunded Amount"] = _major(one.refunded)
        rows += [blank | both | first, blank | both | {"Lineitem name": 'Mug, "blue"'}]
    unpaid = {"Name": "#1", "Email": "x@y.z", "Financial Status": "pending", "Total": "9.00"}
    rows.append(blank | unpaid | {"Created at": "2024-12-01 00:00:00 +0100", "Currency": "EUR"})
    path.write_text(_csv(rows), "utf-8")


def german(path: Path, orders: list[Sold]) -> None:
    """Semicolons, decimal commas, cp1252, a status; refunds as amounts below 0."""
    rows = []
    for one in orders:
        row = {"Bestellnr": one.number, "Kundennr": one.customer, "Käufer": "Jürgen Groß"}
        row["Bestelldatum"] = one.local.strftime("%d.%m.%Y %H:%M")
        row["Status"] = "bezahlt"
        rows.append(row | {"Zwischensumme": "1,00 €", "Gesamtbetrag": f"{_german(one.cents)} €"})
        if one.refunded:
            rows.append(row | {"Zwischensumme": "", "Gesamtbetrag": f"-{_german(one.refunded)} €"})
    rows.append(rows[0] | {"Bestellnr": 9, "Status": "storniert", "Zwischensumme": ""})
    path.write_bytes(_csv(rows, ";").encode("cp1252"))


def french(path: Path, orders: list[Sold]) -> None:
    """UTF-16 with tabs, a title above the header, narrow blanks between thousands."""
    rows = [
        {
            "N° de commande": f"FR-{one.number}",
            "Client": f"Zoé {one.customer}",
            "Date de commande": one.local.strftime("%d/%m/%Y"),
            "Heure": one.local.strftime("%H:%M:%S"),
            "Montant TTC (EUR)": _german(one.cents).replace(".", "\u202f"),
            "Montant remboursé": _german(one.refunded) if one.refunded else "",
        }
        for one in orders
    ]
    path.write_text(f"Export des commandes\n\n{_csv(rows, chr(9))}", "utf-16")


def spanish(path: Path, orders: list[Sold]) -> None:
    """With a byte order mark, every field quoted, amounts in minor units by name."""
    rows = [
        {
            "Pedido": one.number,
            "Cliente": one.mail,
            "Fecha": one.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
            "Importe_centavos": one.cents,
            "Moneda": "EUR",
            "Importe reembolsado centavos": one.refunded,
        }
        for one in orders
    ]
    written = io.StringIO()
    writer = csv.DictWriter(written, list(rows[0]), quoting=csv.QUOTE_ALL, delimiter=";")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(written.getvalue(), "utf-8-sig")


def workbook(path: Path, orders: list[Sold]) -> None:
    """An Excel table of invoices by line: quantity and price, times without a zone."""
    book = Workbook()
    sheet = book.active
    sheet.append(["Invoice", "Customer ID", "InvoiceDate", "Quantity", "Unit Price", "Description"])
    for one in orders:
        naive = one.at.astimezone(UTC).replace(tzinfo=None)
        half = one.cents // 2
        for quantity, cents in ((1, one.cents - 2 * half), (2, half)):
            sheet.append([str(one.number), one.customer + 100, naive, quantity, cents / 100, "Mug"])
        if one.refunded:
            later = naive + timedelta(minutes=30)
            row = [f"C{one.number}", one.customer + 100, later, -1, one.refunded / 100, "Back"]
            sheet.append(row)
    book.save(path)


def stripe(path: Path, orders: list[Sold]) -> None:
    """An answer of the API: charges in minor units, seconds."""
    charges = [
        stripe_charge(
            id=f"ch_{one.number}",
            amount=one.cents,
            amount_refunded=one.refunded,
            created=int(one.at.timestamp()),
            customer=f"cus_{one.customer}",
            currency="eur",
        )
        for one in orders
    ]
    charges.append(stripe_charge(id="ch_0", status="failed", currency="eur"))
    path.write_text(json.dumps({"object": "list", "data": charges, "has_more": False}, indent=1))


def segment(path: Path, orders: list[Sold]) -> None:
    """Track calls, an object a line, gzipped; other events among them."""
    lines = []
    for one in orders:
        same = {"userId": f"u{one.customer}", "timestamp": one.at.isoformat()}
        placed = track("Order Completed", total=one.cents / 100) | same
        placed["properties"] |= {"order_id": str(one.number), "currency": "EUR"}
        lines += [track("Product Viewed") | same, placed]
        if one.refunded:
            back = track("Order Refunded", total=one.refunded / 100) | same
            back["properties"] |= {"order_id": str(one.number), "currency": "EUR"}
            lines.append(back)
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))


def magento(path: Path, orders: list[Sold]) -> None:
    """The grid of the admin, in a zip: English times of the shop's zone, four decimals."""
    rows = [
        magento_row(
            **{
                "ID": f"{one.number:09d}",
                "Purchase Date": one.local.strftime("%b %d, %Y %I:%M:%S %p"),
                "Grand Total (Base)": f"{_major(one.cents)}00",
                "Grand Total (Purchased)": f"{_major(one.cents)}00",
                "Customer Email": one.mail,
                "Total Refunded": f"{_major(one.refunded)}00" if one.refunded else "",
            }
        )
        for one in orders
    ]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("orders/export.csv", _csv(rows))
        archive.writestr("__MACOSX/._export.csv", b"\0")


def debezium(path: Path, orders: list[Sold]) -> None:
    """Changes of a table of one's own, an object a line: typed rows, nested, epoch milliseconds."""
    lines = []
    for one in orders:
        row = {"order_number": one.number, "buyer": {"id": one.customer, "email": one.mail}}
        row |= {"created_at": int(one.at.timestamp() * 1000), "total": _major(one.cents)}
        row |= {"currency": "EUR", "refunded_amount": _major(one.refunded)}
        lines.append({"before": None, "after": row, "op": "c", "ts_ms": 0, "source": {}})
    lines.append({"before": {"order_number": 1}, "after": None, "op": "d", "ts_ms": 0})
    path.write_text("\n".join(map(json.dumps, lines)))


def parquet(path: Path, orders: list[Sold]) -> None:
    """Typed columns: timestamps with a zone, decimals; refunds as rows of a type."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for one in orders:
        same = {"transaction_id": one.number, "member": f"m{one.customer}", "purchased_at": one.at}
        rows.append({**same, "transaction_type": "sale", "value": _major(one.cents)})
        if one.refunded:
            rows.append({**same, "transaction_type": "return", "value": _major(one.refunded)})
    table = pa.Table.from_pylist(rows)
    amounts = table["value"].cast(pa.decimal128(12, 2))
    pq.write_table(table.set_column(4, "value", amounts), path)


EXPORTS: Final[dict[str, Callable[[Path, list[Sold]], None]]] = {
    "orders_export.csv": shopify,
    "bestellungen.csv": german,
    "commandes.txt": french,
    "pedidos.csv": spanish,
    "invoices.xlsx": workbook,
    "charges.json": stripe,
    "events.jsonl.gz": segment,
    "grid.zip": magento,
    "changes.ndjson": debezium,
    "orders.parquet": parquet,
}
ASKS: Final = {
    "bestellungen.csv": "Europe/Berlin",
    "commandes.txt": "Europe/Berlin",
    "invoices.xlsx": "UTC",
    "grid.zip": "Europe/Berlin",
}
"""The zone of those whose times have none."""

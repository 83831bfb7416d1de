"""One shop's orders as exports that are hard to read: other languages, other habits, and what
people and spreadsheets do to files. Each is what its docstring says, and nothing is wrong with it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tests.support.exports.files import Sold

Rows = Sequence[Mapping[str, Any]]


def table(rows: Rows, separator: str = ",", encoding: str = "utf-8") -> bytes:
    written = io.StringIO()
    writer = csv.DictWriter(written, list(rows[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue().encode(encoding)


def point(cents: int) -> str:
    """12.50"""
    return f"{'-' * (cents < 0)}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def comma(cents: int, thousands: str = ".") -> str:
    """1.234,50"""
    return f"{cents / 100:,.2f}".translate(str.maketrans({",": thousands, ".": ","}))


def utc(one: Sold, form: str) -> str:
    return one.at.astimezone(UTC).strftime(form)


def plainly(orders: Sequence[Sold], **more: Callable[[Sold], Any]) -> list[dict[str, Any]]:
    """English names, ISO times, net amounts; `more` or other columns."""
    return [
        {
            "order_id": one.number,
            "customer_id": one.customer + 7,
            "created_at": one.at.isoformat(),
            "total": point(one.cents - one.refunded),
            **{name: value(one) for name, value in more.items()},
        }
        for one in orders
    ]


def with_refunds(row: Mapping[str, Any], one: Sold, name: str, text: str) -> list[dict[str, Any]]:
    """A row of an order, and one of what was refunded."""
    return [{**row}] + [{**row, name: text}] * bool(one.refunded)


def german_shop(orders: Sequence[Sold]) -> bytes:
    """Years of two digits, ids with leading zeros, shipping and discount beside the total."""
    rows = []
    for one in orders:
        row = {"Bestellnummer": one.number, "Kunden-Nr.": f"{one.customer:05d}"}
        row |= {"Datum": one.local.strftime("%d.%m.%y %H:%M"), "Versandkosten": "4,90"}
        row |= {"Rabatt": "0,00", "Gesamtbetrag (brutto)": comma(one.cents), "Status": "Versendet"}
        back = f"-{comma(one.refunded)}"
        rows += with_refunds(row, one, "Gesamtbetrag (brutto)", back)
    rows += [
        rows[0] | {"Bestellnummer": n, "Status": s} for n, s in ((5, "Storniert"), (6, "Offen"))
    ]
    return table(rows, ";", "cp1252")


def french_shop(orders: Sequence[Sold]) -> bytes:
    """A sign behind amounts, hard blanks between thousands, accents in the status."""
    rows = []
    for one in orders:
        row = {
            "ID": one.number,
            "Référence": f"XK{one.number}",
            "Client": f"J. Client{one.customer}",
        }
        row |= {"Total": f"{comma(one.cents, chr(0xA0))} €", "Paiement": "Carte"}
        row |= {"État": "Paiement accepté", "Date": one.local.strftime("%d/%m/%Y %H:%M:%S")}
        rows += with_refunds(row, one, "Total", f"-{comma(one.refunded, chr(0xA0))} €")
    return table([*rows, rows[0] | {"ID": 3, "Référence": "Z", "État": "Annulé"}], ";", "utf-8-sig")


def spanish_shop(orders: Sequence[Sold]) -> bytes:
    """Refunds in a column of their own; what is unpaid and cancelled, in other words."""
    rows = [
        {
            "Nº pedido": one.number,
            "Cliente": one.mail,
            "Fecha": one.local.strftime("%d/%m/%Y %H:%M"),
            "Descuento": "0,00",
            "Envío": "3,00",
            "Total": comma(one.cents),
            "Total reembolsado": comma(one.refunded) if one.refunded else "",
            "Estado": "Pagado",
        }
        for one in orders
    ]
    unpaid = rows[0] | {"Nº pedido": 1, "Estado": "Pendiente de pago"}
    return table([*rows, unpaid, rows[0] | {"Nº pedido": 2, "Estado": "Cancelado"}], ";")


def dutch_shop(orders: Sequence[Sold]) -> bytes:
    """Totals without tax beside those with it."""
    rows = [
        {
            "Bestelnummer": one.number,
            "Klantnummer": one.customer + 100,
            "Besteldatum": one.local.strftime("%d-%m-%Y %H:%M"),
            "Bedrag excl. btw": comma(one.cents - 1),
            "Bedrag incl. btw": comma(one.cents),
            "Verzendkosten": "4,95",
            "Status": "Voltooid",
            "Terugbetaald": comma(one.refunded) if one.refunded else "",
        }
        for one in orders
    ]
    return table([*rows, rows[0] | {"Bestelnummer": 1, "Status": "Geannuleerd"}], ";", "utf-8-sig")


def polish_shop(orders: Sequence[Sold]) -> bytes:
    """Blanks between thousands, zł behind."""
    rows = [
        {
            "Numer zamówienia": one.number,
            "Klient": one.mail,
            "Data zamówienia": one.local.strftime("%Y-%m-%d %H:%M:%S"),
            "Kwota": f"{comma(one.cents - one.refunded, ' ')} zł",
            "Status": "Zrealizowane",
        }
        for one in orders
    ]
    return table([*rows, rows[0] | {"Numer zamówienia": 2, "Status": "Anulowane"}], ";")


def swedish_shop(orders: Sequence[Sold]) -> bytes:
    """kr behind amounts, freight beside them."""
    rows = [
        {
            "Ordernummer": one.number,
            "Kundnummer": one.customer + 50,
            "Orderdatum": one.local.strftime("%Y-%m-%d %H:%M"),
            "Summa": f"{comma(one.cents - one.refunded, ' ')} kr",
            "Frakt": "49,00 kr",
            "Orderstatus": "Levererad",
        }
        for one in orders
    ]
    return table([*rows, rows[0] | {"Ordernummer": 2, "Orderstatus": "Makulerad"}], ";")


def american_books(orders: Sequence[Sold]) -> bytes:
    """Months first, twelve hours, dollars, and what is below 0 in parentheses."""
    rows = []
    for one in orders:
        eastern = one.at.astimezone(UTC) - timedelta(hours=5)
        row = {"Order #": one.number, "Customer Email": one.mail}
        row |= {"Order Date": eastern.strftime("%m/%d/%Y %I:%M %p"), "Shipping": "$5.00"}
        row |= {"Tax": "$0.05", "Order Total": f"${one.cents / 100:,.2f}"}
        rows += with_refunds(row, one, "Order Total", f"(${one.refunded / 100:,.2f})")
    return table(rows)


def swiss_books(orders: Sequence[Sold]) -> bytes:
    """Apostrophes between thousands, the currency in the header, a comma behind the day."""
    rows = [
        {
            "Auftrag": one.number,
            "Kunde": f"K{one.customer}",
            "Datum": one.local.strftime("%d.%m.%Y, %H:%M"),
            "Total CHF": f"{one.cents / 100:,.2f}".replace(",", "'"),
            "Rückerstattung CHF": f"{one.refunded / 100:,.2f}".replace(",", "'"),
        }
        for one in orders
    ]
    return table(rows, ";")


def sap_list(orders: Sequence[Sold]) -> bytes:
    """A minus behind the amount, zeros before ids, the time beside the day."""
    rows = []
    for one in orders:
        row = {"Belegnummer": f"{one.number:010d}", "Debitor": f"{one.customer:010d}"}
        row |= {"Belegdatum": one.local.strftime("%d.%m.%Y"), "Währung": "EUR"}
        row |= {"Uhrzeit": one.local.strftime("%H:%M:%S"), "Betrag": comma(one.cents)}
        rows += with_refunds(row, one, "Betrag", f"{comma(one.refunded)}-")
    return table(rows, ";", "cp1252")


def serial_dates(orders: Sequence[Sold]) -> bytes:
    """Days as spreadsheets count them, with the time behind the point; refunds by a bare word."""
    epoch = datetime(1899, 12, 30, tzinfo=UTC)
    rows = [
        {
            "Order ID": one.number,
            "Customer ID": f"C{one.customer}",
            "Order Date": f"{(one.at - epoch) / timedelta(days=1):.8f}",
            "Amount": point(one.cents),
            "Refund": point(one.refunded) if one.refunded else "",
        }
        for one in orders
    ]
    return table(rows)


def with_footers(orders: Sequence[Sold]) -> bytes:
    """Days only; a row of a subtotal below each month, of the total below all."""
    rows: list[dict[str, Any]] = []
    month, so_far = "", 0
    for one in orders:
        if month and month != utc(one, "%m"):
            rows.append({"Order": "Subtotal", "Customer": "", "Date": "", "Total": point(so_far)})
            so_far = 0
        month, net = utc(one, "%m"), one.cents - one.refunded
        so_far += net
        row = {"Order": one.number, "Customer": f"c{one.customer}", "Date": utc(one, "%Y-%m-%d")}
        rows.append(row | {"Total": point(net)})
    net = sum(one.cents - one.refunded for one in orders)
    return table([*rows, {"Order": "Total", "Customer": "", "Date": "", "Total": point(net)}])


def weeks(orders: Sequence[Sold]) -> bytes:
    """Days as ISO 8601 counts weeks."""
    return table(plainly(orders, created_at=lambda one: utc(one, "%G-W%V-%u")))


def epoch_seconds(orders: Sequence[Sold]) -> bytes:
    """Seconds, and a refunded sum of 0 where nothing was."""
    refunded = {"refunded_amount": lambda one: point(one.refunded)}
    seconds = {"created_at": lambda one: int(one.at.timestamp())}
    return table(plainly(orders, total=lambda one: point(one.cents), **refunded, **seconds))


def repeated_totals(orders: Sequence[Sold]) -> bytes:
    """A row a line item, the order's total on each of them."""
    rows = [
        row | {"product": f"Mug {line}", "quantity": line, "item_price": "3.50"}
        for row in plainly(orders)
        for line in (1, 2, 3)
    ]
    return table(rows)


def line_totals(orders: Sequence[Sold]) -> bytes:
    """A row a line item, with the line's own total."""
    rows = []
    for one, row in zip(orders, plainly(orders), strict=True):
        del row["total"]
        half = (one.cents - one.refunded) // 3
        for quantity, cents in ((1, one.cents - one.refunded - 2 * half), (2, 2 * half)):
            rows.append(row | {"quantity": quantity, "line_total": point(cents)})
    return table(rows)


def put_together(orders: Sequence[Sold]) -> bytes:
    """Two files, the one's header amid the rows."""
    half = len(orders) // 2
    return table(plainly(orders[:half])) + table(plainly(orders[half:]))


def below_a_title(orders: Sequence[Sold]) -> bytes:
    """Blank lines, a title, who made it and when, and then the header."""
    above = "\r\n\r\nMy shop: orders\r\nGenerated 2025-02-01, by admin\r\n\r\n"
    return b"\xef\xbb\xbf" + above.encode() + table(plainly(orders))


def with_notes(orders: Sequence[Sold]) -> bytes:
    """Quotes, separators and ends of lines within a note."""
    return table(plainly(orders, note=lambda one: 'Please, "ring"\nthe bell;\r\n\ttwice'))


def with_guests(orders: Sequence[Sold]) -> bytes:
    """Customer 0, whose address is there."""
    return table(
        plainly(
            orders,
            customer_id=lambda one: one.customer if one.customer > 4 else 0,
            billing_email=lambda one: one.mail,
        )
    )


def scientific_ids(orders: Sequence[Sold]) -> bytes:
    """Order ids of which a spreadsheet kept six digits, so that several orders share one."""
    return table(plainly(orders, order_id=lambda one: f"{2e11 + one.number * 4e5:.5E}"))


def wide_letters(orders: Sequence[Sold]) -> bytes:
    """UTF-16 without a mark, tabs, the currency before the amount."""
    total = {"total": lambda one: f"EUR {comma(one.cents - one.refunded)}"}
    return table(plainly(orders, **total), "\t", "utf-16-le")


def tests_among_them(orders: Sequence[Sold]) -> bytes:
    """An order that the shop's own people made."""
    rows = plainly(orders, test=lambda one: "FALSE")
    return table([*rows, rows[0] | {"order_id": 1, "test": "TRUE"}])


def of_an_api(orders: Sequence[Sold]) -> bytes:
    """Objects in objects, amounts with their currency, a page of a list."""
    rows = [
        {
            "id": f"ord_{one.number}",
            "customer": {"id": f"cus_{one.customer}", "email": one.mail},
            "created_at": one.at.isoformat(),
            "total": {"amount": point(one.cents - one.refunded), "currency": "EUR"},
            "lines": [{"sku": "a", "price": "1.00"}],
        }
        for one in orders
    ]
    return json.dumps({"orders": rows, "next": None}).encode()


def parts_of_totals(orders: Sequence[Sold]) -> bytes:
    """Totals of items, discounts and shipping beside the one that was paid."""
    rows = plainly(
        orders,
        items_total=lambda one: point(one.cents),
        discount_total=lambda one: point(-one.refunded),
        shipping_total=lambda one: "0.00",
    )
    return table(rows)


def squarespace(orders: Sequence[Sold]) -> bytes:
    """Rows of further lines have the order's id and address, and none of its times and totals."""
    rows = []
    for one in orders:
        first = {"Order ID": f"{one.number:05d}", "Email": one.mail, "Financial Status": "PAID"}
        created = one.local.strftime("%Y-%m-%d %H:%M:%S %z")
        money = {"Currency": "EUR", "Subtotal": point(one.cents), "Shipping": "0.00"}
        money |= {"Amount Refunded": point(one.refunded), "Total": point(one.cents)}
        row = first | {"Paid at": created} | money | {"Created at": created, "Lineitem name": "A"}
        rows += [row, dict.fromkeys(row, "") | first | {"Lineitem name": "B"}]
        rows[-1]["Financial Status"] = ""
    return table(rows)


def wix(orders: Sequence[Sold]) -> bytes:
    """A date, and a time of day with AM; what was refunded, below how many pieces were."""
    return table(
        [
            {
                "Order number": one.number,
                "Date created": utc(one, "%b %d, %Y"),
                "Time": utc(one, "%I:%M:%S %p"),
                "Contact email": one.mail,
                "Quantity refunded": 0,
                "Total": point(one.cents),
                "Currency": "EUR",
                "Refunded amount": point(one.refunded),
            }
            for one in orders
        ],
        encoding="utf-8-sig",
    )


def of_a_till(orders: Sequence[Sold]) -> bytes:
    """A customer's code, and who stood at the till; three rows a receipt, each with its total."""
    rows = []
    for one in orders:
        row = {"Date": utc(one, "%Y-%m-%d %H:%M:%S"), "Receipt Number": one.number}
        row |= {"Customer Code": f"C-{one.customer}", "Customer Name": "A B", "User": "bob"}
        row |= {"Total": point(one.cents - one.refunded)}
        rows += [{**row, "Line Type": kind} for kind in ("Sale", "Sale Line", "Payment")]
    return table(rows)


def bulk_operation(orders: Sequence[Sold]) -> bytes:
    """Shopify's bulk operations: objects a line, those of line items below those of orders."""
    rows: list[dict[str, Any]] = []
    for one in orders:
        order = f"gid://shopify/Order/{one.number}"
        money = {
            name: {"shopMoney": {"amount": point(cents), "currencyCode": "EUR"}}
            for name, cents in (("totalPriceSet", one.cents), ("totalRefundedSet", one.refunded))
        }
        customer = {"id": f"gid://shopify/Customer/{one.customer}"}
        created = utc(one, "%Y-%m-%dT%H:%M:%SZ")
        rows += [
            {"id": order, "createdAt": created, "customer": customer, **money},
            {"id": f"gid://shopify/LineItem/{one.number}", "quantity": 1, "__parentId": order},
        ]
    return "\n".join(map(json.dumps, rows)).encode()


def persian(orders: Sequence[Sold]) -> bytes:
    """Digits, thousands and decimals of another script."""
    digits = str.maketrans("0123456789,.", "۰۱۲۳۴۵۶۷۸۹٬٫")
    return table(
        plainly(
            orders,
            created_at=lambda one: utc(one, "%Y-%m-%d %H:%M:%S").translate(digits),
            total=lambda one: f"{(one.cents - one.refunded) / 100:,.2f}".translate(digits),
        )
    )


def japanese_dates(orders: Sequence[Sold]) -> bytes:
    return table(plainly(orders, created_at=lambda one: utc(one, "%Y年%m月%d日 %H:%M:%S")))


BERLIN: Final = "Europe/Berlin"
HOSTILE: Final[dict[Callable[[Sequence[Sold]], bytes], str | None]] = {
    german_shop: BERLIN,
    french_shop: BERLIN,
    spanish_shop: BERLIN,
    dutch_shop: BERLIN,
    polish_shop: BERLIN,
    swedish_shop: BERLIN,
    american_books: "America/New_York",
    swiss_books: BERLIN,
    sap_list: BERLIN,
    **dict.fromkeys((serial_dates, wix, of_a_till, persian, japanese_dates), "UTC"),
    **dict.fromkeys((squarespace, bulk_operation)),
    **dict.fromkeys((with_footers, weeks, epoch_seconds, repeated_totals, line_totals)),
    **dict.fromkeys((put_together, below_a_title, with_notes, with_guests, scientific_ids)),
    **dict.fromkeys((wide_letters, tests_among_them, of_an_api, parts_of_totals)),
}
"""With the zone that has to be asked for."""


def several_currencies(orders: Sequence[Sold]) -> bytes:
    """Most in one, some in others."""
    rows = plainly(orders, currency=lambda one: "EUR")
    others = [{**rows[n], "order_id": n, "currency": code} for n, code in enumerate(("USD", "GBP"))]
    return table([*rows, *others])


def two_totals(orders: Sequence[Sold]) -> bytes:
    """What was owed and what was paid."""
    return table(plainly(orders, total_paid=lambda one: point(one.cents)))


def unknown_status(orders: Sequence[Sold]) -> bytes:
    """Words that no list has."""
    rows = plainly(orders, status=lambda one: "Gut")
    return table([*rows, {**rows[0], "order_id": 1, "status": "Schlecht"}])


def scientific_customers(orders: Sequence[Sold]) -> bytes:
    """Customers of which a spreadsheet kept six digits."""
    return table(plainly(orders, customer_id=lambda one: "2.02411E+11"))


def signs(orders: Sequence[Sold]) -> bytes:
    """Two orders in euros among those in pounds, by the sign beside them alone."""
    rows = plainly(orders, total=lambda one: f"£{(one.cents - one.refunded) / 100:,.2f}")
    return table(
        [*rows, *({**row, "order_id": n, "total": "€1"} for n, row in enumerate(rows[:2]))]
    )


def lines_and_shipping(orders: Sequence[Sold]) -> bytes:
    """Amazon's report of orders: the price of a line, and what sending it cost."""
    rows = plainly(orders)
    for row in rows:
        row |= {"quantity-purchased": 1, "item-price": row.pop("total"), "shipping-price": "4.90"}
    return table(rows, "\t")


def adjusted_totals(orders: Sequence[Sold]) -> bytes:
    """Etsy's: a total, and another where it was corrected."""
    rows = plainly(orders)
    for row, one in zip(rows, orders, strict=True):
        net = row.pop("total")
        row |= {"Order Total": point(one.cents), "Adjusted Order Total": net * bool(one.refunded)}
    return table(rows)

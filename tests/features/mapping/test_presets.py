"""Each preset reads records in their documented shapes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from features.events.orders import Order, OrderRules, Rejected, from_fields
from features.mapping.mapping import MappingError, OrderMapping, Skipped, Unfit
from features.mapping.presets import PRESETS, preset
from features.times import rfc3339
from tests.support.exports import records as of

RULES = {code: OrderRules(currency=code) for code in ("USD", "EUR", "GBP", "JPY", "ISK")}


def told(name: str, record: Any, timezone: str | None = None) -> list[str]:
    """The events of a record, a line each."""
    found = preset(name, timezone).orders(record)
    assert isinstance(found, list), found
    for event in found:
        rules = RULES[event.get("currency", "USD")]
        assert isinstance(from_fields(event, rules), Order)
    return [
        " ".join(
            [event["type"], event["order_id"], event["user_id"], rfc3339(event["ts"])]
            + [event[key] for key in ("amount", "currency", "refund_id") if key in event]
            + [rfc3339(event[key]) for key in ("updated_at",) if key in event]
        )
        for event in found
    ]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_valid_mapping_that_says_what_it_reads(name: str) -> None:
    for document in preset(name).documents:
        assert document.needs
        assert document.about


def test_a_preset_that_there_is_not_names_those_that_there_are() -> None:
    with pytest.raises(MappingError, match="shopify, woocommerce"):
        preset("shopfy")


@pytest.mark.parametrize("topic", ["create", "paid", "updated"])
def test_shopify_sends_an_order_whole_whatever_the_webhook(topic: str) -> None:
    assert told("shopify", of.shopify_order()) == [
        "order 820982911946154508 115310627314723954 2024-11-27T05:01:49Z 409.94 USD"
        " 2024-11-27T05:02:00Z"
    ]


def test_shopify_carries_refunds_in_the_order() -> None:
    order = of.shopify_order(financial_status="partially_refunded", refunds=[of.SHOPIFY_REFUND])
    assert told("shopify", order)[1:] == [
        "refund 820982911946154508 115310627314723954 2024-11-28T10:00:00Z 41.94 USD"
        " 890088186047892319"
    ]


def test_a_refund_that_was_paid_in_another_currency_says_so() -> None:
    paid = {"kind": "refund", "status": "success", "amount": "38.90", "currency": "EUR"}
    order = of.shopify_order(refunds=[{**of.SHOPIFY_REFUND, "transactions": [paid]}])
    found = preset("shopify").orders(order)
    assert isinstance(found, list)
    assert [event["currency"] for event in found] == ["USD", "EUR"]
    assert isinstance(from_fields(found[1], RULES["USD"]), Rejected)


def test_shopify_cancels_an_order() -> None:
    order = of.shopify_order(cancelled_at="2024-11-27T07:00:00+01:00", financial_status="refunded")
    assert told("shopify", order)[1:] == [
        "cancellation 820982911946154508 115310627314723954 2024-11-27T06:00:00Z 409.94 USD"
    ]


@pytest.mark.parametrize("status", ["pending", "authorized", "voided"])
def test_shopify_orders_that_are_not_paid_wait_for_orders_paid(status: str) -> None:
    assert preset("shopify").orders(of.shopify_order(financial_status=status)) == Skipped(
        "not paid"
    )


def test_shopify_test_orders_are_skipped() -> None:
    assert preset("shopify").orders(of.shopify_order(test=True)) == Skipped("test order")


def test_shopify_refunds_create_names_no_customer() -> None:
    mapping = preset("shopify")
    assert isinstance(mapping.orders(of.SHOPIFY_REFUND), Skipped)
    found = mapping.orders(of.SHOPIFY_REFUND, {"820982911946154508": "kim"}.get)
    assert isinstance(found, list)
    assert (found[0]["user_id"], found[0]["amount"]) == ("kim", "41.94")


def test_shopifys_export_has_a_row_a_line_item() -> None:
    first, further = of.shopify_rows()
    assert told("shopify", first) == [
        "order #1001 kim@shop.test 2024-11-27T05:01:49Z 62.50 EUR",
        "refund #1001 kim@shop.test 2024-11-27T05:01:49Z 12.50 EUR",
    ]
    assert preset("shopify").orders(further) == Skipped("further line of an order")


@pytest.mark.parametrize("column", ["Cancelled at", "Canceled at"])
def test_shopifys_export_is_read_by_either_spelling_of_cancelled(column: str) -> None:
    row = of.shopify_rows()[0]
    del row["Cancelled at"]
    assert [line.split()[0] for line in told("shopify", row | {column: "2024-11-28 01:00Z"})] == [
        "order",
        "cancellation",
    ]


def test_woocommerce_gives_orders_with_their_refunds() -> None:
    assert told("woocommerce", of.woo_order()) == [
        "order 727 26 2017-03-22T19:28:02Z 29.35 USD 2017-03-23T08:00:00Z",
        "refund 727 26 2017-03-23T08:00:00Z 10.00 USD 728 2017-03-23T08:00:00Z",
    ]


def test_woocommerce_guests_are_known_by_their_address() -> None:
    order = of.woo_order(customer_id=0, refunds=[])
    assert told("woocommerce", order)[0].split()[2] == "john.doe@example.com"


def test_woocommerce_orders_that_were_cancelled_after_payment_are_taken_back() -> None:
    order = of.woo_order(status="cancelled", refunds=[])
    assert [line.split()[0] for line in told("woocommerce", order)] == ["order", "cancellation"]
    order["date_paid_gmt"] = None
    assert isinstance(preset("woocommerce").orders(order), Skipped)


def test_woocommerces_exports_have_the_shops_own_time_and_ask_for_it() -> None:
    row = of.woo_row()
    unfit = preset("woocommerce").orders(row)
    assert isinstance(unfit, Unfit)
    assert "--timezone" in unfit.detail
    assert told("woocommerce", row, "America/New_York") == [
        "order 1042 26 2024-11-27T11:01:49Z 29.35 USD",
        "refund 1042 26 2024-11-27T11:01:49Z 5.00 USD",
    ]


def test_woocommerces_analytics_have_refunds_below_0_and_customers_by_name() -> None:
    rows = [of.woo_analytics_row(), of.woo_analytics_row(**{"Net Sales": "-5"})]
    assert [told("woocommerce", row, "Europe/Berlin")[0] for row in rows] == [
        "order 1042 John Doe 2024-11-27T05:01:49Z 25",
        "refund 1042 John Doe 2024-11-27T05:01:49Z 5",
    ]
    older = of.woo_analytics_row()
    older["N. Revenue"] = older.pop("Net Sales")
    assert told("woocommerce", older, "Europe/Berlin")[0].endswith(" 25")


def test_stripe_charges_are_in_minor_units() -> None:
    assert told("stripe", of.stripe_charge()) == [
        "order ch_1 cus_1 2024-11-27T05:01:49Z 20.00 USD",
        "refund ch_1 cus_1 2024-11-27T05:01:49Z 5.00 USD",
    ]


@pytest.mark.parametrize(
    ("currency", "amount"), [("usd", "20.00"), ("jpy", "2000"), ("isk", "20.00")]
)
def test_stripe_counts_some_currencies_its_own_way(currency: str, amount: str) -> None:
    charge = of.stripe_charge(currency=currency, amount_refunded=0)
    assert told("stripe", charge)[0].split()[4] == amount


def test_stripe_events_correct_the_sum_refunded_so_far() -> None:
    assert told("stripe", of.stripe_event(of.stripe_charge()))[1] == (
        "refund ch_1 cus_1 2024-11-28T00:00:00Z 5.00 USD all 2024-11-28T00:00:00Z"
    )


@pytest.mark.parametrize("change", [{"status": "failed"}, {"captured": False}, {"paid": False}])
def test_stripe_charges_that_brought_nothing_are_skipped(change: dict[str, Any]) -> None:
    assert preset("stripe").orders(of.stripe_charge(**change)) == Skipped("not paid")


def test_stripe_refunds_are_counted_by_their_charge() -> None:
    found = preset("stripe").orders(of.STRIPE_REFUND)
    assert found == Skipped("refund, which its charge's amount_refunded has")


def test_stripes_dashboard_exports_major_units() -> None:
    assert told("stripe", of.stripe_row()) == [
        "order ch_1 cus_1 2024-11-27T05:01:49Z 20.00 USD",
        "refund ch_1 cus_1 2024-11-27T05:01:49Z 5.00 USD",
    ]


def test_stripes_dashboard_has_payments_that_nobody_captured() -> None:
    assert preset("stripe").orders(of.stripe_row(Captured="false")) == Skipped("not captured")


def test_magentos_times_are_utc_and_its_amounts_have_four_decimals() -> None:
    assert told("magento", of.magento_order()) == [
        "order 000000123 42 2024-11-27T05:01:49Z 62.5000 EUR 2024-11-28T00:00:00Z",
        "refund 000000123 42 2024-11-28T00:00:00Z 12.5000 EUR all 2024-11-28T00:00:00Z",
    ]
    assert isinstance(preset("magento").orders(of.magento_order(state="canceled")), Skipped)


def test_magentos_grid_has_the_admins_own_time() -> None:
    assert told("magento", of.magento_row(), "Europe/Berlin") == [
        "order 000000123 kim@shop.test 2024-11-27T05:01:49Z 62.5000"
    ]


@pytest.mark.parametrize("name", ["segment", "rudderstack"])
def test_segment_and_rudderstack_track_orders_refunds_and_cancellations(name: str) -> None:
    assert told(name, of.track("Order Completed", total=27.5, revenue=25)) == [
        "order 50314b8e kim 2024-11-27T05:01:49.123Z 27.5 USD"
    ]
    assert told(name, of.track("Order Refunded", total=5)) == [
        "refund 50314b8e kim 2024-11-27T05:01:49.123Z 5 USD"
    ]
    for event in (of.track("Order Cancelled", total=27.5), of.track("Order Refunded")):
        assert told(name, event)[0].split()[0] == "cancellation"
    assert isinstance(preset(name).orders(of.track("Product Viewed")), Skipped)
    assert isinstance(preset(name).orders({**of.track("x"), "type": "identify"}), Skipped)


def test_an_order_of_nothing_is_not_one_of_its_revenue() -> None:
    free = of.track("Order Completed", total=Decimal("0.00"), revenue=25)
    assert told("segment", free) == ["order 50314b8e kim 2024-11-27T05:01:49.123Z 0.00 USD"]


def test_ga4_purchases_as_bigquery_exports_them() -> None:
    assert told("ga4", of.ga4_row("purchase")) == [
        "order T-1 12345.678 2024-11-27T05:01:49.123Z 27.5 EUR"
    ]
    refund = of.ga4_row("refund")
    refund["ecommerce"] |= {"purchase_revenue": None, "refund_value": "5.0"}
    assert told("ga4", refund)[0].startswith("refund T-1 12345.678")
    assert isinstance(preset("ga4").orders(of.ga4_row("page_view")), Skipped)


def test_ga4_finds_in_parameters_what_the_record_ecommerce_lacks() -> None:
    row = of.ga4_row("purchase")
    row["ecommerce"] = None
    row["event_params"].append(of.ga4_param("transaction_id", "string_value", "T-2"))
    assert told("ga4", row) == ["order T-2 12345.678 2024-11-27T05:01:49.123Z 27.5 EUR"]


def test_ga4_requests_hold_several_events() -> None:
    assert told("ga4", of.ga4_request()) == [
        "order T-1 12345.678 2024-11-27T05:01:49.123Z 27.5 EUR",
        "refund T-0 12345.678 2024-11-27T05:01:49.123Z 5.0 EUR",
        "cancellation T-2 12345.678 2024-11-27T05:01:49.123Z 0",
    ]


def test_ga4_times_of_another_unit_are_set_aside_and_not_of_1970() -> None:
    for moment in (1_732_683_709_123, 1_732_683_709):
        (event,) = preset("ga4").orders(
            {
                **of.ga4_request(),
                "timestamp_micros": moment,
                "events": of.ga4_request()["events"][1:2],
            }
        )
        refused = from_fields(event, RULES["EUR"])
        assert isinstance(refused, Rejected)
        assert "lies before" in refused.detail
    without = {key: value for key, value in of.ga4_request().items() if "timestamp" not in key}
    assert isinstance(preset("ga4").orders(without), Unfit)


def test_a_track_call_within_a_cloud_event_is_read() -> None:
    """As section 3.2 of CloudEvents' JSON format has it."""
    inner = of.track("Order Refunded", total=30, products=[{"product_id": "507f1f77", "price": 19}])
    around = {"specversion": "1.0", "type": "com.example.someevent", "source": "/mycontext"}
    around |= {"id": "C234-1234-1234", "subject": None, "comexampleothervalue": 5}
    kind = {"datacontenttype": "application/json; charset=utf-8"}
    assert told("segment", {**around, **kind, "data": inner}) == [
        "refund 50314b8e kim 2024-11-27T05:01:49.123Z 30 USD"
    ]


def test_braze_events_come_alone_and_in_requests() -> None:
    placed = of.braze("order_placed", 189.98)
    assert told("braze", placed) == ["order order_67890 kim 2024-01-15T09:25:45Z 189.98 USD"]
    request = {"events": [placed, of.braze("order_refunded", 99.99), of.braze("cart_updated", 5)]}
    assert [line.split()[0] for line in told("braze", request)] == ["order", "refund"]
    assert told("braze", of.braze("order_cancelled", 189.98))[0].startswith("cancellation")


def test_the_online_retail_logs_are_lines_of_invoices_in_pounds() -> None:
    row = {"InvoiceNo": "536365", "StockCode": "85123A", "Quantity": "6", "Country": "UK"}
    row |= {"InvoiceDate": "12/1/2010 8:26", "UnitPrice": "2.55", "CustomerID": "17850.0"}
    assert told("online-retail", row) == ["order 536365 17850 2010-12-01T08:26:00Z 15.30 GBP"]
    back = row | {"InvoiceNo": "C536379", "Quantity": "-1", "InvoiceDate": "2011-07-01 09:41:00"}
    assert told("online-retail", back) == ["refund C536379 17850 2011-07-01T08:41:00Z 2.55 GBP"]
    two = {"Invoice": "489434", "Quantity": "12", "InvoiceDate": "2009-12-01 07:45:00"}
    two |= {"Price": "6.95", "Customer ID": "13085"}
    assert told("online-retail", two) == ["order 489434 13085 2009-12-01T07:45:00Z 83.40 GBP"]
    assert preset("online-retail").rows == "line-items"


def test_cdnow_has_columns_without_names_and_rows_without_ids() -> None:
    assert told("cdnow", {"c1": "00001", "c2": "19970101", "c3": "1", "c4": "11.77", "#": "1"}) == [
        "order 00001-1 00001 1997-01-01T00:00:00Z 11.77 USD"
    ]
    sample = {"c1": "4", "c2": "1", "c3": "19970101", "c4": "2", "c5": "29.33", "#": "9"}
    assert told("cdnow", sample) == ["order 4-9 4 1997-01-01T00:00:00Z 29.33 USD"]


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("shopify", of.shopify_order()),
        ("woocommerce", of.woo_order()),
        ("stripe", of.stripe_charge()),
        ("magento", of.magento_order()),
        ("segment", of.track("Order Completed", total=5)),
        ("ga4", of.ga4_row("purchase")),
        ("braze", of.braze("order_placed", 5)),
    ],
)
def test_an_envelope_around_any_of_them_changes_nothing(name: str, record: Any) -> None:
    plain = told(name, record)
    assert told(name, {"specversion": "1.0", "id": "1", "source": "/", "data": record}) == plain
    changed = {"before": None, "after": record, "op": "c", "source": {}, "ts_ms": 1}
    assert told(name, changed) == plain
    assert told(name, {"schema": {}, "payload": changed}) == plain


@pytest.mark.parametrize("name", PRESETS)
def test_a_record_of_something_else_is_told_what_the_preset_needs(name: str) -> None:
    unfit = preset(name).orders({"sku": "A-1", "stock": 4})
    assert isinstance(unfit, Unfit)
    assert "needs" in unfit.detail
    assert "'sku', 'stock'" in unfit.detail


def test_every_document_of_every_preset_is_read_by_one_that_needs_something() -> None:
    names = {name for documents in PRESETS.values() for name in documents}
    assert len(names) == len({one.name for p in PRESETS for one in preset(p).documents})
    assert isinstance(preset("stripe"), OrderMapping)

"""Records as shops and their tools document them: the fields that matter, and some others.

Each names the page, or the source, that its fields were compared with.
"""

from __future__ import annotations

from typing import Any, Final

# shopify.dev/docs/api/admin-rest/latest/resources/refund, and the webhook refunds/create
SHOPIFY_REFUND: Final[dict[str, Any]] = {
    "id": 890088186047892319,
    "order_id": 820982911946154508,
    "created_at": "2024-11-28T11:00:00+01:00",
    "note": "Things were damaged",
    "user_id": 548380009,
    "processed_at": "2024-11-28T11:00:00+01:00",
    "refund_line_items": [{"id": 1, "quantity": 1, "subtotal": 41.94}],
    "transactions": [
        {"id": 1, "kind": "refund", "status": "success", "amount": "40.94", "currency": "USD"},
        {"id": 2, "kind": "refund", "status": "success", "amount": "1.00", "currency": "USD"},
        {"id": 3, "kind": "refund", "status": "failure", "amount": "40.94", "currency": "USD"},
    ],
}


def shopify_order(**changes: Any) -> dict[str, Any]:
    """An order as Shopify's webhooks send it: shopify.dev, Admin REST, resources/order, and the
    samples of its webhooks."""
    return {
        "id": 820982911946154508,
        "admin_graphql_api_id": "gid://shopify/Order/820982911946154508",
        "app_id": None,
        "cancel_reason": None,
        "cancelled_at": None,
        "confirmed": True,
        "created_at": "2024-11-27T06:01:49+01:00",
        "currency": "USD",
        "current_total_price": "368.00",
        "customer": {"id": 115310627314723954, "email": "john@example.com"},
        "email": "jon@example.com",
        "financial_status": "paid",
        "fulfillment_status": None,
        "line_items": [{"id": 866550311766439020, "price": "199.00", "quantity": 2}],
        "name": "#9999",
        "order_number": 1234,
        "phone": None,
        "processed_at": "2024-11-27T06:01:49+01:00",
        "refunds": [],
        "subtotal_price": "398.00",
        "test": False,
        "total_price": "409.94",
        "total_price_set": {"shop_money": {"amount": "409.94", "currency_code": "USD"}},
        "total_tax": "11.94",
        "updated_at": "2024-11-27T06:02:00+01:00",
        **changes,
    }


# help.shopify.com/en/manual/orders/export-orders, and headers of exports in public repositories,
# which spell Cancelled with two l where that page has one.
_SHOPIFY_HEADER: Final = (
    "Name,Email,Financial Status,Paid at,Fulfillment Status,Fulfilled at,"
    "Accepts Marketing,Currency,Subtotal,Shipping,Taxes,Total,Discount Code,"
    "Discount Amount,Shipping Method,Created at,Lineitem quantity,Lineitem name,"
    "Lineitem price,Lineitem compare at price,Lineitem sku,Lineitem requires shipping,"
    "Lineitem taxable,Lineitem fulfillment status,Billing Name,Billing Street,"
    "Billing Address1,Billing Address2,Billing Company,Billing City,Billing Zip,"
    "Billing Province,Billing Country,Billing Phone,Shipping Name,Shipping Street,"
    "Shipping Address1,Shipping Address2,Shipping Company,Shipping City,Shipping Zip,"
    "Shipping Province,Shipping Country,Shipping Phone,Notes,Note Attributes,Cancelled at,"
    "Payment Method,Payment Reference,Refunded Amount,Vendor,Outstanding Balance,Employee,"
    "Location,Device ID,Id,Tags,Risk Level,Source,Lineitem discount,Tax 1 Name,"
    "Tax 1 Value,Phone,Receipt Number,Duties,Payment ID"
)
SHOPIFY_COLUMNS: Final = tuple(_SHOPIFY_HEADER.split(","))


def shopify_rows(**changes: str) -> list[dict[str, str]]:
    """The two rows of an order with two line items, as Shopify's admin exports it."""
    blank = dict.fromkeys(SHOPIFY_COLUMNS, "")
    both = {"Name": "#1001", "Email": "kim@shop.test", "Created at": "2024-11-27 06:01:49 +0100"}
    first = blank | both | {"Financial Status": "partially_refunded", "Currency": "EUR"}
    first |= {"Paid at": "2024-11-27 06:01:50 +0100", "Subtotal": "60.00", "Shipping": "2.50"}
    first |= {"Taxes": "0.00", "Total": "62.50", "Refunded Amount": "12.50", "Id": "5723"}
    first |= {"Lineitem quantity": "2", "Lineitem name": "Mug, blue", "Lineitem price": "20.00"}
    further = blank | both | {"Lineitem quantity": "1", "Lineitem price": "20.00"}
    return [first | changes, further]


def woo_order(**changes: Any) -> dict[str, Any]:
    """An order of WooCommerce's REST API: woocommerce.github.io/woocommerce-rest-api-docs."""
    return {
        "id": 727,
        "number": "727",
        "status": "completed",
        "currency": "USD",
        "date_created": "2017-03-22T16:28:02",
        "date_created_gmt": "2017-03-22T19:28:02",
        "date_modified": "2017-03-23T05:00:00",
        "date_modified_gmt": "2017-03-23T08:00:00",
        "date_paid_gmt": "2017-03-22T19:28:08",
        "discount_total": "0.00",
        "total": "29.35",
        "total_tax": "1.35",
        "customer_id": 26,
        "billing": {"first_name": "John", "email": "john.doe@example.com"},
        "line_items": [{"id": 315, "quantity": 2, "total": "6.00"}],
        "refunds": [{"id": 728, "reason": "", "total": "-10.00"}],
        **changes,
    }


def woo_row(**changes: str) -> dict[str, str]:
    """A row of an order export extension of WooCommerce, by the header of WebToffee's."""
    return {
        "order_id": "1042",
        "order_number": "1042",
        "order_date": "2024-11-27 06:01:49",
        "status": "completed",
        "order_total": "29.35",
        "refunded_total": "5.00",
        "order_currency": "USD",
        "customer_id": "26",
        "customer_email": "john.doe@example.com",
        **changes,
    }


def woo_analytics_row(**changes: str) -> dict[str, str]:
    """A row of WooCommerce's own download of Analytics, Orders: `get_export_columns` of
    woocommerce/src/Admin/API/Reports/Orders/Controller.php."""
    return {
        "Date": "2024-11-27 06:01:49",
        "Order #": "1042",
        "N. Revenue (formatted)": "&#36;25.00",
        "Status": "completed",
        "Customer": "John Doe",
        "Customer type": "returning",
        "Product(s)": "2× Mug",
        "Items sold": "2",
        "Coupon(s)": "",
        "Net Sales": "25",
        "Attribution": "Direct",
        **changes,
    }


def stripe_charge(**changes: Any) -> dict[str, Any]:
    """A charge of Stripe's API: docs.stripe.com/api/charges/object."""
    return {
        "id": "ch_1",
        "object": "charge",
        "amount": 2000,
        "amount_captured": changes.get("amount", 2000),
        "amount_refunded": 500,
        "billing_details": {"email": "kim@shop.test"},
        "captured": True,
        "created": 1732683709,
        "currency": "usd",
        "customer": "cus_1",
        "invoice": None,
        "livemode": True,
        "paid": True,
        "refunded": False,
        "status": "succeeded",
        **changes,
    }


def stripe_event(charge: dict[str, Any]) -> dict[str, Any]:
    """The webhook charge.refunded."""
    return {
        "id": "evt_1",
        "object": "event",
        "api_version": "2024-06-20",
        "created": 1732752000,
        "type": "charge.refunded",
        "data": {"object": charge, "previous_attributes": {"amount_refunded": 0}},
    }


STRIPE_REFUND: Final[dict[str, Any]] = {
    "id": "re_1",
    "object": "refund",
    "amount": 500,
    "charge": "ch_1",
    "created": 1732752000,
    "currency": "usd",
    "payment_intent": "pi_1",
    "status": "succeeded",
}


def stripe_row(**changes: str) -> dict[str, str]:
    """A row of the payments that Stripe's dashboard exports, by headers in public repositories."""
    return {
        "id": "ch_1",
        "Created date (UTC)": "2024-11-27 05:01:49",
        "Amount": "20.00",
        "Amount Refunded": "5.00",
        "Currency": "usd",
        "Captured": "true",
        "Status": "Paid",
        "Customer ID": "cus_1",
        "Customer Email": "kim@shop.test",
        **changes,
    }


def magento_order(**changes: Any) -> dict[str, Any]:
    """An order of Magento's REST API: developer.adobe.com/commerce/webapi/rest."""
    return {
        "entity_id": 123,
        "increment_id": "000000123",
        "state": "complete",
        "status": "complete",
        "created_at": "2024-11-27 05:01:49",
        "updated_at": "2024-11-28 00:00:00",
        "customer_id": 42,
        "customer_email": "kim@shop.test",
        "customer_is_guest": 0,
        "base_currency_code": "EUR",
        "order_currency_code": "EUR",
        "base_grand_total": "62.5000",
        "grand_total": "62.5000",
        "total_refunded": "12.5000",
        "items": [{"item_id": 1, "price": "60.0000"}],
        **changes,
    }


def magento_row(**changes: str) -> dict[str, str]:
    """A row of the grid of orders that Magento's admin exports (sales_order_grid, ConvertToCsv)."""
    return {
        "ID": "000000123",
        "Purchase Point": "Main Website",
        "Purchase Date": "Nov 27, 2024 6:01:49 AM",
        "Bill-to Name": "Kim Doe",
        "Ship-to Name": "Kim Doe",
        "Grand Total (Base)": "62.5000",
        "Grand Total (Purchased)": "62.5000",
        "Status": "complete",
        "Customer Email": "kim@shop.test",
        **changes,
    }


def track(event: str, **properties: Any) -> dict[str, Any]:
    """A track call of Segment or RudderStack: src/connections/spec/ecommerce/v2.md of
    segmentio/segment-docs, and rudderstack.com/docs/event-spec/ecommerce-events-spec/ordering."""
    return {
        "type": "track",
        "event": event,
        "userId": "kim",
        "anonymousId": "507f191e",
        "messageId": "ajs-1",
        "originalTimestamp": "2024-11-27T05:01:49.123Z",
        "timestamp": "2024-11-27T05:01:49.123Z",
        "context": {"library": {"name": "analytics.js"}},
        "properties": {"order_id": "50314b8e", "currency": "USD", **properties},
    }


def ga4_param(key: str, kind: str, value: Any) -> dict[str, Any]:
    """An entry of event_params."""
    empty = dict.fromkeys(("string_value", "int_value", "float_value", "double_value"))
    return {"key": key, "value": {**empty, kind: value}}


def ga4_row(name: str) -> dict[str, Any]:
    """A row of Google Analytics 4 in BigQuery, as `bq extract` writes it:
    support.google.com/analytics/answer/7029846."""
    return {
        "event_date": "20241127",
        "event_timestamp": "1732683709123456",
        "event_name": name,
        "event_params": [
            ga4_param("currency", "string_value", "EUR"),
            ga4_param("value", "double_value", "27.5"),
            ga4_param("ga_session_id", "int_value", "17326837"),
        ],
        "user_id": None,
        "user_pseudo_id": "12345.678",
        "ecommerce": {
            "transaction_id": "T-1",
            "purchase_revenue": "27.5",
            "total_item_quantity": 1,
        },
        "items": [],
    }


def ga4_request() -> dict[str, Any]:
    """A request of the Measurement Protocol: developers.google.com, GA4, protocol reference."""
    money = {"currency": "EUR"}
    return {
        "client_id": "12345.678",
        "timestamp_micros": "1732683709123456",
        "events": [
            {"name": "page_view", "params": {}},
            {"name": "purchase", "params": {"transaction_id": "T-1", "value": "27.5", **money}},
            {"name": "refund", "params": {"transaction_id": "T-0", "value": "5.0", **money}},
            {"name": "refund", "params": {"transaction_id": "T-2"}},
        ],
    }


def braze(name: str, total: float) -> dict[str, Any]:
    """An event of Braze's /users/track: braze.com/docs, Recommended events."""
    return {
        "external_id": "kim",
        "app_id": "your_app_identifier",
        "name": f"ecommerce.{name}",
        "time": "2024-01-15T09:25:45Z",
        "properties": {
            "order_id": "order_67890",
            "cart_id": "cart_12345",
            "total_value": total,
            "currency": "USD",
            "total_discounts": 10.00,
            "products": [],
            "source": "https://braze-audio.com",
        },
    }

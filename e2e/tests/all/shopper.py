"""A shopper who knows nothing but the client that was generated from the gateway's OpenAPI document (`client`, beside this
on the path), with its types: signs up, logs in, browses, fills a cart, orders, and reads what came of it."""

import sys
import time
import uuid

from client import Client
from client.api.cart import cart_service_add_item, cart_service_get_cart
from client.api.customer import customer_service_create_account
from client.api.order import (
    order_service_get_order,
    order_service_get_order_history,
    order_service_list_orders,
    order_service_place_order,
)
from client.api.product import get_products_by_id, product_service_list_products
from client.api.session import log_in, who_am_i
from client.models import (
    AddItemRequest,
    Cart,
    CreateAccountRequest,
    Credentials,
    Customer,
    Identity,
    Order,
    Problem,
)

PASSWORD = "correct horse battery"
PATIENCE = 30  # seconds


def eventually(what, ask):
    """What `ask` comes to, once that is something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := ask():
            return found
        time.sleep(0.1)
    raise SystemExit(f"not within {PATIENCE} s: {what}")


client = Client(base_url=sys.argv[1])
email = f"shopper-{uuid.uuid4()}@example.com"
account = CreateAccountRequest(email=email, password=PASSWORD, name="A Shopper")
customer = customer_service_create_account.sync(client=client, body=account)
assert isinstance(customer, Customer) and customer.email == email, customer
again = customer_service_create_account.sync(client=client, body=account)
assert isinstance(again, Problem) and again.status == 409, again

opened = log_in.sync_detailed(client=client, body=Credentials(email=email, password=PASSWORD))
assert opened.status_code == 201 and isinstance(opened.parsed, Identity), opened
# The cookie is for https alone, which a library's jar takes at its word.
client = client.with_headers({"Cookie": opened.headers["set-cookie"].split(";")[0]})
me = who_am_i.sync(client=client)
assert isinstance(me, Identity) and me.subject == f"customers/{customer.id}" and "shop" in me.scopes, me

listed = product_service_list_products.sync(client=client, page_size=2)
assert len(listed.products) == 2 and listed.next_page_token, listed
more = product_service_list_products.sync(client=client, page_size=2, page_token=listed.next_page_token)
assert more.products[0].id not in {product.id for product in listed.products}, more
product = listed.products[0]
assert int(product.price.minor_units) > 0 and product.created_at.tzinfo, product

page = get_products_by_id.sync(client=client, id=product.id)
assert page.product.id == product.id and page.field_meta.parts.product.status == "ok", page
assert int(page.stock.available) >= 0, page

item = AddItemRequest(product_id=product.id, quantity="2")
# The cart's copy of the catalogue follows by events.
cart = eventually("it is in the cart", lambda: isinstance(made := cart_service_add_item.sync(client=client, body=item), Cart) and made)
assert cart.items[0].quantity == "2" and int(cart.total.minor_units) == 2 * int(product.price.minor_units), cart
assert cart_service_get_cart.sync(client=client).version == cart.version

wrong = cart_service_add_item.sync(client=client, body=AddItemRequest(product_id=product.id, quantity="-1"))
assert isinstance(wrong, Problem) and wrong.errors[0].field == "quantity", wrong

key = str(uuid.uuid4())
placed = order_service_place_order.sync_detailed(client=client, idempotency_key=key)
assert placed.status_code == 201 and isinstance(placed.parsed, Order), placed
order = placed.parsed
assert placed.headers["location"] == f"/orders/{order.id}", placed
assert order_service_place_order.sync(client=client, idempotency_key=key).id == order.id

settled = lambda: (now := order_service_get_order.sync(client=client, id=order.id)).status != "pending" and now
order = eventually("the order is settled", settled)
assert order.status == "confirmed", order
assert [line.product_id for line in order.lines] == [product.id], order
assert [one.id for one in order_service_list_orders.sync(client=client).orders] == [order.id]
history = order_service_get_order_history.sync(client=client, id=order.id)
assert [event.type_ for event in history.events][0] == "OrderPlaced", history
print("ordered", order.id)

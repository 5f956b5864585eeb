"""Emits an event: python emit.py NOTES/WRITTEN '{"text": "hello"}' --subject notes/1"""

import argparse
import json
import os

from turnpike_bus import Bus


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("address", help="QUEUE/EVENT")
    arguments.add_argument("data", nargs="?", type=json.loads, help="JSON")
    arguments.add_argument("--subject", default="", help="the entity; unless there is a key, what orders")
    arguments.add_argument("--key", default="", help="what orders")
    arguments.add_argument("--id", help="makes a repeat known for one")
    arguments.add_argument("--confirm", default="stored", choices=["stored", "fsynced", "delivered"])
    arguments.add_argument("--target", default=os.environ.get("TURNPIKE_TARGET", "127.0.0.1:8080"))
    given = arguments.parse_args()
    bus = Bus(given.target, api_key=os.environ.get("TURNPIKE_API_KEY"))
    receipt = bus.emit(
        given.address, given.data, id=given.id, subject=given.subject, key=given.key, confirm=given.confirm
    )
    told = {"id": receipt.id, "cursor": receipt.cursor, "duplicate": receipt.duplicate}
    if receipt.reason:
        told["not_confirmed"] = receipt.reason
    print(json.dumps(told))


if __name__ == "__main__":
    main()

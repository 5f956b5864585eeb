"""Follows queues without a group: python follow.py 'NOTES/*' --cursor-file place"""

import argparse
import json
import os
import pathlib

from turnpike_bus import Bus, cursor_of, read_data, wire


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("filter")
    arguments.add_argument("--cursor-file", type=pathlib.Path, help="where its place is kept from one run to the next")
    arguments.add_argument("--count", type=int, help="stops after so many events")
    arguments.add_argument("--target", default=os.environ.get("TURNPIKE_TARGET", "127.0.0.1:8080"))
    given = arguments.parse_args()
    file, left = given.cursor_file, given.count
    cursor = file.read_text() if file and file.exists() else None
    bus = Bus(given.target, api_key=os.environ.get("TURNPIKE_API_KEY"))
    for told in bus.subscribe(given.filter, cursor, begin=wire.EARLIEST):
        kind = told.WhichOneof("message")
        if kind == "event":
            event = told.event.event
            print(json.dumps({"id": event.id, "event": f"{event.queue}/{event.event}", "data": read_data(event)}), flush=True)
            left = left and left - 1
        elif kind == "gap":
            print(json.dumps({"gap": told.gap.reason, "lost": told.gap.lost}), flush=True)
        if file:
            file.write_text(cursor_of(told))
        if left == 0:
            return


if __name__ == "__main__":
    main()

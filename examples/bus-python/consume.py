"""Works as a member of a group, and prints what it handles: python consume.py readers 'NOTES/*'"""

import argparse
import json
import logging
import os
import signal
import sys
import threading

from turnpike_bus import Bus, Retry


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("group")
    arguments.add_argument("filter")
    arguments.add_argument("--mode", default="parallel", choices=["parallel", "keyed", "exclusive"])
    arguments.add_argument("--concurrency", type=int, default=8)
    arguments.add_argument("--lease", type=float, default=30.0, help="seconds")
    arguments.add_argument("--slow", type=float, default=0.0, help="seconds that handling takes")
    arguments.add_argument("--fail-first", action="store_true", help="fails each event's first attempt")
    arguments.add_argument("--count", type=int, help="stops after so many")
    arguments.add_argument("--target", default=os.environ.get("TURNPIKE_TARGET", "127.0.0.1:8080"))
    given = arguments.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)

    stop, printing, done = threading.Event(), threading.Lock(), []
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())

    def say(state, delivery):
        event = delivery.event
        told = {"state": state, "id": event.id, "event": f"{event.queue}/{event.event}", "attempt": delivery.attempt}
        with printing:
            print(json.dumps(told | {"key": event.partition_key or event.subject, "data": delivery.data}), flush=True)

    def handle(delivery):
        say("begun", delivery)
        if given.fail_first and delivery.attempt == 1:
            raise Retry("not at the first attempt", delay=0)
        # Whoever stops, or has lost the event, doesn't finish what it does.
        if delivery.lost.wait(given.slow):
            return
        say("done", delivery)
        done.append(delivery.event.id)
        if given.count and len(done) >= given.count:
            stop.set()

    bus = Bus(given.target, api_key=os.environ.get("TURNPIKE_API_KEY"))
    bus.consume(
        given.group,
        given.filter,
        handle,
        mode=given.mode,
        concurrency=given.concurrency,
        lease=given.lease,
        max_processing=max(900.0, given.lease),
        stop=stop,
    )


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Receives webhooks, and believes only what is signed: WEBHOOK_SECRET=whsec_… receiver.py [port]

What it prints is an event a line. An event that it has had it doesn't handle again: delivery is at least once.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

MOST = 2 * 1024 * 1024
webhook = Webhook(os.environ["WEBHOOK_SECRET"])
# A real receiver keeps them in its database, in the transaction that handles the event.
seen = set()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        if length > MOST:
            return self.answer(413)
        body = self.rfile.read(length)
        try:
            # Over the bytes as they came: JSON that was read and written again is other bytes.
            event = webhook.verify(body, dict(self.headers))
        except WebhookVerificationError as error:
            print(f"refused: {error}", file=sys.stderr, flush=True)
            return self.answer(401)
        known = (event["source"], event["id"])
        if known not in seen:
            seen.add(known)
            print(json.dumps(event), flush=True)
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
    ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()

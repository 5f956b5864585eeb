"""Verifies requests by the official library of Standard Webhooks: each line of the input is a secret, header fields, a body."""

import json
import sys

from standardwebhooks import Webhook

verified = 0
for line in sys.stdin:
    request = json.loads(line)
    event = Webhook(request["secret"]).verify(request["body"], request["headers"])
    assert event == json.loads(request["body"])
    verified += 1
print(verified)

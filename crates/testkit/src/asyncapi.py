"""Checks an AsyncAPI document by the official JSON schema, and that each of its references leads somewhere."""

import json
import sys

import jsonschema

with open(sys.argv[1]) as file:
    document = json.load(file)
with open(sys.argv[2]) as file:
    schema = json.load(file)
faults = []
for fault in jsonschema.Draft7Validator(schema).iter_errors(document):
    # What is said below "not valid under any of the given schemas" names the place.
    for part in [fault, *(fault.context or [])]:
        faults.append(f"{'/'.join(map(str, part.absolute_path))}: {part.message[:400]}")


def look(where, node):
    if isinstance(node, list):
        for place, item in enumerate(node):
            look(f"{where}/{place}", item)
    if not isinstance(node, dict):
        return
    reference = node.get("$ref")
    if isinstance(reference, str):
        target = document
        for part in reference.removeprefix("#/").split("/"):
            target = target.get(part) if isinstance(target, dict) else None
        if target is None:
            faults.append(f"{where}: {reference} leads nowhere")
    for name, value in node.items():
        look(f"{where}/{name}", value)


look("", document)
for name, operation in document["operations"].items():
    channel = operation["channel"]["$ref"] + "/messages/"
    faults.extend(
        f"operations/{name}: {message['$ref']} is not its channel's"
        for message in operation.get("messages", [])
        if not message["$ref"].startswith(channel)
    )
if faults:
    sys.exit("\n".join(faults))

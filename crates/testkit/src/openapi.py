"""Checks an OpenAPI document, and every example in it by its own schema. Prints how many examples there are."""

import json
import sys

import jsonschema
from openapi_spec_validator import OpenAPIV31SpecValidator

with open(sys.argv[1]) as file:
    document = json.load(file)
faults = [f"{'/'.join(map(str, fault.path))}: {fault.message}" for fault in OpenAPIV31SpecValidator(document).iter_errors()]
count = 0


def check(where, schema, examples):
    global count
    whole = {"components": document["components"], "allOf": [schema]}
    validator = jsonschema.Draft202012Validator(whole, format_checker=jsonschema.FormatChecker())
    for example in examples:
        count += 1
        faults.extend(f"{where}: {fault.json_path}: {fault.message}" for fault in validator.iter_errors(example))


def look(where, node):
    if isinstance(node, list):
        for place, item in enumerate(node):
            look(f"{where}/{place}", item)
    if not isinstance(node, dict):
        return
    if "example" in node and "schema" in node:
        check(where, node["schema"], [node["example"]])
    elif isinstance(node.get("examples"), list):
        check(where, {key: value for key, value in node.items() if key != "examples"}, node["examples"])
    for name, value in node.items():
        if name not in ("example", "examples"):
            look(f"{where}/{name}", value)


look("", document)
ids = [
    operation["operationId"]
    for item in document["paths"].values()
    for operation in item.values()
    if isinstance(operation, dict) and "operationId" in operation
]
faults.extend(f"{one} stands there twice" for one in set(ids) if ids.count(one) > 1)
if faults:
    sys.exit("\n".join(faults))
print(count)

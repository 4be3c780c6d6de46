"""What the receiver got: one span for each exchange, with its stages, and the one below its caller's."""

import json
import sys

spans = []
for line in open(sys.argv[1]):
    resource = json.loads(line)
    name = {attribute["key"]: attribute["value"] for attribute in resource["resource"]["attributes"]}
    assert name["service.name"]["stringValue"] == "countersign", name
    for scope in resource["scopeSpans"]:
        spans += scope["spans"]
assert spans and all(span["name"] == "exchange" for span in spans), spans
granted = [span for span in spans if len(span.get("events", [])) >= 7]
assert granted, spans
stages = [
    attribute["value"]["stringValue"]
    for event in granted[0]["events"]
    for attribute in event["attributes"]
    if attribute["key"] == "stage"
]
assert stages[:7] == ["parse", "keys", "verify", "bind", "decide", "mint", "record"], stages
ids = [attribute["value"]["stringValue"] for span in spans for attribute in span["attributes"] if attribute["key"] == "decision"]
assert len(ids) == len(set(ids)) == len(spans), "one span a decision"
import base64

parent = [span for span in spans if base64.b64decode(span.get("parentSpanId", "")).hex() == "00f067aa0ba902b7"]
assert [base64.b64decode(span["traceId"]).hex() for span in parent] == ["4bf92f3577b34da6a3ce929d0e0e4736"], parent
refused = [
    attribute for span in spans for attribute in span["attributes"] if attribute["key"] == "reason"
]
assert refused, "a refusal says why"
text = open(sys.argv[1]).read()
assert "eyJ" not in text, "no token in a span"
print(f"oteltest: {len(spans)} spans, each with its decision and its stages; one below its caller's")

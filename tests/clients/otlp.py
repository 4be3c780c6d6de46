"""PyPI oteltest: a receiver of OTLP. Writes each span as a line of JSON, until it is ended."""

import http.server
import json
import logging
import sys
import threading

from google.protobuf.json_format import MessageToDict
from oteltest import sink


class Loopback(http.server.HTTPServer):
    """The sink listens everywhere; this one only here."""

    def __init__(self, address, handler):
        super().__init__(("127.0.0.1", address[1]), handler)


class Writer:
    def handle_trace(self, request, headers):
        with open(sys.argv[2], "a") as spans:
            for resource in MessageToDict(request)["resourceSpans"]:
                spans.write(json.dumps(resource) + "\n")


sink.HTTPServer = Loopback
sink.HttpSink(Writer(), logging.getLogger("otlp"), port=int(sys.argv[1])).start()
threading.Event().wait()

"""Stands where an API server of Kubernetes would: verifies the Bearer as its JWT authenticator does, and lists one pod."""

import http.server
import json
import os
import ssl
import sys

import jwt

BROKER, ORDERS = os.environ["BROKER"], os.environ["ORDERS"]
keys = jwt.PyJWKClient(BROKER + "/jwks")


class Pods(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        try:
            jwt.decode(token, keys.get_signing_key_from_jwt(token), algorithms=["ES256"], audience=ORDERS, issuer=BROKER)
            pod = {"metadata": {"name": "orders-0"}, "spec": {"containers": []}}
            code, body = 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [pod]}
        except jwt.PyJWTError as fault:
            code, body = 401, {"kind": "Status", "apiVersion": "v1", "code": 401, "message": str(fault)}
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Pods)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("tls.pem", "tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()

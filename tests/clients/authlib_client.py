"""PyPI Authlib: private_key_jwt for this broker, a token exchange, an introspection, a revocation."""

import os
import sys

from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT

BROKER = os.environ["BROKER"]
assertion = open(sys.argv[1]).read().strip()
method = "private_key_jwt"
session = OAuth2Session(
    "pypi", open("pypi.pem").read(), token_endpoint_auth_method=method, revocation_endpoint_auth_method=method
)
# Authlib puts what it is given here into `aud`: the issuer, and not the endpoint (RFC 7523bis).
session.register_client_auth_method(PrivateKeyJWT(BROKER, headers={"kid": "p1"}))
token = session.fetch_token(
    BROKER + "/token",
    grant_type="urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token=assertion,
    subject_token_type="urn:ietf:params:oauth:token-type:jwt",
    audience=os.environ["ORDERS"],
)
assert token["scope"] == "orders:read" and token["expires_in"] > 0
answer = session.introspect_token(BROKER + "/introspect", token=token["access_token"])
assert answer.json()["active"] is True, answer.text
answer = session.revoke_token(BROKER + "/revoke", token=token["access_token"])
assert answer.status_code == 200, answer.text
answer = session.introspect_token(BROKER + "/introspect", token=token["access_token"])
assert answer.json() == {"active": False}, answer.text
print("Authlib: private_key_jwt, exchanged, introspected, revoked")

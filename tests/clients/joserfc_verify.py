"""PyPI joserfc: verifies what the broker signs with RS256 and with EdDSA, by /jwks alone."""

import os
import sys

import requests
from joserfc import jwt
from joserfc.jwk import KeySet

BROKER = os.environ["BROKER"]
keys = KeySet.import_key_set(requests.get(BROKER + "/jwks", timeout=5).json())
for path, algorithm, audience in zip(*[iter(sys.argv[1:])] * 3):
    token = jwt.decode(open(path).read().strip(), keys, algorithms=[algorithm])
    assert token.header["alg"] == algorithm and token.header["typ"] == "at+jwt", token.header
    registry = jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": BROKER}, aud={"essential": True, "value": audience}, exp={"essential": True}
    )
    registry.validate(token.claims)
    assert isinstance(token.claims["aud"], str), "Azure and AWS take a string"
    print(f"joserfc: verified {algorithm}")

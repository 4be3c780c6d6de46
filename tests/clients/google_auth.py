"""PyPI google-auth: an external account whose token_url is the broker, as a credential configuration file sets it up."""

import os
import sys

from google.auth import identity_pool
from google.auth.transport.requests import Request

credentials = identity_pool.Credentials.from_info(
    {
        "type": "external_account",
        "audience": os.environ["ORDERS"],
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": os.environ["BROKER"] + "/token",
        "credential_source": {"file": sys.argv[1]},
    }
).with_scopes(["orders:read"])
credentials.refresh(Request())
assert credentials.valid and credentials.expiry is not None
print("google-auth: exchanged", file=sys.stderr)
print(credentials.token)

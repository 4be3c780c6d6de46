"""PyPI azure-identity and msal: SDKs that speak no RFC 8693 ask for `<target>/.default` with the pod's own token."""

import base64
import json
import os

import msal
from azure.identity import WorkloadIdentityCredential

BROKER, ORDERS = os.environ["BROKER"], os.environ["ORDERS"]
CLIENT = "11111111-2222-3333-4444-555555555555"


def claims(token):
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


credential = WorkloadIdentityCredential(
    tenant_id="acme",
    client_id=CLIENT,
    token_file_path="pod.jwt",
    authority=BROKER,
    disable_instance_discovery=True,
)
got = claims(credential.get_token(ORDERS + "/.default").token)
assert got["sub"] == "cluster:system:serviceaccount:prod:deployer", got
assert (got["aud"], got["client_id"], got["scope"]) == (ORDERS, CLIENT, "orders:read"), got

app = msal.ConfidentialClientApplication(
    CLIENT,
    client_credential={"client_assertion": open("pod.jwt").read().strip()},
    authority=BROKER + "/acme",
    instance_discovery=False,
)
answer = app.acquire_token_for_client(scopes=[ORDERS + "/.default"])
assert claims(answer["access_token"])["sub"] == got["sub"], answer
refused = app.acquire_token_for_client(scopes=["https://unknown.test/.default"])
assert refused["error"] == "invalid_target", refused
print("azure-identity and msal: a pod's token became one for orders")

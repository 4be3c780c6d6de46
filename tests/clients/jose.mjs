// Verifies a minted token with what the broker publishes, as a resource server would.
import assert from "node:assert/strict";
import { createRemoteJWKSet, jwtVerify } from "jose";

export async function verify(token) {
  const keys = createRemoteJWKSet(new URL(`${process.env.BROKER}/jwks`));
  const { payload } = await jwtVerify(token, keys, {
    issuer: process.env.BROKER,
    audience: process.env.ORDERS,
    typ: "at+jwt",
    algorithms: ["ES256"],
    requiredClaims: ["sub", "client_id", "iat", "nbf", "exp", "jti", "scope"],
  });
  assert.equal(payload.sub, "github:repo:acme/app:ref:refs/heads/main");
  await assert.rejects(jwtVerify(token, keys, { issuer: process.env.BROKER, audience: "https://other.test" }));
  return payload;
}

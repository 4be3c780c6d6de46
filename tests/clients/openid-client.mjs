// npm openid-client: discovery, a token exchange, and a refusal, as any user of it would write them.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import * as client from "openid-client";
import { verify } from "./jose.mjs";

const assertion = readFileSync(0, "utf8").trim();
const GRANT = "urn:ietf:params:oauth:grant-type:token-exchange";
const parameters = (audience) => ({
  subject_token: assertion,
  subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
  audience,
  scope: "",
});

for (const algorithm of ["oauth2", "oidc"]) {
  const config = await client.discovery(new URL(process.env.BROKER), "ci", undefined, client.None(), { algorithm });
  assert.equal(config.serverMetadata().token_endpoint, `${process.env.BROKER}/token`);
}
const config = await client.discovery(new URL(process.env.BROKER), "ci", undefined, client.None(), { algorithm: "oauth2" });

await assert.rejects(client.genericGrantRequest(config, GRANT, parameters("https://unknown.test")), (fault) => {
  assert.equal(fault.error, "invalid_target");
  assert.equal(fault.status, 400);
  return true;
});
const answer = await client.genericGrantRequest(config, GRANT, parameters(process.env.ORDERS));
assert.equal(answer.token_type, "bearer");
assert.equal(answer.issued_token_type, "urn:ietf:params:oauth:token-type:access_token");
assert.equal(answer.scope, "orders:read");
await verify(answer.access_token);
await client.tokenRevocation(config, answer.access_token);
console.log("openid-client: discovered, refused, exchanged, revoked");

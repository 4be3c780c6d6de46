// npm oauth4webapi: private_key_jwt, a token exchange, and an introspection whose answer is signed (RFC 9701) and checked.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import * as oauth from "oauth4webapi";
import { importPKCS8 } from "jose";
import { verify } from "./jose.mjs";

const assertion = readFileSync(0, "utf8").trim();
const issuer = new URL(process.env.BROKER);
const as = await oauth
  .discoveryRequest(issuer, { algorithm: "oauth2" })
  .then((response) => oauth.processDiscoveryResponse(issuer, response));
const client = { client_id: "npm", introspection_signed_response_alg: "ES256" };
const key = { key: await importPKCS8(readFileSync("npm.pem", "utf8"), "ES256"), kid: "n1" };
const authenticate = oauth.PrivateKeyJwt(key);

const exchanged = await oauth.genericTokenEndpointRequest(
  as,
  client,
  authenticate,
  "urn:ietf:params:oauth:grant-type:token-exchange",
  {
    subject_token: assertion,
    subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
    audience: process.env.ORDERS,
  },
);
const token = await oauth.processGenericTokenEndpointResponse(as, client, exchanged);
assert.equal(token.issued_token_type, "urn:ietf:params:oauth:token-type:access_token");
const payload = await verify(token.access_token);
assert.equal(payload.client_id, "npm");

const response = await oauth.introspectionRequest(as, client, authenticate, token.access_token, { requestJwtResponse: true });
const signed = response.clone();
const introspected = await oauth.processIntrospectionResponse(as, client, response);
assert.equal(introspected.active, true);
assert.equal(introspected.jti, payload.jti);
assert.match(signed.headers.get("content-type"), /^application\/token-introspection\+jwt/);
await oauth.validateApplicationLevelSignature(as, response);

const plain = { client_id: "orders-api" };
const secret = oauth.ClientSecretPost(process.env.CLIENT_SECRET);
const asked = await oauth.introspectionRequest(as, plain, secret, token.access_token);
assert.equal((await oauth.processIntrospectionResponse(as, plain, asked)).active, true);
console.log("oauth4webapi: private_key_jwt, exchanged, introspected with a signed answer, client_secret_post");

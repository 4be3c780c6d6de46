// A fresh assertion on standard output, without a line end: `mint.mjs github|pod`. Or, as `mint.mjs endpoint`, what a job of
// GitHub Actions finds at ACTIONS_ID_TOKEN_REQUEST_URL, until it is ended.
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { randomUUID } from "node:crypto";
import { importPKCS8, SignJWT } from "jose";

const key = (name) => importPKCS8(readFileSync(`${name}.pem`, "utf8"), "RS256");

async function github(audience) {
  const claims = { repository: "acme/app", repository_id: "74", repository_owner: "acme", repository_owner_id: "41", ref: "refs/heads/main", event_name: "push" };
  return new SignJWT(claims)
    .setProtectedHeader({ alg: "RS256", typ: "JWT", kid: "k1" })
    .setIssuer("https://token.actions.githubusercontent.com")
    .setSubject("repo:acme/app:ref:refs/heads/main")
    .setAudience(audience)
    .setJti(randomUUID())
    .setIssuedAt()
    .setExpirationTime("5m")
    .sign(await key("github"));
}

async function pod(audience) {
  return new SignJWT({})
    .setProtectedHeader({ alg: "RS256", kid: "c1" })
    .setIssuer("https://cluster.test")
    .setSubject("system:serviceaccount:prod:deployer")
    .setAudience([audience])
    .setIssuedAt()
    .setExpirationTime("50m")
    .sign(await key("cluster"));
}

const kind = process.argv[2];
if (kind === "endpoint") {
  const server = createServer(async (request, response) => {
    const url = new URL(request.url, "http://127.0.0.1");
    const known = request.headers.authorization === "Bearer runner-secret";
    response.writeHead(known ? 200 : 401, { "content-type": "application/json" });
    response.end(JSON.stringify(known ? { value: await github(url.searchParams.get("audience")) } : {}));
  });
  server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/token?api-version=2.0`));
} else {
  process.stdout.write(await { github, pod }[kind](process.env.BROKER));
}

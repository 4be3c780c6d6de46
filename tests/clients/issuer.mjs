// Signs three assertions, shaped like GitHub's, and publishes the key that verifies them.
import { writeFileSync } from "node:fs";
import { randomUUID } from "node:crypto";
import { exportJWK, generateKeyPair, SignJWT } from "jose";

const { publicKey, privateKey } = await generateKeyPair("RS256");
const jwk = { ...(await exportJWK(publicKey)), kid: "k1", alg: "RS256", use: "sig" };
writeFileSync("github.jwks", JSON.stringify({ keys: [jwk] }));

for (const name of ["first", "second", "third"]) {
  const claims = { repository: "acme/app", repository_id: "74", repository_owner: "acme", repository_owner_id: "41", ref: "refs/heads/main" };
  const token = await new SignJWT(claims)
    .setProtectedHeader({ alg: "RS256", typ: "JWT", kid: "k1" })
    .setIssuer("https://token.actions.githubusercontent.com")
    .setSubject("repo:acme/app:ref:refs/heads/main")
    .setAudience(process.env.BROKER)
    .setJti(randomUUID())
    .setIssuedAt()
    .setExpirationTime("5m")
    .sign(privateKey);
  writeFileSync(`${name}.jwt`, token);
}

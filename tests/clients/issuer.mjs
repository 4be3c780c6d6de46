// Signs assertions, shaped like GitHub's and like a cluster's, and publishes the keys that verify them and the clients'.
import { writeFileSync } from "node:fs";
import { randomUUID } from "node:crypto";
import { exportJWK, exportPKCS8, generateKeyPair, SignJWT } from "jose";

async function keys(name, alg, kid) {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  const jwk = { ...(await exportJWK(publicKey)), kid, alg, use: "sig" };
  writeFileSync(`${name}.jwks`, JSON.stringify({ keys: [jwk] }));
  return privateKey;
}

const github = await keys("github", "RS256", "k1");
for (const name of ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"]) {
  const claims = { repository: "acme/app", repository_id: "74", repository_owner: "acme", repository_owner_id: "41", ref: "refs/heads/main", event_name: "push" };
  const token = await new SignJWT(claims)
    .setProtectedHeader({ alg: "RS256", typ: "JWT", kid: "k1" })
    .setIssuer("https://token.actions.githubusercontent.com")
    .setSubject("repo:acme/app:ref:refs/heads/main")
    .setAudience(process.env.BROKER)
    .setJti(randomUUID())
    .setIssuedAt()
    .setExpirationTime("5m")
    .sign(github);
  writeFileSync(`${name}.jwt`, token);
}

// What a pod finds in its file, again and again.
const cluster = await keys("cluster", "RS256", "c1");
const pod = await new SignJWT({})
  .setProtectedHeader({ alg: "RS256", kid: "c1" })
  .setIssuer("https://cluster.test")
  .setSubject("system:serviceaccount:prod:deployer")
  .setAudience([process.env.BROKER])
  .setIssuedAt()
  .setExpirationTime("50m")
  .sign(cluster);
writeFileSync("pod.jwt", pod);

// A client that signs its own assertions, one of each kind of key.
writeFileSync("npm.pem", await exportPKCS8(await keys("npm", "ES256", "n1")));
writeFileSync("pypi.pem", await exportPKCS8(await keys("pypi", "RS256", "p1")));

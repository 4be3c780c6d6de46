// Key pairs of issuers and clients: private keys as PEM, public ones as the sets that the broker reads.
import { writeFileSync } from "node:fs";
import { exportJWK, exportPKCS8, generateKeyPair } from "jose";

for (const [name, alg, kid] of [["github", "RS256", "k1"], ["cluster", "RS256", "c1"], ["npm", "ES256", "n1"], ["pypi", "RS256", "p1"]]) {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  const jwk = { ...(await exportJWK(publicKey)), kid, alg, use: "sig" };
  writeFileSync(`${name}.jwks`, JSON.stringify({ keys: [jwk] }));
  writeFileSync(`${name}.pem`, await exportPKCS8(privateKey));
}

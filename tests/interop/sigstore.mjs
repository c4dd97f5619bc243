// Probegate's receipts, judged by sigstore-js: the verifier that npm itself uses, none of it ours.
//
// @sigstore/verify reads the same signed notes, checkpoints and RFC 6962 inclusion proofs (Rekor's).
// It offers no function for a proof alone, so its own two modules are asked, with the log's key put
// where the sigstore trust root would name it. It knows no tiles, no .tlog-proof file and no
// consistency proofs: log.mjs reads those.
//
//   node sigstore.mjs --modules=FOLDER   JSON receipts on standard input, verdicts on standard output

import { createHash, createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { parseArgs } from "node:util";

const ED25519_SPKI = Buffer.from("302a300506032b6570032100", "hex"); // RFC 8410 section 4
const { values } = parseArgs({ options: { modules: { type: "string" } } });
const require = createRequire(join(values.modules, "package.json"));
const inside = join(values.modules, "node_modules", "@sigstore", "verify", "dist", "tlog");
const { verifyCheckpoint } = require(join(inside, "checkpoint.js"));
const { verifyMerkleInclusion } = require(join(inside, "merkle.js"));

/** The log as a sigstore trust root names it. */
function authority(vkey) {
  const [name, , ...encoded] = vkey.split("+");
  const raw = Buffer.from(encoded.join("+"), "base64");
  const id = createHash("sha256").update(`${name}\n`).update(raw).digest();
  const key = Buffer.concat([ED25519_SPKI, raw.subarray(1)]);
  return {
    logID: id,
    publicKey: createPublicKey({ key, format: "der", type: "spki" }),
    baseURL: `https://${name}`,
    validFor: { start: new Date(0), end: new Date(8.64e15) },
  };
}

/** A .tlog-proof as an entry of a sigstore bundle. */
function bundled(text, leaf) {
  const at = text.indexOf("\n\n");
  const [, index, ...hashes] = text.slice(0, at).split("\n");
  return {
    canonicalizedBody: Buffer.from(leaf, "base64"),
    inclusionProof: {
      logIndex: index.replace("index ", ""),
      hashes: hashes.map((one) => Buffer.from(one, "base64")),
      checkpoint: { envelope: text.slice(at + 2) },
    },
  };
}

const verdicts = JSON.parse(readFileSync(0, "utf8")).map(({ text, leaf, vkey }) => {
  try {
    const entry = bundled(text, leaf);
    verifyMerkleInclusion(entry, verifyCheckpoint(entry, [authority(vkey)]));
    return null;
  } catch (error) {
    return error.message;
  }
});
process.stdout.write(`${JSON.stringify(verdicts)}\n`);

// An independent reader and writer of Probegate's logs: Node's own crypto and files, nothing else.
//
// No package on npm reads C2SP tile logs or checks RFC 6962 consistency proofs, so this is written
// from the specifications that docs/verify/README.md names (signed-note, tlog-checkpoint, tlog-tiles,
// tlog-proof, RFC 9162 section 2.1), not from our Python. What a package does cover, checkpoints and
// inclusion proofs, is checked with that package as well (sigstore.mjs).
//
//   node log.mjs folder FOLDER VKEY [OTHER]   verify a whole log, and what OTHER's entries embed of it
//   node log.mjs judge                        JSON cases on standard input, verdicts on standard output
//   node log.mjs make FOLDER ORIGIN COUNT     write a log; print its vkey, receipts and proofs
//
// One JSON document goes to standard output. A failure is one line on standard error and exit code 1.

import { createHash, createPublicKey, generateKeyPairSync, sign, verify } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const WIDTH = 256;
const HASH = 32;
const ED25519_SPKI = Buffer.from("302a300506032b6570032100", "hex"); // RFC 8410 section 4
const ED25519 = 1; // the signature type of a log's key
const DASH = "\u2014 ";

function insist(condition, message) {
  if (!condition) throw new Error(message);
}

// --- hashes ------------------------------------------------------------------------------------

const sha256 = (...parts) => parts.reduce((hash, one) => hash.update(one), createHash("sha256")).digest();
const leafHash = (entry) => sha256(Buffer.from([0]), entry);
const nodeHash = (left, right) => sha256(Buffer.from([1]), left, right);

/** MTH of RFC 9162 section 2.1.1. */
function treeHash(hashes) {
  if (hashes.length === 0) return sha256();
  if (hashes.length === 1) return hashes[0];
  let split = 1;
  while (split * 2 < hashes.length) split *= 2;
  return nodeHash(treeHash(hashes.slice(0, split)), treeHash(hashes.slice(split)));
}

/** RFC 9162 section 2.1.3.2. */
function checkInclusion(index, size, leaf, proof, root) {
  insist(index < size, "no such entry");
  let [fn, sn, r] = [BigInt(index), BigInt(size) - 1n, leaf];
  for (const p of proof) {
    insist(sn !== 0n, "the inclusion proof is too long");
    if ((fn & 1n) === 1n || fn === sn) {
      r = nodeHash(p, r);
      while ((fn & 1n) === 0n && fn !== 0n) [fn, sn] = [fn >> 1n, sn >> 1n];
    } else {
      r = nodeHash(r, p);
    }
    [fn, sn] = [fn >> 1n, sn >> 1n];
  }
  insist(sn === 0n && r.equals(root), "the inclusion proof does not lead to the root");
}

/** RFC 9162 section 2.1.4.2, for 0 < first <= second. */
function checkConsistency(first, second, proof, firstRoot, secondRoot) {
  insist(first > 0 && first <= second, "no such sizes");
  if (first === second) {
    insist(proof.length === 0 && firstRoot.equals(secondRoot), "one size and two roots");
    return;
  }
  const path = (first & (first - 1)) === 0 ? [firstRoot, ...proof] : [...proof];
  insist(path.length > 0, "the consistency proof is empty");
  let [fn, sn] = [BigInt(first) - 1n, BigInt(second) - 1n];
  while ((fn & 1n) === 1n) [fn, sn] = [fn >> 1n, sn >> 1n];
  let fr = path[0];
  let sr = path[0];
  for (const c of path.slice(1)) {
    insist(sn !== 0n, "the consistency proof is too long");
    if ((fn & 1n) === 1n || fn === sn) {
      fr = nodeHash(c, fr);
      sr = nodeHash(c, sr);
      while ((fn & 1n) === 0n && fn !== 0n) [fn, sn] = [fn >> 1n, sn >> 1n];
    } else {
      sr = nodeHash(sr, c);
    }
    [fn, sn] = [fn >> 1n, sn >> 1n];
  }
  const leads = sn === 0n && fr.equals(firstRoot) && sr.equals(secondRoot);
  insist(leads, "the consistency proof does not lead to both roots");
}

// --- notes -------------------------------------------------------------------------------------

/** Base64 with padding and no spelling but one. */
function decodeBase64(text) {
  const raw = Buffer.from(text, "base64");
  insist(raw.toString("base64") === text, "malformed base64");
  return raw;
}

const keyId = (name, key) => sha256(Buffer.from(`${name}\n`), Buffer.from([ED25519]), key).subarray(0, 4);

function parseVkey(text) {
  const [name, id, ...rest] = text.trim().split("+");
  const raw = decodeBase64(rest.join("+"));
  insist(raw.length === 1 + HASH && raw[0] === ED25519, "not an Ed25519 vkey");
  const key = raw.subarray(1);
  insist(keyId(name, key).toString("hex") === id, "the vkey's id is not its key's");
  return { name, id: Buffer.from(id, "hex"), key };
}

/** Verify a checkpoint under its log's key; return what it says. */
function openCheckpoint(note, vkeyText) {
  const vkey = parseVkey(vkeyText);
  const at = note.lastIndexOf("\n\n");
  insist(at >= 0 && note.endsWith("\n"), "not a signed note");
  const text = note.slice(0, at + 1);
  const spki = Buffer.concat([ED25519_SPKI, vkey.key]);
  const publicKey = createPublicKey({ key: spki, format: "der", type: "spki" });
  let signed = false;
  for (const line of note.slice(at + 2, -1).split("\n")) {
    const [name, encoded, ...more] = line.slice(DASH.length).split(" ");
    insist(line.startsWith(DASH) && encoded && more.length === 0, "malformed signature line");
    const payload = decodeBase64(encoded);
    if (name !== vkey.name || !payload.subarray(0, 4).equals(vkey.id)) continue;
    const good = verify(null, Buffer.from(text), publicKey, payload.subarray(4));
    insist(good, "the checkpoint's signature does not verify");
    signed = true;
  }
  insist(signed, "the checkpoint is not signed by this key");
  const [origin, digits, root, ...more] = text.split("\n");
  insist(origin === vkey.name && more.length === 1 && more[0] === "", "not a checkpoint of this log");
  insist(/^(0|[1-9][0-9]{0,15})$/.test(digits), "malformed size");
  const hash = decodeBase64(root);
  insist(hash.length === HASH, "malformed root");
  return { origin, size: Number(digits), root: hash };
}

function checkReceipt(text, leaf, vkey) {
  const [head, ...note] = text.split("\n\n");
  const lines = head.split("\n");
  insist(lines.shift() === "c2sp.org/tlog-proof@v1", "not a tlog-proof");
  if (lines[0]?.startsWith("extra ")) lines.shift();
  const index = /^index (0|[1-9][0-9]{0,15})$/.exec(lines.shift() ?? "");
  insist(index, "the receipt has no index");
  const { size, root } = openCheckpoint(note.join("\n\n"), vkey);
  checkInclusion(Number(index[1]), size, leafHash(leaf), lines.map(decodeBase64), root);
}

// --- tiles -------------------------------------------------------------------------------------

function tilePath(level, number, width) {
  const digits = String(number);
  const groups = digits.padStart(Math.ceil(digits.length / 3) * 3, "0").match(/.../g);
  const last = groups.pop();
  const path = ["tile", level, ...groups.map((one) => `x${one}`), last].join("/");
  return width === WIDTH ? path : `${path}.p/${width}`;
}

/** A tile's bytes; a partial one may already have become full. */
function readTile(folder, level, number, width) {
  const paths = [tilePath(level, number, width), tilePath(level, number, WIDTH)];
  const found = paths.map((one) => join(folder, one)).find((one) => existsSync(one));
  insist(found, `${paths[0]}: missing`);
  return readFileSync(found);
}

function readHashes(folder, level, number, width) {
  const raw = readTile(folder, level, number, width);
  insist([width * HASH, WIDTH * HASH].includes(raw.length), `${tilePath(level, number, width)}: length`);
  return Array.from({ length: width }, (_, at) => raw.subarray(at * HASH, (at + 1) * HASH));
}

function readEntries(folder, number, width) {
  const raw = readTile(folder, "entries", number, width);
  const entries = [];
  let at = 0;
  while (at < raw.length) {
    insist(at + 2 <= raw.length, "a bundle is cut short");
    const end = at + 2 + raw.readUInt16BE(at);
    insist(end <= raw.length, "a bundle is cut short");
    entries.push(raw.subarray(at + 2, end));
    at = end;
  }
  insist([width, WIDTH].includes(entries.length), `${tilePath("entries", number, width)}: entries`);
  return entries.slice(0, width);
}

function* allEntries(folder, size) {
  for (let number = 0; number * WIDTH < size; number += 1) {
    yield* readEntries(folder, number, Math.min(WIDTH, size - number * WIDTH));
  }
}

/** Hash every entry anew, compare every tile of every level, and the root. */
function verifyFolder(folder, vkey) {
  const checkpoint = openCheckpoint(readFileSync(join(folder, "checkpoint"), "utf8"), vkey);
  const leaves = [];
  for (const entry of allEntries(folder, checkpoint.size)) {
    const said = JSON.parse(entry.toString("utf8"));
    insist(said !== null && typeof said === "object" && !Array.isArray(said), "not a JSON object");
    leaves.push(leafHash(entry));
  }
  let hashes = leaves;
  for (let level = 0; hashes.length > 0; level += 1) {
    const above = [];
    for (let first = 0; first < hashes.length; first += WIDTH) {
      const held = hashes.slice(first, first + WIDTH);
      const tile = readHashes(folder, level, first / WIDTH, held.length);
      const same = tile.every((one, at) => one.equals(held[at]));
      insist(same, `${tilePath(level, first / WIDTH, held.length)}: other hashes than the entries'`);
      if (held.length === WIDTH) above.push(treeHash(held));
    }
    hashes = above;
  }
  insist(treeHash(leaves).equals(checkpoint.root), "the entries do not hash to the signed root");
  return { ...checkpoint, leaves };
}

/** The checkpoints of a log that an entry of another log embeds, as notes. */
function* embedded(said, origin) {
  if (said === null || typeof said !== "object") return;
  if (said.origin === origin && "signature" in said) {
    const root = Buffer.from(said.root, "hex").toString("base64");
    yield `${origin}\n${said.size}\n${root}\n\n${DASH}${origin} ${said.signature}\n`;
  }
  for (const one of Object.values(said)) yield* embedded(one, origin);
}

/** Hold a verified log to every checkpoint of it in another log's entries; return how many. */
function holdTo(log, vkey, other) {
  const size = Number(readFileSync(join(other, "checkpoint"), "utf8").split("\n")[1]);
  let count = 0;
  for (const entry of allEntries(other, size)) {
    for (const note of embedded(JSON.parse(entry.toString("utf8")), log.origin)) {
      const shown = openCheckpoint(note, vkey);
      insist(shown.size <= log.size, "the other log embeds a longer log than this");
      const root = treeHash(log.leaves.slice(0, shown.size));
      insist(root.equals(shown.root), "the other log embeds another history");
      count += 1;
    }
  }
  return count;
}

// --- writing -----------------------------------------------------------------------------------

function put(folder, name, content) {
  mkdirSync(dirname(join(folder, name)), { recursive: true });
  writeFileSync(join(folder, name), content);
}

/** RFC 9162 section 2.1.3.1. */
function inclusionPath(index, hashes) {
  if (hashes.length <= 1) return [];
  let split = 1;
  while (split * 2 < hashes.length) split *= 2;
  const [left, right] = [hashes.slice(0, split), hashes.slice(split)];
  return index < split
    ? [...inclusionPath(index, left), treeHash(right)]
    : [...inclusionPath(index - split, right), treeHash(left)];
}

/** RFC 9162 section 2.1.4.1. */
function consistencyPath(first, hashes, whole = true) {
  if (first === hashes.length) return whole ? [] : [treeHash(hashes)];
  let split = 1;
  while (split * 2 < hashes.length) split *= 2;
  const [left, right] = [hashes.slice(0, split), hashes.slice(split)];
  return first <= split
    ? [...consistencyPath(first, left, whole), treeHash(right)]
    : [...consistencyPath(first - split, right, false), treeHash(left)];
}

function makeLog(folder, origin, count) {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const key = publicKey.export({ format: "der", type: "spki" }).subarray(ED25519_SPKI.length);
  const id = keyId(origin, key);
  const vkey = `${origin}+${id.toString("hex")}+${Buffer.concat([Buffer.from([ED25519]), key]).toString("base64")}`;
  const entries = Array.from({ length: count }, (_, n) => Buffer.from(`{"n":${n},"type":"made"}`));
  const leaves = entries.map(leafHash);
  const length = (entry) => Buffer.from([entry.length >> 8, entry.length & 0xff]);
  for (let first = 0; first < count; first += WIDTH) {
    const some = entries.slice(first, first + WIDTH);
    const bundle = Buffer.concat(some.flatMap((one) => [length(one), one]));
    put(folder, tilePath("entries", first / WIDTH, some.length), bundle);
  }
  let hashes = leaves;
  for (let level = 0; hashes.length > 0; level += 1) {
    const above = [];
    for (let first = 0; first < hashes.length; first += WIDTH) {
      const held = hashes.slice(first, first + WIDTH);
      put(folder, tilePath(level, first / WIDTH, held.length), Buffer.concat(held));
      if (held.length === WIDTH) above.push(treeHash(held));
    }
    hashes = above;
  }
  const noteOf = (size) => {
    const text = `${origin}\n${size}\n${treeHash(leaves.slice(0, size)).toString("base64")}\n`;
    const signature = sign(null, Buffer.from(text), privateKey);
    return `${text}\n${DASH}${origin} ${Buffer.concat([id, signature]).toString("base64")}\n`;
  };
  put(folder, "checkpoint", noteOf(count));
  put(folder, "vkey", `${vkey}\n`);
  const base64 = (some) => some.map((one) => one.toString("base64"));
  const receipts = entries.map((entry, index) => ({
    leaf: entry.toString("base64"),
    text: ["c2sp.org/tlog-proof@v1", `index ${index}`, ...base64(inclusionPath(index, leaves)), "", noteOf(count)].join("\n"),
  }));
  const proofs = entries.map((_, at) => ({
    old: at + 1,
    old_root: treeHash(leaves.slice(0, at + 1)).toString("base64"),
    proof: base64(consistencyPath(at + 1, leaves)),
  }));
  return { vkey, receipts, proofs, root: treeHash(leaves).toString("base64") };
}

// --- the command -------------------------------------------------------------------------------

const JUDGES = {
  receipt: (one) => checkReceipt(one.text, Buffer.from(one.leaf, "base64"), one.vkey),
  checkpoint: (one) => openCheckpoint(one.note, one.vkey),
  consistency: (one) =>
    checkConsistency(
      one.old,
      one.new,
      one.proof.map(decodeBase64),
      decodeBase64(one.old_root),
      decodeBase64(one.new_root),
    ),
};

/** Return null for each case that verifies, otherwise why it does not. */
function judge(cases) {
  return cases.map((one) => {
    try {
      JUDGES[one.kind](one);
      return null;
    } catch (error) {
      return error.message;
    }
  });
}

function run([command, ...words]) {
  if (command === "judge") return judge(JSON.parse(readFileSync(0, "utf8")));
  if (command === "make") return makeLog(words[0], words[1], Number(words[2]));
  insist(command === "folder", "folder, judge or make");
  const [folder, vkey, other] = words;
  const log = verifyFolder(folder, vkey);
  const held = other ? holdTo(log, vkey, other) : 0;
  return { origin: log.origin, size: log.size, root: log.root.toString("base64"), held };
}

try {
  process.stdout.write(`${JSON.stringify(run(process.argv.slice(2)))}\n`);
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}

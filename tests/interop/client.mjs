// An independent client of the broker: Node, the .proto files and the standard library's Ed25519.
// It shares no code with Probegate, so what it can do, any other party's system can do.
//
// Over mutual TLS it asks for health, lists searches, previews an order, reads a search, follows it to
// its end, and then believes nothing: it checks the broker's signature over the exact bytes of the
// result, and every agency's report against the digest that the signed result holds.
//
// One JSON document goes to standard output. A failure is one line on standard error and exit code 1.

import { createHash, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const HERE = dirname(fileURLToPath(import.meta.url));
const CALL_DEADLINE_MS = 10_000;
const WATCH_DEADLINE_MS = 60_000;
const PAGE_SIZE = 50;
const MAX_PAGES = 20;
const ED25519_KEY_BYTES = 32;
// The DER prefix of an Ed25519 SubjectPublicKeyInfo (RFC 8410 section 4).
const ED25519_SPKI = Buffer.from("302a300506032b6570032100", "hex");
const RESULT_TYPE = "application/vnd.probegate.search-result.v1+protobuf";
const REPORT_TYPE = "application/vnd.probegate.match-report.v1+protobuf";
const REQUIRED = [
  "address",
  "server-name",
  "ca",
  "cert",
  "key",
  "protos",
  "search-id",
  "order",
  "broker-key",
];

function readArguments() {
  const options = Object.fromEntries(REQUIRED.map((name) => [name, { type: "string" }]));
  options.modules = { type: "string", default: HERE }; // the folder that holds node_modules
  const { values } = parseArgs({ options });
  for (const name of REQUIRED) {
    insist(values[name], `--${name} is missing`);
  }
  return values;
}

function insist(condition, message) {
  if (!condition) {
    throw new Error(message);
  }
}

function sha256(bytes) {
  return createHash("sha256").update(bytes).digest();
}

/** DSSE v1 pre-authentication encoding: what is signed. */
function preAuthenticationEncoding(payloadType, payload) {
  const type = Buffer.from(payloadType, "utf8");
  const head = `DSSEv1 ${type.length} ${payloadType} ${payload.length} `;
  return Buffer.concat([Buffer.from(head, "utf8"), payload]);
}

function publicKey(hex) {
  const raw = Buffer.from(hex, "hex");
  insist(raw.length === ED25519_KEY_BYTES, "--broker-key is not 32 bytes in hexadecimal");
  return createPublicKey({ key: Buffer.concat([ED25519_SPKI, raw]), format: "der", type: "spki" });
}

/** Whether there is a signature and every one is by this key over the exact bytes. */
function isSignedBy(envelope, payloadType, key) {
  const signed = preAuthenticationEncoding(payloadType, envelope.payload);
  return (
    envelope.payload_type === payloadType &&
    envelope.signatures.length > 0 &&
    envelope.signatures.every((one) => verify(null, signed, key, one.signature))
  );
}

function withOneBitChanged(envelope) {
  const payload = Buffer.from(envelope.payload);
  payload[payload.length - 1] ^= 1;
  return { ...envelope, payload };
}

/** Protobuf's JSON form of a message to what proto-loader takes: snake_case and split timestamps. */
function fromJson(value, name = "") {
  if (Array.isArray(value)) {
    return value.map((one) => fromJson(one));
  }
  if (value !== null && typeof value === "object") {
    const entries = Object.entries(value).map(([key, inner]) => {
      const field = key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      return [field, fromJson(inner, field)];
    });
    return Object.fromEntries(entries);
  }
  if (name.endsWith("_at") && typeof value === "string") {
    return timestampFrom(value);
  }
  return value;
}

function timestampFrom(text) {
  const parts = /^(.{19})(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(text);
  insist(parts, "the order has a time that is not RFC 3339");
  const seconds = Date.parse(parts[1] + parts[3]) / 1000;
  insist(Number.isInteger(seconds), "the order has a time that is not RFC 3339");
  return { seconds, nanos: Number((parts[2] ?? "").padEnd(9, "0")) };
}

/** For the output: bytes in hexadecimal and timestamps in RFC 3339, to the millisecond. */
function toJson(value) {
  if (Buffer.isBuffer(value)) {
    return value.toString("hex");
  }
  if (Array.isArray(value)) {
    return value.map(toJson);
  }
  if (value !== null && typeof value === "object") {
    const keys = Object.keys(value);
    if (keys.length === 2 && "seconds" in value && "nanos" in value) {
      return new Date(Number(value.seconds) * 1000 + value.nanos / 1e6).toISOString();
    }
    return Object.fromEntries(keys.map((key) => [key, toJson(value[key])]));
  }
  return value;
}

function loadContract(loader, protos) {
  return loader.loadSync(
    [
      "grpc/health/v1/health.proto",
      "probegate/broker/v1/search_service.proto",
      "probegate/common/v1/envelope.proto",
      "probegate/common/v1/search.proto",
    ],
    {
      includeDirs: [resolve(protos), join(HERE, "protos")],
      keepCase: true,
      longs: String,
      enums: String,
      defaults: true,
      oneofs: true,
    },
  );
}

function connect(grpc, contract, settings) {
  const services = grpc.loadPackageDefinition(contract);
  const credentials = grpc.credentials.createSsl(
    readFileSync(settings.ca),
    readFileSync(settings.key),
    readFileSync(settings.cert),
  );
  const channel = {
    "grpc.ssl_target_name_override": settings["server-name"],
    "grpc.default_authority": settings["server-name"],
    "grpc.enable_retries": 0,
  };
  const dial = (Service) => new Service(settings.address, credentials, channel);
  return {
    health: dial(services.grpc.health.v1.Health),
    searches: dial(services.probegate.broker.v1.SearchService),
  };
}

function call(client, method, request) {
  return new Promise((done, fail) => {
    const deadline = Date.now() + CALL_DEADLINE_MS;
    client[method](request, { deadline }, (error, answer) => (error ? fail(named(method, error)) : done(answer)));
  });
}

function watch(client, request) {
  return new Promise((done, fail) => {
    const events = [];
    const stream = client.WatchSearch(request, { deadline: Date.now() + WATCH_DEADLINE_MS });
    stream.on("data", (event) => events.push(event));
    stream.on("error", (error) => fail(named("WatchSearch", error)));
    stream.on("end", () => done(events));
  });
}

function named(method, error) {
  return new Error(`${method}: ${error.message}`);
}

async function isListed(searches, searchId) {
  let token = "";
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const answer = await call(searches, "ListSearches", { page_size: PAGE_SIZE, page_token: token });
    if (answer.searches.some((one) => one.search_id === searchId)) {
      return true;
    }
    token = answer.next_page_token;
    if (!token) {
      return false;
    }
  }
  return false;
}

/** Checks an ended search without trusting whoever served it, but for the broker's key. */
function proveResult(contract, search, key) {
  const envelope = search.result;
  insist(envelope, "the search has ended without a signed result");
  insist(isSignedBy(envelope, RESULT_TYPE, key), "the result's signature does not verify");
  insist(
    !isSignedBy(withOneBitChanged(envelope), RESULT_TYPE, key),
    "a changed result still verifies",
  );
  const result = contract["probegate.common.v1.SearchResult"].deserialize(envelope.payload);
  insist(result.search_id === search.search_id, "the result is of another search");
  const answers = new Map(search.answers.map((answer) => [answer.outcome.agency, answer]));
  insist(
    answers.size === search.answers.length && answers.size === result.outcomes.length,
    "the answers and the signed outcomes are not of the same agencies",
  );
  const reports = result.outcomes.map((outcome) =>
    proveReport(contract, result, outcome, answers.get(outcome.agency)),
  );
  return { result, reports };
}

function proveReport(contract, result, outcome, answer) {
  const { agency } = outcome;
  insist(answer, `${agency} is in the signed result but has no answer`);
  insist(answer.outcome.state === outcome.state, `${agency}'s answer is not the one signed`);
  if (outcome.report_sha256.length === 0) {
    insist(!answer.report, `${agency}'s report is not covered by the result`);
    return { agency, state: outcome.state, report_matches: null, candidates: 0 };
  }
  insist(answer.report, `${agency}'s report is missing`);
  insist(answer.report.payload_type === REPORT_TYPE, `${agency}'s report is of another type`);
  insist(
    sha256(answer.report.payload).equals(outcome.report_sha256),
    `${agency}'s report is not the one in the result`,
  );
  const report = contract["probegate.common.v1.MatchReport"].deserialize(answer.report.payload);
  insist(
    report.agency === agency &&
      report.search_id === result.search_id &&
      report.order_sha256.equals(result.order_sha256),
    `${agency}'s report is about something else`,
  );
  return { agency, state: outcome.state, report_matches: true, candidates: report.candidates.length };
}

async function main() {
  const settings = readArguments();
  const modules = createRequire(join(resolve(settings.modules), "package.json"));
  const grpc = modules("@grpc/grpc-js");
  const contract = loadContract(modules("@grpc/proto-loader"), settings.protos);
  const key = publicKey(settings["broker-key"]);
  const order = fromJson(JSON.parse(readFileSync(settings.order, "utf8")));
  const searchId = settings["search-id"];
  const { health, searches } = connect(grpc, contract, settings);
  try {
    const { status } = await call(health, "Check", { service: "" });
    insist(status === "SERVING", `the broker's health is ${status}`);
    const listed = await isListed(searches, searchId);
    insist(listed, "the search is not listed");
    const preview = await call(searches, "PreviewSearch", { order });
    const { search } = await call(searches, "GetSearch", { search_id: searchId });
    insist(search && search.search_id === searchId, "another search was returned");
    const events = await watch(searches, { search_id: searchId });
    const finished = events.at(-1)?.finished;
    insist(finished, "the watch ended before the search did");
    insist(
      events.slice(0, -1).every((one) => one.event === "answer"),
      "the watch went on after the search's end",
    );
    const { result, reports } = proveResult(contract, finished, key);
    const document = {
      health: status,
      listed,
      preview,
      search: { search_id: search.search_id, state: search.state, decisions: search.decisions },
      watched: { answers: events.length - 1, state: finished.state },
      result,
      proof: { result_signature: true, changed_result_refused: true, reports },
      receipt: finished.receipt.toString("utf8"),
    };
    process.stdout.write(`${JSON.stringify(toJson(document))}\n`);
  } finally {
    health.close();
    searches.close();
  }
}

main().catch((error) => {
  process.stderr.write(`${String(error.message).split("\n")[0]}\n`);
  process.exitCode = 1;
});

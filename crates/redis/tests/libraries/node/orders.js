// A stream of orders, as in ../python/streams.py, with ioredis. The library's
// major version comes before the other arguments:
//
//     node orders.js MAJOR HOST PORT PASSWORD GROUP KEY PROTOCOL

import assert from "node:assert";

const [major, host, port, password, group, key, protocol] = process.argv.slice(2);
const { Redis } = await import(`ioredis-${major}`);
const [NEW, PENDING] = [">", "0"];

function connect() {
  return new Redis({ host, port: Number(port), password, protocol: Number(protocol) });
}

/** What is an array of pairs in RESP2, and a map in RESP3. */
function asObject(reply) {
  if (reply instanceof Map) return Object.fromEntries(reply);
  if (!Array.isArray(reply)) return reply ?? {};
  const isFlat = !Array.isArray(reply[0]);
  const pairs = isFlat ? reply.flatMap((name, i) => (i % 2 ? [] : [[name, reply[i + 1]]])) : reply;
  return Object.fromEntries(pairs);
}

async function read(client, start, count, wait = 1000) {
  const streams = ["STREAMS", key, start];
  const options = ["COUNT", count, "BLOCK", wait];
  const reply = await client.xreadgroup("GROUP", group, "worker", ...options, ...streams);
  const found = asObject(reply)[key] ?? [];
  return found.map(([id, fields]) => ({ id, fields: asObject(fields) }));
}

/** What comes of `ready`, tried again: joining a group takes its time. */
async function until(what, ready) {
  const deadline = Date.now() + 30_000;
  for (;;) {
    const result = await ready();
    if (result) return result;
    assert(Date.now() < deadline, what);
  }
}

const values = (found) => found.map(({ fields }) => fields.value).join(" ");
const ids = (found) => found.map(({ id }) => id);
const word = (yes) => (yes ? "True" : "False");

const producer = connect();
const created = await producer.xgroup("CREATE", key, group, "0", "MKSTREAM");
console.log("created", word(created === "OK"));
try {
  await producer.xgroup("CREATE", key, group, "$");
} catch (error) {
  console.log("error", error.message);
}

// One by one, in a pipeline, and in a transaction.
for (let i = 0; i < 4; i++) {
  await producer.xadd(key, "*", "value", `order-${i}`, "key", `customer-${i}`);
}
for (const [batch, from] of [
  [producer.pipeline(), 4],
  [producer.multi(), 8],
]) {
  for (let i = from; i < from + 4; i++) {
    batch.xadd(key, "MAXLEN", "~", 1000, "*", "value", `order-${i}`, "shop", "north");
  }
  const added = await batch.exec();
  assert.deepEqual(added.map(([error]) => error), [null, null, null, null]);
}
console.log("length", await producer.xlen(key), await producer.type(key));

let worker = connect();
const got = [];
await until("eight orders", async () => {
  got.push(...(await read(worker, NEW, 8 - got.length)));
  return got.length === 8;
});
console.log("got", values(got));
console.log("fields", got[0].fields.key, got[4].fields.shop);
// Out of order, one of them twice.
console.log("acked", await worker.xack(key, group, got[6].id, got[1].id, got[4].id));
console.log("acked", await worker.xack(key, group, got[1].id, got[0].id));
worker.disconnect();

// After the crash: first what was begun, then the rest.
worker = connect();
const begun = await read(worker, PENDING, 100);
console.log("pending", values(begun));
console.log("behind", values(await read(worker, begun[1].id, 100)));
console.log("acked", await worker.xack(key, group, ...ids(begun)));
const rest = [];
await until("the other orders", async () => {
  rest.push(...(await read(worker, NEW, 100)));
  return rest.length === 4;
});
console.log("got", values(rest));
for (const { id } of rest) console.log("acked", await worker.xack(key, group, id));
const nothing = await read(worker, NEW, 10, 100);
console.log("nothing", JSON.stringify(nothing));
console.log("pending", values(await read(worker, PENDING, 100)));

// Kafka learns of acknowledgements a little later.
const info = await until("nothing is left", async () => {
  const [found] = (await producer.xinfo("GROUPS", key)).map(asObject);
  return found.lag === 0 && found;
});
console.log("group", info.consumers, info.pending, info.lag);
console.log("deleted", await producer.xgroup("DELCONSUMER", key, group, "worker"));
console.log("destroyed", word(await producer.xgroup("DESTROY", key, group)));
console.log("destroyed", word(await producer.xgroup("DESTROY", key, group)));
producer.disconnect();
worker.disconnect();

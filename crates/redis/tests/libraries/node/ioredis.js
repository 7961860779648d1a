// ioredis: see ../README.md. The library's major version comes before the
// other arguments.

import assert from "node:assert";

const [major, host, port, password, name, topic, protocol] = process.argv.slice(2);
const { Redis, ReplyError } = await import(`ioredis-${major}`);
const key = `topics:${topic}`;

async function connect() {
  const client = new Redis({
    host,
    port: Number(port),
    password,
    db: 2,
    connectionName: name,
    // Unknown to ioredis 5, which always speaks RESP2.
    protocol: Number(protocol),
  });
  const line = await client.client("INFO");
  const about = Object.fromEntries(line.trim().split(" ").map((field) => field.split(/=(.*)/s)));
  console.log("connected", about.name, about.db, about.resp);
  return client;
}

async function showRefusal(call) {
  try {
    console.log("no error but", await call());
  } catch (error) {
    assert(error instanceof ReplyError, error);
    console.log("error", error.message);
  }
}

async function consumeAndAck(client) {
  const positions = [];
  for (let i = 0; i < 4; i++) {
    const message = await client.call("BLPOP", key, "30");
    const [t, itsTopic, p, partition, o, offset, v, value] = message;
    assert.deepEqual([t, p, o, v], ["topic", "partition", "offset", "value"]);
    assert.deepEqual([typeof partition, typeof offset], ["number", "number"]);
    console.log("message", itsTopic, partition, offset, value);
    positions.push(`${itsTopic}:${partition}:${offset}`);
  }
  const acked = positions.slice(0, 3).map((position) => client.rpush("acks", position));
  console.log("acked", ...(await Promise.all(acked)));
}

function showNothing(reply) {
  assert.equal(reply, null);
  console.log("nothing");
}

let client = await connect();
const connection = await client.client("ID");
console.log("ping", await client.ping());
console.log(
  "produced",
  await client.rpushx(key, "one"),
  await client.rpushx(`${key}:cust-9`, "café"),
  await client.rpushx(key, "three", "four"),
);
console.log("outstanding", await client.call("DUMP", "30000"));
console.log("accepted", (await client.hgetall("stats:connection")).accepted);
await consumeAndAck(client);
showNothing(await client.call("BLPOP", key, "0.1"));
await showRefusal(() => client.blpop("nonsense", 1));
await showRefusal(() => client.rpushx("topics:no/topic", "x"));
console.log("ping", await client.ping());
assert.equal(await client.client("ID"), connection);
console.log("same connection");
assert.equal(await client.quit(), "OK");

client = await connect();
const pairs = `${key}:{"barnabas.reply":"pair"}`;
console.log("pair", ...(await client.blpop(pairs, 30)));
console.log("produced", await client.rpushx(key, "five"));
console.log("pair", ...(await client.blpop(pairs, 30)));
showNothing(await client.blpop(pairs, 0.1));
console.log("produced", await client.rpushx(key, "six"));
console.log("pair", ...(await client.blpop(pairs, 30)));
console.log("acked", await client.rpush("acks", "last"));
client.disconnect();

// node-redis: see ../README.md. The library's major version comes before the
// other arguments.

import assert from "node:assert";

const [major, host, port, password, name, topic, protocol] = process.argv.slice(2);
const { createClient, ErrorReply } = await import(`node-redis-${major}`);
const key = `topics:${topic}`;

async function connect() {
  const client = createClient({
    socket: { host, port: Number(port) },
    password,
    database: 2,
    name,
    // Unknown to node-redis 4, which always speaks RESP2.
    RESP: Number(protocol),
  });
  client.on("error", (error) => {
    throw error;
  });
  await client.connect();
  const line = await client.sendCommand(["CLIENT", "INFO"]);
  const about = Object.fromEntries(line.trim().split(" ").map((field) => field.split(/=(.*)/s)));
  console.log("connected", about.name, about.db, about.resp);
  return client;
}

async function showRefusal(call) {
  try {
    console.log("no error but", await call());
  } catch (error) {
    assert(error instanceof ErrorReply, error);
    console.log("error", error.message);
  }
}

async function consumeAndAck(client) {
  const positions = [];
  for (let i = 0; i < 4; i++) {
    const message = await client.sendCommand(["BLPOP", key, "30"]);
    const [t, itsTopic, p, partition, o, offset, v, value] = message;
    assert.deepEqual([t, p, o, v], ["topic", "partition", "offset", "value"]);
    assert.deepEqual([typeof partition, typeof offset], ["number", "number"]);
    console.log("message", itsTopic, partition, offset, value);
    positions.push(`${itsTopic}:${partition}:${offset}`);
  }
  const acked = positions.slice(0, 3).map((position) => client.rPush("acks", position));
  console.log("acked", ...(await Promise.all(acked)));
}

function showPair(pair) {
  console.log("pair", pair.key, pair.element);
}

function showNothing(reply) {
  assert.equal(reply, null);
  console.log("nothing");
}

let client = await connect();
const connection = await client.sendCommand(["CLIENT", "ID"]);
console.log("ping", await client.ping());
console.log(
  "produced",
  await client.rPushX(key, "one"),
  await client.rPushX(`${key}:cust-9`, "café"),
  await client.rPushX(key, ["three", "four"]),
);
console.log("outstanding", await client.sendCommand(["DUMP", "30000"]));
console.log("accepted", (await client.hGetAll("stats:connection")).accepted);
await consumeAndAck(client);
showNothing(await client.sendCommand(["BLPOP", key, "0.1"]));
await showRefusal(() => client.blPop("nonsense", 1));
await showRefusal(() => client.rPushX("topics:no/topic", "x"));
console.log("ping", await client.ping());
assert.equal(await client.sendCommand(["CLIENT", "ID"]), connection);
console.log("same connection");
assert.equal(await client.quit(), "OK");

client = await connect();
const pairs = `${key}:{"barnabas.reply":"pair"}`;
showPair(await client.blPop(pairs, 30));
console.log("produced", await client.rPushX(key, "five"));
showPair(await client.blPop(pairs, 30));
showNothing(await client.blPop(pairs, 0.1));
console.log("produced", await client.rPushX(key, "six"));
showPair(await client.blPop(pairs, 30));
console.log("acked", await client.rPush("acks", "last"));
await client.disconnect();

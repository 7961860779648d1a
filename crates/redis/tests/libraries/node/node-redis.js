// node-redis: see ../README.md. The library's major version comes before the
// other arguments.

import assert from "node:assert";

const [major, host, port, password, name, topic, protocol] = process.argv.slice(2);
const { createClient, ErrorReply } = await import(`node-redis-${major}`);

async function connect(clientName) {
  const client = createClient({
    socket: { host, port: Number(port) },
    password,
    database: 2,
    name: clientName,
    RESP: Number(protocol),
  });
  client.on("error", (error) => {
    throw error;
  });
  await client.connect();
  return client;
}

const key = `topics:${topic}`;
let client = await connect(name);
console.log("ping", await client.ping());
console.log(
  "produced",
  await client.rPushX(key, "one"),
  await client.rPushX(key, "café"),
  await client.rPushX(`${key}:cust-9`, "three"),
);
console.log("outstanding", await client.sendCommand(["DUMP", "30000"]));
const positions = [];
for (let i = 0; i < 2; i++) {
  const message = await client.sendCommand(["BLPOP", key, "30"]);
  const [t, itsTopic, p, partition, o, offset, v, value] = message;
  assert.deepEqual([t, p, o, v], ["topic", "partition", "offset", "value"]);
  console.log("message", itsTopic, partition, offset, value);
  positions.push(`${itsTopic}:${partition}:${offset}`);
}
const acked = [];
for (const position of positions) {
  acked.push(await client.rPush("acks", position));
}
console.log("acked", ...acked);
try {
  await client.blPop("nonsense", 1);
} catch (error) {
  assert(error instanceof ErrorReply);
  console.log("error", error.message);
}
console.log("ping", await client.ping());
await client.quit();

client = await connect(`pair-${name}`);
for (let i = 0; i < 3; i++) {
  const pair = await client.blPop(`${key}:{"barnabas.reply":"pair"}`, 30);
  console.log("pair", pair.key, pair.element);
}
await client.quit();

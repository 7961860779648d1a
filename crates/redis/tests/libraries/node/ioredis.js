// ioredis: see ../README.md. The library's major version comes before the
// other arguments.

import assert from "node:assert";

const [major, host, port, password, name, topic, protocol] = process.argv.slice(2);
const { Redis } = await import(`ioredis-${major}`);

function connect(connectionName) {
  return new Redis({
    host,
    port: Number(port),
    password,
    db: 2,
    connectionName,
    protocol: Number(protocol),
  });
}

const key = `topics:${topic}`;
let client = connect(name);
console.log("ping", await client.ping());
console.log(
  "produced",
  await client.rpushx(key, "one"),
  await client.rpushx(key, "café"),
  await client.rpushx(`${key}:cust-9`, "three"),
);
console.log("outstanding", await client.call("DUMP", "30000"));
const positions = [];
for (let i = 0; i < 2; i++) {
  const message = await client.call("BLPOP", key, "30");
  const [t, itsTopic, p, partition, o, offset, v, value] = message;
  assert.deepEqual([t, p, o, v], ["topic", "partition", "offset", "value"]);
  console.log("message", itsTopic, partition, offset, value);
  positions.push(`${itsTopic}:${partition}:${offset}`);
}
const acked = [];
for (const position of positions) {
  acked.push(await client.rpush("acks", position));
}
console.log("acked", ...acked);
try {
  await client.blpop("nonsense", 1);
} catch (error) {
  assert.equal(error.name, "ReplyError");
  console.log("error", error.message);
}
console.log("ping", await client.ping());
await client.quit();

client = connect(`pair-${name}`);
for (let i = 0; i < 3; i++) {
  console.log("pair", ...(await client.blpop(`${key}:{"barnabas.reply":"pair"}`, 30)));
}
await client.quit();

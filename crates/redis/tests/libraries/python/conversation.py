"""redis-py: see ../README.md."""

import sys

import redis

host, port, password, name, topic, protocol = sys.argv[1:]


def connect(client_name):
    return redis.Redis(
        host=host,
        port=int(port),
        password=password,
        db=2,
        client_name=client_name,
        protocol=int(protocol),
        decode_responses=True,
        # A name belongs to one connection.
        single_connection_client=True,
    )


def show_ping(client):
    print("ping", {True: "PONG"}[client.ping()])


key = f"topics:{topic}"
client = connect(name)
show_ping(client)
produced = [
    client.rpushx(key, "one"),
    client.rpushx(key, "café"),
    client.rpushx(f"{key}:cust-9", "three"),
]
print("produced", *produced)
print("outstanding", client.execute_command("DUMP", 30000))
positions = []
for _ in range(2):
    message = client.execute_command("BLPOP", key, 30)
    assert list(message[::2]) == ["topic", "partition", "offset", "value"], message
    print("message", *message[1::2])
    positions.append(f"{message[1]}:{message[3]}:{message[5]}")
print("acked", *[client.rpush("acks", position) for position in positions])
try:
    client.blpop("nonsense", 1)
except redis.ResponseError as error:
    print("error", error)
show_ping(client)
client.close()

client = connect(f"pair-{name}")
for _ in range(3):
    print("pair", *client.blpop(f'{key}:{{"barnabas.reply":"pair"}}', 30))
client.execute_command("QUIT")
client.close()

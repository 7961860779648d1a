"""redis-py: see ../README.md."""

import sys

import redis

host, port, password, name, topic, protocol = sys.argv[1:]
key = f"topics:{topic}"


def connect():
    client = redis.Redis(
        host=host,
        port=int(port),
        password=password,
        db=2,
        client_name=name,
        protocol=int(protocol),
        decode_responses=True,
        socket_timeout=60,
        # A name belongs to one connection.
        single_connection_client=True,
    )
    about = client.client_info()
    print("connected", about["name"], about["db"], about["resp"])
    return client


def show_ping(client):
    print("ping", {True: "PONG"}[client.ping()])


def show_refusal(call, *arguments):
    try:
        print("no error but", call(*arguments))
    except redis.ResponseError as error:
        print("error", error)


def consume_and_ack(client):
    messages = [client.execute_command("BLPOP", key, 30) for _ in range(4)]
    for message in messages:
        assert list(message[::2]) == ["topic", "partition", "offset", "value"], message
        assert isinstance(message[3], int) and isinstance(message[5], int), message
        print("message", *message[1::2])
    positions = [f"{message[1]}:{message[3]}:{message[5]}" for message in messages]
    print("acked", *[client.rpush("acks", position) for position in positions[:3]])


client = connect()
connection = client.client_id()
show_ping(client)
produced = [
    client.rpushx(key, "one"),
    client.rpushx(f"{key}:cust-9", "café"),
    client.rpushx(key, "three", "four"),
]
print("produced", *produced)
print("outstanding", client.execute_command("DUMP", 30000))
print("accepted", client.hgetall("stats:connection")["accepted"])
consume_and_ack(client)
print({None: "nothing"}[client.execute_command("BLPOP", key, 0.1)])
show_refusal(client.blpop, "nonsense", 1)
show_refusal(client.rpushx, "topics:no/topic", "x")
show_ping(client)
print({True: "same connection"}[client.client_id() == connection])
assert client.execute_command("QUIT")
client.close()

client = connect()
pairs = f'{key}:{{"barnabas.reply":"pair"}}'
print("pair", *client.blpop(pairs, 30))
print("produced", client.rpushx(key, "five"))
print("pair", *client.blpop(pairs, 30))
print({None: "nothing"}[client.blpop(pairs, 0.1)])
print("produced", client.rpushx(key, "six"))
print("pair", *client.blpop(pairs, 30))
print("acked", client.rpush("acks", "last"))
client.close()

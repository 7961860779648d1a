"""A stream of orders: one producer, and a worker that crashes once.

    python streams.py HOST PORT PASSWORD GROUP KEY PROTOCOL

It does not know what it talks to, and prints the same on Redis and on
Barnabas.
"""

import sys
import time

import redis

host, port, password, group, key, protocol = sys.argv[1:]
NEW, PENDING = ">", "0"


def connect():
    # A pool: no two commands need the same connection.
    return redis.Redis(
        host=host,
        port=int(port),
        password=password,
        protocol=int(protocol),
        decode_responses=True,
        socket_timeout=60,
    )


def entries(reply):
    """The entries of the one stream that is read, as id and fields."""
    streams = reply.items() if isinstance(reply, dict) else reply or []
    for _, found in streams:
        # redis-py wraps them once more in RESP3.
        return found[0] if found and isinstance(found[0], list) else found
    return []


def read(worker, start, count, wait=1000):
    reply = worker.xreadgroup(group, "worker", {key: start}, count=count, block=wait)
    return entries(reply)


def until(what, ready):
    """What comes of `ready`, tried again: joining a group takes its time."""
    deadline = time.monotonic() + 30
    while not (result := ready()):
        assert time.monotonic() < deadline, what
    return result


def values(found):
    return " ".join(fields["value"] for _, fields in found)


producer = connect()
print("created", producer.xgroup_create(key, group, id="0", mkstream=True))
try:
    producer.xgroup_create(key, group, id="$")
except redis.ResponseError as error:
    print("error", error)

# One by one, in a pipeline, and in a transaction.
for number in range(4):
    producer.xadd(key, {"value": f"order-{number}", "key": f"customer-{number}"})
for transaction, numbers in [(False, range(4, 8)), (True, range(8, 12))]:
    with producer.pipeline(transaction=transaction) as pipeline:
        for number in numbers:
            pipeline.xadd(key, {"value": f"order-{number}", "shop": "north"}, maxlen=1000)
        assert len(pipeline.execute()) == 4
print("length", producer.xlen(key), producer.type(key))

worker = connect()
got = []


def eight():
    got.extend(read(worker, NEW, 8 - len(got)))
    return len(got) == 8


until("eight orders", eight)
print("got", values(got))
print("fields", got[0][1]["key"], got[4][1]["shop"])
# Out of order, one of them twice.
print("acked", worker.xack(key, group, got[6][0], got[1][0], got[4][0]))
print("acked", worker.xack(key, group, got[1][0], got[0][0]))
worker.close()

# After the crash: first what was begun, then the rest.
worker = connect()
begun = read(worker, PENDING, 100)
print("pending", values(begun))
behind = read(worker, begun[1][0], 100)
print("behind", values(behind))
print("acked", worker.xack(key, group, *(id for id, _ in begun)))
rest = []


def four():
    rest.extend(read(worker, NEW, 100))
    return len(rest) == 4


until("the other orders", four)
print("got", values(rest))
for id, _ in rest:
    print("acked", worker.xack(key, group, id))
print("nothing", read(worker, NEW, 10, wait=100))
print("pending", values(read(worker, PENDING, 100)))


def info():
    """Kafka learns of acknowledgements a little later."""
    (found,) = producer.xinfo_groups(key)
    return found if found["lag"] == 0 else None


found = until("nothing is left", info)
print("group", *(found[name] for name in ["consumers", "pending", "lag"]))
print("deleted", producer.xgroup_delconsumer(key, group, "worker"))
print("destroyed", producer.xgroup_destroy(key, group))
print("destroyed", producer.xgroup_destroy(key, group))

"""A queue of jobs: one producer, and two workers one after the other.

    python jobs.py HOST PORT PASSWORD NAME KEY

It does not know what it talks to, and prints the same on Redis and on
Barnabas.
"""

import sys

import redis

host, port, password, name, key = sys.argv[1:]


def connect(**options):
    return redis.Redis(
        host=host,
        port=int(port),
        password=password,
        decode_responses=True,
        socket_timeout=60,
        **options,
    )


def work(who):
    """Takes the jobs that there are, says which, and looks once more."""
    worker = connect(client_name=name, single_connection_client=True)
    # Its first job may be long in coming: a worker joins a group on Barnabas.
    for _ in range(20):
        print(who, *worker.blpop([key], timeout=30))
    print(who, worker.blpop([key], timeout=1))
    worker.close()


producer = connect()
for number in range(20):
    # The length of the list there, the number of accepted messages here.
    assert producer.rpush(key, f"job {number}") > 0
work("first")
with producer.pipeline(transaction=False) as pipeline:
    for number in range(20, 40):
        pipeline.rpush(key, f"job {number}")
    assert len(pipeline.execute()) == 20
work("second")

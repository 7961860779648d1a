"""A queue of jobs, the same on Redis and on Barnabas.

python jobs.py HOST PORT QUEUE [NAME]: a worker on Barnabas has a name.
"""

import sys

import redis

host, port, queue, *name = sys.argv[1:]

producer = redis.Redis(host=host, port=int(port), decode_responses=True)
for number in range(20):
    producer.rpush(queue, f"job {number}")

worker = redis.Redis(
    host=host,
    port=int(port),
    decode_responses=True,
    client_name=name[0] if name else None,
    single_connection_client=True,
)
for _ in range(20):
    source, job = worker.blpop([queue], timeout=30)
    print(source, job)
print(worker.blpop([queue], timeout=1))

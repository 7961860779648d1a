"""What a program that was written for Kafka-Pixy says, with gRPC's own Python library.

Arguments: folder of the generated code, address, topic, group. Prints what it sees.
"""

import queue
import sys

stubs, address, topic, group = sys.argv[1:]
sys.path.insert(0, stubs)

import grpc
import kafkapixy_pb2 as pb
import kafkapixy_pb2_grpc as pb_grpc
from barnabas.v1 import gateway_pb2 as v1
from barnabas.v1 import gateway_pb2_grpc as v1_grpc

channel = grpc.insecure_channel(address)
grpc.channel_ready_future(channel).result(timeout=60)
pixy = pb_grpc.KafkaPixyStub(channel)


def attempt(call, request, **options):
    try:
        return call(request, **options)
    except grpc.RpcError as error:
        print("error", error.code().value[0], error.details())
        return None


def consume(**acks):
    """The next message, however long joining takes."""
    for _ in range(60):
        try:
            message = pixy.ConsumeNAck(pb.ConsNAckRq(topic=topic, group=group, **acks))
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                continue
            raise
        key = None if message.key_undefined else message.key_value
        headers = [(header.key, header.value) for header in message.headers]
        print("message", message.partition, message.offset, key, message.message, headers)
        return message
    raise SystemExit("no message")


print("sync", pixy.Produce(pb.ProdRq(topic=topic, key_value=b"k", message=b"one")).offset)
headers = [pb.RecordHeader(key="Größe", value=b"\x00\xff")]
sent = pixy.Produce(
    pb.ProdRq(topic=topic, key_undefined=True, message=b"two", async_mode=True, headers=headers)
)
print("async", sent.partition, sent.offset)
print("sync", pixy.Produce(pb.ProdRq(topic=topic, message=b"three")).offset)

first = consume(no_ack=True)
second = consume(ack_partition=first.partition, ack_offset=first.offset)
pixy.Ack(pb.AckRq(topic=topic, group=group, partition=second.partition, offset=second.offset))
consume(auto_ack=True)

attempt(pixy.ConsumeNAck, pb.ConsNAckRq(topic=topic, group=group, auto_ack=True))
attempt(pixy.ConsumeNAck, pb.ConsNAckRq(topic=topic, auto_ack=True))
attempt(pixy.ConsumeNAck, pb.ConsNAckRq(topic=topic, group=group, ack_partition=-1))
attempt(pixy.Ack, pb.AckRq(topic=topic, group="100%d größer", partition=0, offset=0))
attempt(pixy.Produce, pb.ProdRq(cluster="nowhere", topic=topic))
attempt(pixy.Produce, pb.ProdRq(topic=topic, message=bytes(1_048_576)))
attempt(pixy.Produce, pb.ProdRq(topic=topic, message=bytes(8_000_000)))
attempt(pixy.ConsumeNAck, pb.ConsNAckRq(topic=topic, group=group, auto_ack=True), timeout=0.2)

# A call that is cancelled while it waits takes nothing with it.
waiting = pixy.ConsumeNAck.future(pb.ConsNAckRq(topic=topic, group=group, auto_ack=True))
waiting.cancel()
print("sync", pixy.Produce(pb.ProdRq(topic=topic, message=b"four")).offset)
consume(auto_ack=True)

gateway = v1_grpc.GatewayStub(channel)
headers = [v1.Header(name="h", value=b"\x00")]
records = [
    v1.Record(number=1, topic=topic, key=b"key", value=b"five", headers=headers),
    v1.Record(number=2, topic=topic),
    v1.Record(number=3, topic=topic, partition=7, value=b"nowhere"),
]
results = {}
for frame in gateway.Produce(iter([v1.ProduceRequest(records=records)])):
    for result in frame.results:
        results[result.number] = result
for number, result in sorted(results.items()):
    if result.HasField("error"):
        print("result", number, "error", result.error.code)
    else:
        print("result", number, result.partition, result.offset)

# What is put into the queue goes up; nothing ends the stream.
up = queue.Queue()
up.put(
    v1.ConsumeRequest(
        start=v1.ConsumeStart(
            topic=topic, group=group, ack_mode=v1.ACK_MODE_EXPLICIT, window=10
        )
    )
)
count = 0
stream = gateway.Consume(iter(up.get, None))
for frame in stream:
    for message in frame.messages:
        key = message.key if message.HasField("key") else None
        value = message.value if message.HasField("value") else None
        headers = [(header.name, header.value) for header in message.headers]
        print("streamed", message.offset, key, value, headers)
        count += 1
    positions = [v1.Position(partition=m.partition, offset=m.offset) for m in frame.messages]
    if count == 2 and positions:
        positions.append(v1.Position(partition=0, offset=99))
    if positions:
        up.put(v1.ConsumeRequest(acks=v1.ConsumeAcks(positions=positions)))
    for refused in frame.refused:
        print("refused", refused.position.offset, refused.error.code, refused.error.text)
        up.put(None)
print("end")

// What has to compile.

import kafka = require('barnabas-kafka');
import {
  Consumer,
  Errors,
  Offsets,
  Producer,
  consume,
  type BufferMessage,
  type ConsumerOptions,
  type ConsumerStats,
  type DeliveryReport,
  type ExtendedMessage,
  type KafkaErrors,
  type Logger,
  type Message,
  type PartitionsChange,
  type ProducerOptions,
  type ProducerStats,
  type ReceiveInfo,
  type RetryOptions,
  type SendResult,
  type TopicPartition,
} from 'barnabas-kafka';
import OffsetDirectory = require('barnabas-kafka/lib/offsetdirectory');
import common = require('barnabas-kafka/lib/common');
import { Consumer as DeepConsumer, OffsetDirectory as Deep } from 'barnabas-kafka/lib/consumer';
import { Producer as DeepProducer } from 'barnabas-kafka/lib/producer.js';

const logger: Logger = console;
const retry: RetryOptions = { max_tries: 3, interval: 10 };
const errors: KafkaErrors = Errors;
const minusTwo: -2 = Offsets.RD_KAFKA_OFFSET_BEGINNING;

const producerOptions: ProducerOptions = {
  broker: 'localhost:9092',
  logger,
  compression: 'zstd',
  idempotent: true,
  acks: 'all',
  driver_options: { 'client.id': 'x', 'socket.keepalive.enable': true, nothing: undefined },
  stats_callback(info: ProducerStats) {
    const waiting: number = info.send_queue_length['topic'] ?? 0;
    void waiting;
  },
  delivery_report_callback: (info: DeliveryReport) => info.rdkafka_errinfo.map((e) => e.errstr),
};

async function produce(): Promise<void> {
  await using producer = new Producer(producerOptions);
  const same: DeepProducer = producer;
  const sent: SendResult = same.send('t', 0, ['a', Buffer.from('b'), new Uint8Array(1), null]);
  producer.send('t', -1, [{ payload: null, key: 'k', headers: [['h', null]], timestamp: 1 }]);
  producer.send('t', -1, [{ payload: 'p', headers: { h: 'v' }, timestamp: new Date() }]);
  for (const { index, errcode, errstr } of producer.try_send('t', 0, ['x']).errors) {
    console.log(sent.enqueued, index, errcode, errstr);
  }
  const [first] = await producer.produce('t', null, ['x']);
  const offset: number | undefined = first?.offset;
  const partitions: number = await producer.partition_count('t').tap(() => {});
  await producer.stop(retry).timeout(1000);
  console.log(offset, partitions, errors, minusTwo, kafka.Producer === Producer);
}

const options: ConsumerOptions = {
  broker: 'b',
  topic: 't',
  offset_directory: 'd',
  num_workers: '2',
  worker_slot: 1,
  receive_callback(info: ReceiveInfo<Message>) {
    const text: string | undefined = info.messages[0]?.payload;
    return Promise.resolve(text);
  },
  stats_callback: (info: ConsumerStats) => info.waiting_kafka + info.waiting_local,
};

const base = { broker: 'b', topic: 't', offset_directory: 'd' };
const consumer: DeepConsumer = new Consumer(options);
new Consumer({ ...base, receive_callback: ({ messages }) => messages.map((m) => m.payload?.trim()) });
new Consumer({
  ...base,
  payload_format: 'buffer',
  receive_callback({ messages }) {
    const all: BufferMessage[] = messages;
    return all.map((m) => m.payload?.readInt8(0));
  },
});
new Consumer({
  ...base,
  extended_messages: true,
  receive_callback({ messages, expired }) {
    const all: Array<ExtendedMessage<string>> = messages;
    const lost: number = expired ?? 0;
    return [lost, ...all.map((m) => m.headers[0]?.[1]?.length ?? m.payload?.trim() ?? m.timestamp)];
  },
});
new Consumer({
  ...base,
  payload_format: 'buffer',
  extended_messages: true,
  receive_callback: ({ messages }) => messages.map((m) => m.key?.readInt8(0)),
});

async function read(): Promise<void> {
  const started: string[] = await consumer.start();
  for await (const batch of consume({ ...base, prefetch: 2, signal: new AbortController().signal })) {
    const texts: Array<string | undefined> = batch.messages.map((m) => m.payload);
    batch.done();
    console.log(started, texts);
  }
  const moved = (list: TopicPartition[], { revoked, assigned, are_lost }: PartitionsChange): void => {
    const first: number | undefined = (are_lost ? revoked : assigned)[0]?.partition ?? list[0]?.partition;
    void first;
  };
  const group = { broker: 'b', group_id: 'g', topics: ['t'], partitions_callback: moved };
  for await (const batch of consume({
    ...group,
    payload_format: 'buffer',
    stats_callback: (info: ConsumerStats) => info.waiting_local,
  })) {
    console.log(batch.messages.map((m) => m.payload?.readInt8(0)));
  }
  await consumer.stop({ wait_ms: 10 }).delay(1);
}

async function raw(): Promise<void> {
  const handle = common.RawProducer({ driver_options: {}, stat_cb: null, dr_cb: (l) => l[0]?.count });
  const { partitions } = await common.fetch_metadata(handle, 't', retry);
  const count: number = await common.fetch_partition_count(handle, 't');
  const directory: Deep = new OffsetDirectory({ topic: 't', offset_directory: 'd' });
  const [offset]: number[] = await directory.read([0]);
  await directory.commit({ 0: 5 });
  console.log(partitions[0]?.leader, count, offset);
}

/** The hooks that kafka-native's users override. */
class OwnConsumer extends Consumer {
  override _my_partitions(count: number): number[] {
    return super._my_partitions(count).filter((id) => this.expected_offsets[id] === undefined);
  }
  override _rdkakfa_recv_callback(messages: any[]): void {
    super._rdkakfa_recv_callback(messages);
  }
  override _receive_done(offsets: Record<string, number>): void {
    super._receive_done(offsets);
    const open: number | undefined = this.receiving_offsets['0']?.length;
    void open;
  }
  override _rdkafka_stats_callback(json: string): void {
    super._rdkafka_stats_callback(json);
  }
}

class OwnProducer extends Producer {
  override _rdkafka_dr_callback(list: DeliveryReport['rdkafka_errinfo']): void {
    super._rdkafka_dr_callback(list.filter(({ errcode }) => errcode !== 0));
  }
  override _rdkafka_stats_callback(json: string): void {
    super._rdkafka_stats_callback(json);
  }
}

class OwnDirectory extends OffsetDirectory {
  override _filename(partition: number): string {
    return `${super._filename(partition)}.mine`;
  }
  override async _read_one(partition: number): Promise<number> {
    return (await super._read_one(partition)) + 1;
  }
  override async _commit_one(partition: number, offset: number): Promise<void> {
    await super._commit_one(partition, offset - 1);
  }
  override async _commit(offsets: Record<string, number>): Promise<void> {
    await super._commit(offsets);
  }
}

// Also one by one.
consumer._my_partitions = (count) => [count - 1];

void [produce, read, raw, OwnConsumer, OwnProducer, OwnDirectory];

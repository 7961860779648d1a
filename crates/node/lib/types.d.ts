// Everything that users of the package name. There is no module behind this
// file: the classes are in `producer` and `consumer`.

import Bluebird = require('bluebird');

/** librdkafka's properties; every value is made text. */
export type Properties = Record<string, string | number | boolean | undefined>;

/** Where a client's log lines and warnings go. */
export interface Logger {
  info(...args: unknown[]): void;
  warn(...args: unknown[]): void;
  error(...args: unknown[]): void;
}

/** Error numbers as text, and their names. */
export type KafkaErrors = Readonly<Record<string, string>>;

/** Offsets with a meaning of their own. */
export interface KafkaOffsets {
  readonly RD_KAFKA_OFFSET_BEGINNING: -2;
  readonly RD_KAFKA_OFFSET_END: -1;
  readonly RD_KAFKA_OFFSET_STORED: -1000;
}

/** How often, and how long, something is tried. */
export interface RetryOptions {
  /** Default 5, or without end if there is a `timeout`; -1: without end. */
  max_tries?: number;
  /** Milliseconds from the start of a try to that of the next; default 1000. */
  interval?: number;
  /** By which the interval grows from try to try. */
  backoff?: number;
  /** The most milliseconds to which it grows. */
  max_interval?: number;
  /** Milliseconds after which no further try is begun. */
  timeout?: number;
}

/** What both classes take. */
export interface ClientOptions {
  /** `host:port`, several with commas between. */
  broker: string;
  /** Milliseconds between statistics; default 5000. */
  statistics_interval_ms?: number;
  /** librdkafka's properties of the client, in front of the defaults. */
  driver_options?: Properties;
  /** librdkafka's properties of topics. */
  topic_options?: Properties;
  /** Default `console`. */
  logger?: Logger;
  /** In the place of asking the cluster how many partitions a topic has. */
  fetch_partition_count?: (handle: any, topic: string) => PromiseLike<number>;
}

// ---------------------------------------------------------------- producer

export interface ProducerOptions extends ClientOptions {
  stats_callback?: (info: ProducerStats) => void;
  delivery_report_callback?: (info: DeliveryReport) => void;
  /** Messages in the queue at most; default 500000. */
  queue_buffering_max_messages?: number;
  /** Milliseconds for which messages wait for others; default 250. */
  queue_buffering_max_ms?: number;
  compression?: 'none' | 'gzip' | 'snappy' | 'lz4' | 'zstd';
  /** Neither duplicates nor another order when something is sent again. */
  idempotent?: boolean;
  /** Which replicas have to have a message; default all. */
  acks?: 0 | 1 | -1 | 'all';
  /** In the place of the handle of librdkafka's producer. */
  raw_producer?: new (options: any) => any;
}

/** A message with more than a value. */
export interface NewMessage {
  /** `null`: a tombstone. */
  payload: string | Uint8Array | null;
  key?: string | Uint8Array | null;
  headers?:
    | ReadonlyArray<readonly [string, string | Uint8Array | null]>
    | Readonly<Record<string, string | Uint8Array | null>>
    | null;
  /** Milliseconds since 1970; default now. */
  timestamp?: number | Date;
}

/** What can be sent. */
export type Sendable = string | Uint8Array | null | NewMessage;

export interface SendResult {
  /** Messages of this call that were taken. */
  enqueued: number;
  /** Messages that are neither delivered nor given up. */
  send_queue_length: number;
}

/** A message that was not taken, or not delivered. */
export interface DeliveryFailure {
  /** Its index in the call. */
  index: number;
  errcode: number;
  errstr: string;
}

export interface TrySendResult extends SendResult {
  errors: DeliveryFailure[];
}

/** Where Kafka has put a message. */
export interface Delivery {
  partition: number;
  /** Negative if Kafka has not told. */
  offset: number;
  /** Milliseconds since 1970; -1 if Kafka has not told. */
  timestamp: number;
}

/** Why `produce` has failed. */
export interface ProduceError extends Error {
  /** The code of the first message that failed. */
  code: number;
  errors: DeliveryFailure[];
  /** One for each message of the call, those that failed included. */
  results: Delivery[];
}

export interface DeliveryReport {
  errors: number;
  rdkafka_errinfo: Array<{ errcode: number; count: number; errstr: string }>;
}

export interface ProducerStats {
  /** Messages that wait, by topic. */
  send_queue_length: Record<string, number>;
  /** librdkafka's own statistics. */
  rdkafka_stats: any;
}

export class Producer {
  constructor(options: ProducerOptions);
  readonly options: ProducerOptions;
  readonly logger: Logger;
  readonly handle: any;
  /** Queues messages; those that there is no room for are dropped. */
  send(topic: string, partition: number, payloads: readonly Sendable[]): SendResult;
  /** `send` that tells which messages were not taken, and why. */
  try_send(topic: string, partition: number, payloads: readonly Sendable[]): TrySendResult;
  /** Queues messages, waiting for room, and resolves when Kafka has them. */
  produce(
    topic: string,
    partition: number | null,
    messages: readonly Sendable[],
  ): Promise<Delivery[]>;
  partition_count(topic: string): Bluebird<number>;
  /** Resolves when the queue is empty; the client is closed then. */
  stop(options?: RetryOptions): Bluebird<void>;
  [Symbol.asyncDispose](): Promise<void>;
  /** May be overridden: messages that have ended, by code. */
  _rdkafka_dr_callback(list: DeliveryReport['rdkafka_errinfo']): void;
  /** May be overridden: librdkafka's statistics. */
  _rdkafka_stats_callback(json: string): void;
}

// ---------------------------------------------------------------- consumer

/** A message as kafka-native had it: what is empty or null is absent. */
export interface Message {
  topic: string;
  partition: number;
  offset: number;
  key?: string;
  payload?: string;
}

/** The same with bytes. */
export interface BufferMessage {
  topic: string;
  partition: number;
  offset: number;
  key?: Buffer;
  payload?: Buffer;
}

/** A message with all that Kafka has of it. */
export interface ExtendedMessage<P = string> {
  topic: string;
  partition: number;
  offset: number;
  key: P | null;
  payload: P | null;
  /** Milliseconds since 1970. */
  timestamp: number;
  timestamp_type: 'create' | 'append' | 'none';
  headers: Array<[string, Buffer | null]>;
}

export interface ReceiveInfo<M = Message> {
  messages: M[];
  /** Offsets that were skipped. */
  misses: number;
  /** Jumps back. */
  repeats: number;
  /** The part of `misses` that Kafka had deleted; with `extended_messages`. */
  expired?: number;
}

export interface ConsumerStats {
  waiting_local: number;
  waiting_kafka: number;
  kafka_log_size: number;
  rdkafka_stats: any;
}

export interface ConsumerError {
  /** librdkafka's number, or the system's name of an error of a file. */
  code: number | string | undefined;
  message: string;
  partition?: number;
  fatal: boolean;
}

/** What consumers take that have no `receive_callback`, too. */
export interface ConsumerSettings extends ClientOptions {
  topic: string;
  offset_directory?: string;
  stats_callback?: (info: ConsumerStats) => void;
  error_callback?: (error: ConsumerError) => void;
  /** Told when `partition_refresh_ms` has found new ones: all that are read. */
  partitions_callback?: (partitions: number[]) => void;
  max_messages_per_callback?: number;
  /** Milliseconds for which a batch waits for more messages; default 5. */
  receive_linger_ms?: number;
  queued_max_messages_kbytes?: number;
  num_workers?: number | string;
  worker_slot?: number | string;
  max_callbacks_in_flight?: number;
  on_receive_error?: 'commit' | 'retry' | 'stop';
  retry_delay_ms?: number;
  partition_refresh_ms?: number;
  offset_lock?: boolean;
  offset_manager?: new (options: any) => any;
  raw_consumer?: new (options: any) => any;
}

export interface ConsumerOptions<M = Message> extends ConsumerSettings {
  receive_callback: (info: ReceiveInfo<M>) => unknown;
}

/** Strings or Buffers in messages, and how much of Kafka's they have. */
export type StringFormat = { payload_format?: 'string'; extended_messages?: false };
export type BufferFormat = { payload_format: 'buffer'; extended_messages?: false };
export type ExtendedStringFormat = { payload_format?: 'string'; extended_messages: true };
export type ExtendedBufferFormat = { payload_format: 'buffer'; extended_messages: true };

export interface StoppingOptions {
  /** Milliseconds for which running callbacks are waited for. */
  wait_ms?: number;
}

export class Consumer {
  constructor(options: ConsumerOptions<Message> & StringFormat);
  constructor(options: ConsumerOptions<BufferMessage> & BufferFormat);
  constructor(options: ConsumerOptions<ExtendedMessage<string>> & ExtendedStringFormat);
  constructor(options: ConsumerOptions<ExtendedMessage<Buffer>> & ExtendedBufferFormat);
  readonly options: ConsumerSettings;
  readonly logger: Logger;
  readonly worker_slot: number;
  readonly num_workers: number;
  readonly offset_mgr: any;
  readonly handle: any;
  /** The offset that each partition goes on with. */
  readonly expected_offsets: Record<string, number>;
  /** The last offsets of each partition's batches that are not committed. */
  readonly receiving_offsets: Record<string, number[]>;
  /** The partitions, as text, in ascending order. */
  start(): Bluebird<string[]>;
  pause(): void;
  resume(): void;
  stop(options?: StoppingOptions): Bluebird<void>;
  [Symbol.asyncDispose](): Promise<void>;
  /** May be overridden: the partitions of this worker's slot. */
  _my_partitions(count: number): number[];
  /** May be overridden: what the handle has fetched. */
  _rdkakfa_recv_callback(
    messages: any[],
    errors?: any[],
    starts?: Float64Array,
    lanes?: Int32Array,
  ): void;
  /** May be overridden: a batch that ends with these offsets is processed. */
  _receive_done(offsets: Record<string, number>): void;
  /** May be overridden: librdkafka's statistics. */
  _rdkafka_stats_callback(json: string): void;
}

/** A batch that the next one, or `done`, marks as processed. */
export interface Batch<M = Message> extends ReceiveInfo<M> {
  done(): void;
}

export type AsyncBatches<M> = AsyncIterableIterator<Batch<M>>;

interface Iterating {
  /** Batches that are fetched before they are asked for; default 1. */
  prefetch?: number;
  /** Ends the iteration. */
  signal?: AbortSignal;
}

export interface ConsumeOptions extends ConsumerSettings, Iterating {}

/** What belongs to one topic and a directory of one's own. */
type OwnOffsets =
  | 'topic'
  | 'offset_directory'
  | 'offset_manager'
  | 'offset_lock'
  | 'num_workers'
  | 'worker_slot'
  | 'partition_refresh_ms'
  | 'raw_consumer';

/** A partition of one of a member's topics. */
export interface TopicPartition {
  topic: string;
  partition: number;
}

/** How a member's partitions have changed: `revoked` first, then `assigned`. */
export interface PartitionsChange {
  revoked: TopicPartition[];
  assigned: TopicPartition[];
  /** Some of the revoked ones belong to others already: commits came too late. */
  are_lost: boolean;
}

/** A member of a consumer group, whose commits are on the broker. */
export type GroupOptions = Omit<ConsumerSettings, OwnOffsets | 'partitions_callback'> &
  Iterating & { [key in OwnOffsets]?: never } & {
    group_id: string;
    topics: string[];
    /** Told whenever the group has moved partitions: all that are read now. */
    partitions_callback?: (partitions: TopicPartition[], change: PartitionsChange) => void;
  };

type Source = ConsumeOptions | GroupOptions;

/** Batches for `for await`. */
export function consume(options: Source & StringFormat): AsyncBatches<Message>;
export function consume(options: Source & BufferFormat): AsyncBatches<BufferMessage>;
export function consume(
  options: Source & ExtendedStringFormat,
): AsyncBatches<ExtendedMessage<string>>;
export function consume(
  options: Source & ExtendedBufferFormat,
): AsyncBatches<ExtendedMessage<Buffer>>;

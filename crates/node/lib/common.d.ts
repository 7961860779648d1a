import Bluebird = require('bluebird');
import type { KafkaErrors, KafkaOffsets, Properties, RetryOptions, Sendable } from './types';

export const Errors: KafkaErrors;
export const Offsets: KafkaOffsets;

export interface TopicMetadata {
  topic: string;
  error: number;
  partitions: Array<{
    id: number;
    error: number;
    leader: number;
    replicas: number[];
    isrs: number[];
  }>;
}

export interface Metadata {
  orig_broker_id: number;
  orig_broker_name: string;
  brokers: Record<string, { id: number; host: string; port: number }>;
  topics: TopicMetadata[];
}

export interface RawOptions {
  driver_options?: Properties;
  topic_options?: Properties;
  stat_cb?: ((json: string) => void) | null;
  error_cb?: ((error: { error: number; reason: string }) => void) | null;
  log_cb?: ((line: { level: number; facility: string; message: string }) => void) | null;
}

export interface RawProducerOptions extends RawOptions {
  dr_cb?: ((list: Array<{ errcode: number; count: number; errstr: string }>) => void) | null;
}

export interface RawMessage {
  topic: string;
  partition: number;
  offset: number;
  key?: string;
  payload?: string;
}

export interface RawConsumerOptions extends RawOptions {
  topic: string;
  max_messages_per_callback?: number;
  recv_cb: (
    messages: RawMessage[],
    errors: Array<{ topic: string; partition: number; offset: number; errcode: number }>,
  ) => void;
}

interface Asking {
  get_metadata(topic: string, callback: (error: Error | null, metadata: Metadata) => void): void;
}

export interface RawProducer extends Asking {
  send(
    topic: string,
    partition: number,
    payloads: readonly Sendable[],
  ): { queued: number; queue_length: number };
  outq_length(): number;
  stop(): void;
}

export const RawProducer: {
  new (options: RawProducerOptions): RawProducer;
  (options: RawProducerOptions): RawProducer;
};

export interface RawConsumer extends Asking {
  start(offsets: Record<string, number>): void;
  stop(): void;
  pause(): void;
  resume(): void;
}

export const RawConsumer: {
  new (options: RawConsumerOptions): RawConsumer;
  (options: RawConsumerOptions): RawConsumer;
};

/** A topic's entry of the cluster's metadata, asked for until it is whole. */
export function fetch_metadata(
  handle: Asking,
  topic: string,
  retry?: RetryOptions,
): Bluebird<TopicMetadata>;

/** How many partitions a topic has. */
export function fetch_partition_count(
  handle: Asking,
  topic: string,
  retry?: RetryOptions,
): Bluebird<number>;

// What `require('barnabas-kafka')` has.

export { Consumer, Producer, consume } from './lib/types';
export type {
  AsyncBatches,
  Batch,
  BufferMessage,
  ConsumeOptions,
  ConsumerOptions,
  ConsumerStats,
  Delivery,
  DeliveryFailure,
  DeliveryReport,
  ExtendedMessage,
  GroupOptions,
  KafkaErrors,
  KafkaOffsets,
  Logger,
  Message,
  NewMessage,
  PartitionsChange,
  Properties,
  ProduceError,
  ProducerOptions,
  ProducerStats,
  ReceiveInfo,
  RetryOptions,
  SendResult,
  StoppingOptions,
  TopicPartition,
  TrySendResult,
} from './lib/types';
export { Errors, Offsets } from './lib/common';

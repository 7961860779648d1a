import common from './common.js';

export const { Errors, Offsets, RawConsumer, RawProducer, fetch_metadata, fetch_partition_count } = common;
export default common;

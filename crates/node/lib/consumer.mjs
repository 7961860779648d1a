import consumer from './consumer.js';

export const { Consumer, OffsetDirectory } = consumer;
export default consumer;

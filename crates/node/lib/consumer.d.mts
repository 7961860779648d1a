import * as consumer from './consumer.js';

export * from './consumer.js';
export default consumer;

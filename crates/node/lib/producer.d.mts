import * as producer from './producer.js';

export * from './producer.js';
export default producer;

import producer from './producer.js';

export const { Producer } = producer;
export default producer;

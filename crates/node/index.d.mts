import * as kafka from './index.js';

export * from './index.js';
export default kafka;

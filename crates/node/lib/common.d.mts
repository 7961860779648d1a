import * as common from './common.js';

export * from './common.js';
export default common;

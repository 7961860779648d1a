// The same instance for programs that import it.

import kafka from './index.js';

export const { Consumer, Errors, Offsets, Producer, consume } = kafka;
export default kafka;

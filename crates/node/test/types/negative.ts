// What must not compile.

import { Consumer, Producer, consume } from 'barnabas-kafka';

// @ts-expect-error a broker is missing
new Producer({ logger: console });
// @ts-expect-error a broker is missing
new Consumer({ topic: 't', offset_directory: 'd', receive_callback() {} });
// @ts-expect-error a callback is missing
new Consumer({ broker: 'b', topic: 't', offset_directory: 'd' });

const producer = new Producer({ broker: 'b' });
// @ts-expect-error partitions are numbers
producer.send('t', '0', ['x']);
// @ts-expect-error numbers are no payloads
producer.send('t', 0, [1]);
// @ts-expect-error an object needs a payload
producer.send('t', 0, [{ key: 'k' }]);
// @ts-expect-error there is no such compression
new Producer({ broker: 'b', compression: 'rar' });
// @ts-expect-error groups have no offset directory
consume({ broker: 'b', group_id: 'g', topics: ['t'], offset_directory: 'd' });
// @ts-expect-error groups tell topics, too
consume({ broker: 'b', group_id: 'g', topics: ['t'], partitions_callback: (all: number[]) => all });

new Consumer({
  broker: 'b',
  topic: 't',
  offset_directory: 'd',
  payload_format: 'buffer',
  // @ts-expect-error payloads are Buffers
  receive_callback: ({ messages }) => messages.map((m) => m.payload?.trim()),
});

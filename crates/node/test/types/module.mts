// The same from a module.

import kafka, { Consumer, Errors, Producer, consume, type Message } from 'barnabas-kafka';
import OffsetDirectory from 'barnabas-kafka/lib/offsetdirectory';
import common, { fetch_metadata } from 'barnabas-kafka/lib/common';

const same: boolean = kafka.Producer === Producer && kafka.Errors === Errors;
const messages: Message[] = [];
void [same, messages, Consumer, consume, OffsetDirectory, common.fetch_metadata === fetch_metadata];

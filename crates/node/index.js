'use strict';

const { Errors, Offsets } = require('./lib/common');
const { Consumer } = require('./lib/consumer');
const { Producer } = require('./lib/producer');
const { consume } = require('./lib/consume');

module.exports = { Consumer, Errors, Offsets, Producer, consume };

import OffsetDirectory = require('./offsetdirectory');

export { Consumer } from './types';
export { OffsetDirectory };

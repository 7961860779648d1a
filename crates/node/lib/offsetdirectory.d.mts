import OffsetDirectory from './offsetdirectory.js';

export default OffsetDirectory;

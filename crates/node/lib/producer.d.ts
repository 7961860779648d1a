export { Producer } from './types';

// Hand-written IndexedDB whose resolved writes have reached the disk.

import { engine } from './raw_idb.js';

export default engine('strict');

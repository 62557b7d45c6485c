// A floor: the record and its outbox entry as one row of one append-only store, strict. Nothing reads it.

import { engine } from './one_log_row.js';

export default engine('strict');

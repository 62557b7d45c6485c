// Runs at the end of the lab's script, where `?session=…` asks for it: obeys the harness over a line of its own, and tells it
// of every write when it begins and when its promise ends. What was told has happened, whatever ends this page next.
{
  const parameters = new URLSearchParams(location.search);
  const session = parameters.get('session');
  const letter = parameters.get('letter');
  /** Of this page, and not of the one before a reload. */
  const life = Math.random();
  const bigLength = 20_000;
  const tooLong = 129;
  const tooLarge = 300_000;
  const planAhead = 60;
  const readTries = 20;
  const readPauseMs = 250;

  /** A generator of numbers in [0, 1) that gives the same ones again (mulberry32). */
  const generator = (seed) => {
    let state = seed;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
  };

  /** All that was told, in order: a line that is cut goes on where the harness heard the last of it. */
  const told = [];
  let line;
  let heardAll = 0;
  let onHeard = () => {};
  const tell = (message) => {
    told.push(JSON.stringify(message));
    if (line?.readyState === WebSocket.OPEN) line.send(told.at(-1));
  };

  const start = () => {
    const notes = () => lab.db.collection('notes');
    /** Records of this letter: true when alive, false when deleted. */
    const own = new Map();
    let count = 0;
    let until = 0;
    let working;
    let next;
    const any = (list) => list[Math.floor(next() * list.length)];
    const alive = () => [...own].filter(([, there]) => there).map(([id]) => id);

    const fields = (key, part) => ({ title: `${key}.${part}`, ...(next() < 0.05 && { body: `${key}.${part}.${'b'.repeat(Math.floor(next() * bigLength))}` }) });
    /** A transaction has a field of its own: its callback may wait, and a write that was called after it may be there before it. */
    const hot = (key, part, records, field = letter) => ({ op: 'update', id: any(records), value: { [field]: `${key}.${part}`, last: `${key}.${part}.last` } });
    const group = (key, hots, last = []) => {
      const members = Array.from({ length: 2 + Math.floor(next() * 3) }, (_, part) => ({ op: 'create', id: `${key}.g${part}`, value: { title: `${key}.${part}` } }));
      return { group: true, ops: [...members, ...(next() < 0.5 ? [hot(key, 'h', hots, `g${letter}`)] : []), ...last] };
    };
    /** A write whose promise must reject. */
    const doomed = (key, hots) => {
      const [id] = alive();
      const ways = [
        () => ({ ops: [{ op: 'create', id: key.padEnd(tooLong, 'x'), value: { title: `${key}.0` } }] }),
        () => ({ ops: [{ op: 'update', id: `${key}.nowhere`, value: { title: `${key}.0` } }] }),
        () => ({ ops: [{ op: 'create', id: hots[0], value: { title: `${key}.0` } }] }),
        () => group(key, hots, [{ op: 'create', id: `${key}.large`, value: { title: `${key}.l`, body: `${key}.${'x'.repeat(tooLarge)}` } }]),
        () => ({ ...group(key, hots, id ? [{ op: 'create', id, value: { title: `${key}.again` } }] : [{ op: 'update', id: `${key}.nowhere`, value: { title: `${key}.n` } }]) }),
      ];
      return any(ways)();
    };

    const kinds = {
      put: (key) => ({ ops: [{ op: 'put', id: key, value: fields(key, 0) }] }),
      edit: (key) => (alive().length > 0 ? { ops: [{ op: 'update', id: any(alive()), value: fields(key, 0) }] } : kinds.put(key)),
      hot: (key, hots) => ({ ops: [hot(key, 0, hots)] }),
      group,
      delete: (key) => (alive().length > 3 ? { ops: [{ op: 'delete', id: any(alive()) }] } : kinds.put(key)),
      recreate: (key) => {
        const dead = [...own].filter(([, there]) => !there).map(([id]) => id);
        return dead.length > 0 ? { ops: [{ op: 'create', id: any(dead), value: fields(key, 0) }] } : kinds.put(key);
      },
      doomed,
      // The server refuses an empty title: here it is stored, and waits for a person later.
      bad: (key) => ({ bad: true, ops: [{ op: 'put', id: `${key}.bad`, value: { title: '', body: `${key}.0` } }] }),
      badGroup: (key, hots) => ({ bad: true, ...group(key, hots.slice(0, 0)) }),
    };
    const shares = { put: 34, edit: 20, hot: 22, group: 10, delete: 6, recreate: 3, doomed: 4, bad: 1 };
    const bag = Object.entries(shares).flatMap(([kind, share]) => Array(share).fill(kind));

    const perform = ({ group, ops }) => {
      const to = { put: 'put', create: 'create' };
      const call = (target, { op, id, value }) => (to[op] ? target[op]({ id, ...value }) : op === 'update' ? target.update(id, value) : target.delete(id));
      return group ? lab.db.transaction(['notes'], (tx) => ops.forEach((op) => call(tx.collection('notes'), op))) : call(notes(), ops[0]);
    };

    /** Writes that were told and not begun, in order, with how many messages must have been heard before. */
    const planned = [];
    /** A write is told before it is made, and made when it was heard: what is killed in between leaves nothing that nobody knows of. */
    const plan = (hots) => {
      const k = count++;
      const write = kinds[any(bag)](`${session}.${k}`, hots);
      for (const { op, id } of write.ops) if (!write.group && !write.bad && !hots.includes(id) && id.length < tooLong && !id.includes('nowhere')) own.set(id, op !== 'delete');
      tell({ type: 'began', k, write });
      planned.push({ k, write, after: told.length });
    };

    /** One write, from its beginning to the end of its promise. */
    const step = async ({ k, write }, plant) => {
      try {
        tell({ type: (await (plant?.(write, perform) ?? perform(write))) === 'refused' ? 'refused' : 'stored', k });
      } catch (error) {
        // A call that was cut off in the middle says that it does not know.
        tell({ type: error?.details?.fate === 'unknown' || !lab.isSyncError(error) ? 'unknown' : 'refused', k, code: error?.code ?? String(error) });
      }
    };

    /** What a broken engine would do: each must be found. */
    const plants = {
      forget: ({ ops }) => (ops[0].op === 'put' ? Promise.resolve() : undefined),
      halfGroup: (write, perform) => (write.group ? perform({ ...write, ops: write.ops.slice(1) }) : undefined),
      twice: (write, perform) => (write.ops[0].op === 'put' ? perform(write).then(() => perform({ ops: [{ op: 'update', id: write.ops[0].id, value: { body: 'again' } }] })) : undefined),
      refuse: (write, perform) => (write.ops[0].op === 'put' ? perform(write).then(() => 'refused') : undefined),
    };

    /** Where the browser's process of the database was killed a read may fail, and says that it may be tried again. */
    const patiently = async (read) => {
      for (let left = readTries; ; await new Promise((done) => setTimeout(done, readPauseMs))) {
        try {
          return await read();
        } catch (error) {
          if (!error?.retryable || --left === 0) throw error;
        }
      }
    };

    const orders = {
      /** `gap` writes are under way at any time, `most` in all; it goes on behind the answer. */
      async work({ seed, most, gap, pause, hots, existing, plant }) {
        next = generator(seed);
        for (const [id, there] of existing) own.set(id, there);
        until = count + most;
        const writer = async () => {
          for (;;) {
            while (count < until && planned.length < planAhead) plan(hots);
            if (planned.length === 0) return;
            if (planned[0].after > heardAll) {
              await new Promise((done) => (onHeard = done));
              continue;
            }
            await step(planned.shift(), plants[plant]);
            if (next() < pause) await new Promise((done) => setTimeout(done, next() * 60));
            if (next() < 0.02) navigator.serviceWorker.controller?.postMessage({ type: 'landfall-flush', database: 'landfall:kill:ada' });
            if (next() < 0.02) void lab.db.sync.now().catch(() => {});
          }
        };
        working = Promise.all(Array.from({ length: gap }, writer));
      },
      /** Begins no more writes; those under way end first. */
      async rest() {
        until = count;
        for (const { k } of planned.splice(0)) tell({ type: 'dropped', k });
        onHeard();
        await working;
      },
      async begin({ hots }) {
        await lab.login('ada', 'landfall');
        const workers = navigator.serviceWorker;
        await workers.ready;
        if (!workers.controller) await new Promise((claimed) => workers.addEventListener('controllerchange', claimed, { once: true }));
        await Promise.all(hots.map((id) => notes().put({ id, title: id })));
        return lab.db.sync.now();
      },
      /** Everything that this page shows; nothing of its own is written meanwhile. */
      async look() {
        const [rows, outbox, conflicts] = await patiently(async () => [await notes().query().get(), await lab.db.outbox.list(), await lab.db.conflicts.list()]);
        const shown = rows.map((row) => {
          const { id, ...value } = row;
          return { id, value, ...lab.meta(row) };
        });
        return { rows: shown, outbox, conflicts, status: lab.db.sync.status };
      },
      login: () => lab.login('ada', 'landfall').then(() => true),
      sync: () => lab.db.sync.now(),
      inspect: () => lab.db.inspect(),
      put: ({ record }) => notes().put(record).then(() => true),
      reload: () => void setTimeout(() => location.reload()),
      async leave({ record }) {
        if (record) await notes().put(record);
        location.assign('about:blank');
      },
      /** Another database of the same user, which no worker sends for. */
      openAlone: () => lab.openAs('ada', { serviceWorker: false, name: 'alone' }).then(() => lab.login('ada', 'landfall')).then(() => true),
      /** From now on this page itself cannot send. */
      mute() {
        const real = window.fetch.bind(window);
        window.fetch = (input, init) => (new URL(input.url ?? input, location.href).pathname.endsWith('/push') ? Promise.reject(new TypeError('muted')) : real(input, init));
      },
      fire: ({ event }) => void window.dispatchEvent(new Event(event)),
      /** As if another tab came to the front, and this one again. */
      lookAway() {
        for (const state of ['hidden', 'visible']) {
          Object.defineProperty(document, 'visibilityState', { configurable: true, value: state });
          document.dispatchEvent(new Event('visibilitychange'));
        }
      },
      status: () => lab.db.sync.status,
      /** As damage would: the newest row of the log goes, past the engine. */
      async loseLogRow() {
        const db = await new Promise((done, failed) => {
          const request = indexedDB.open('landfall:kill:ada');
          request.onsuccess = () => done(request.result);
          request.onerror = () => failed(request.error);
        });
        const transaction = db.transaction(['log'], 'readwrite');
        const store = transaction.objectStore('log');
        const cursor = store.openCursor(null, 'prev');
        cursor.onsuccess = () => cursor.result?.delete();
        await new Promise((done) => (transaction.oncomplete = done));
        db.close();
      },
    };

    const obey = async ({ data }) => {
      const { id, order, heard, ...given } = JSON.parse(data);
      if (heard !== undefined) {
        heardAll = heard;
        onHeard();
        return;
      }
      try {
        const value = await orders[order](given);
        tell({ type: 'answer', id, value: value ?? null });
      } catch (error) {
        tell({ type: 'answer', id, error: `${error?.code ?? ''} ${error?.stack ?? error}` });
      }
    };
    const call = () => {
      const socket = new WebSocket(`ws://${location.host}/dev/kill?session=${encodeURIComponent(session)}&life=${life}`);
      socket.onmessage = (event) => {
        if (line !== socket) for (const text of told.slice(JSON.parse(event.data).heard)) socket.send(text);
        line = socket;
        void obey(event);
      };
      socket.onclose = () => setTimeout(call, 50);
    };
    call();

    addEventListener('error', (event) => tell({ type: 'trouble', what: `uncaught: ${event.message}` }));
    addEventListener('unhandledrejection', (event) => tell({ type: 'trouble', what: `unhandled: ${event.reason?.stack ?? event.reason}` }));
    addEventListener('pagehide', () => tell({ type: 'hidden' }));
    lab.ready.then(
      () => {
        for (const event of ['conflict', 'rejected', 'restarted', 'storage', 'failed']) lab.db.sync.on(event, (value) => tell({ type: 'event', event, value: value?.error?.message ?? value }));
        tell({ type: 'ready', status: lab.db.sync.status });
      },
      (error) => tell({ type: 'notReady', error: `${error?.code} ${error?.stack}` }),
    );
  };

  if (session) start();
}

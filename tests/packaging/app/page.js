import { meta, open } from 'landfall';

navigator.serviceWorker?.register('/sw.js', { type: 'module' });
const db = await open({ name: 'app', user: 'ada', url: '/v1/sync', auth: 'cookie', collections: { notes: {} } });
db.collection('notes').subscribe((notes) => document.body.replaceChildren(...notes.map((note) => `${note.text} (${meta(note)?.state})`)));

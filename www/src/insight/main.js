// The Insight page: a manager writes forms, stores fill them in, and both see what came of it.

import { h, setText } from '../shell/dom.js';
import { nowhere, startPage } from '../shell/page.js';
import { placesOf } from '../shell/session.js';
import { tabSet } from '../shell/tabs.js';
import { analyticsPanel } from './analytics.js';
import { checklistPanel } from './checklists.js';
import { formsPanel } from './forms.js';
import { settingsPanel, teamPanel } from './people.js';
import { pullToRefresh } from './pull.js';

const rowsMost = 1000;
const storeTables = ['forms', 'form_sections', 'fields', 'submissions', 'submission_answers', 'team', 'kpi_data'];

startPage('insight', ({ db, person, onError, leave }) => {
  const [store] = placesOf(person, 'store');
  if (!store || !(person.roles ?? []).some((role) => role === 'manager' || role === 'store')) return nowhere(`${person.name} belongs to no store.`, leave);
  const manages = (person.roles ?? []).includes('manager');
  const tables = manages ? [...storeTables, 'form_templates', 'settings'] : storeTables;
  const data = {};
  const context = { db, data, store, person, manages, onError };

  const indicator = h('landfall-indicator');
  indicator.db = db;
  const describe = ({ collection, record, server, base, local, fields }) => {
    const found = { ...server, ...base, ...local, ...fields };
    return `${collection}: ${found.title ?? found.name ?? found.label ?? found.status ?? found.key ?? record}`;
  };
  const conflicts = h('landfall-conflicts', { 'hide-empty': true });
  const pending = h('landfall-pending', { 'hide-empty': true });
  for (const element of [conflicts, pending]) Object.assign(element, { db, describe });
  const said = h('p', { class: 'soft', role: 'status', testid: 'refreshed' });
  const pull = pullToRefresh(async () => {
    const { pulled, error } = await db.sync.now().catch((reason) => ({ pulled: 0, error: reason.code }));
    setText(said, error ? 'The server cannot be reached. What is here stays here.' : pulled === 0 ? 'Nothing new.' : `${pulled} changes have arrived.`);
  });

  const forms = manages ? formsPanel(context) : null;
  const checklists = checklistPanel({ ...context, mayFill: !manages });
  const analytics = analyticsPanel(context);
  const team = teamPanel(context);
  const settings = manages ? settingsPanel(context) : null;
  const diagnostics = h('landfall-diagnostics');
  const panels = [forms, checklists, analytics, team, settings].filter(Boolean);
  const tabs = tabSet('Insight', [
    forms && { key: 'forms', label: 'Forms', element: forms.element },
    { key: 'submissions', label: manages ? 'Submissions' : 'Checklists', element: checklists.element },
    { key: 'analytics', label: 'Analytics', element: analytics.element },
    { key: 'team', label: 'Team', element: team.element },
    settings && { key: 'settings', label: 'Settings', element: settings.element },
    { key: 'sync', label: 'Sync', element: diagnostics, shown: () => ((diagnostics.db = null), (diagnostics.db = db)) },
  ].filter(Boolean));

  const element = h('div', { class: 'columns' },
    h('div', { class: 'column column--aside' }, indicator, h('div', { class: 'pull-row' }, pull.element, said), conflicts, pending),
    h('div', { class: 'column' }, tabs.element));

  function draw() {
    const offline = db.sync.status.connectivity === 'offline';
    for (const panel of panels) panel.update(offline);
  }

  const ends = [];
  return {
    element,
    start: () => {
      tabs.start();
      for (const table of tables) {
        const orderBy = table === 'submissions' ? [['started_at', 'desc']] : undefined;
        ends.push(db.collection(table).query({ limit: rowsMost, ...(orderBy && { orderBy }) }).subscribe((rows) => {
          data[table] = rows;
          draw();
        }, onError));
      }
      ends.push(db.sync.on('status', draw), pull.stop);
      draw();
    },
    stop: () => ends.splice(0).forEach((end) => end()),
  };
});

// The team, which everybody sees and a manager keeps, and the settings, which are a manager's alone.

import { announce, h, icon, reconcile } from '../shell/dom.js';
import { shownState, stateTag } from '../shell/states.js';

export function teamPanel({ db, data, store, manages, onError }) {
  const list = h('ol', { class: 'card rows', testid: 'team', 'aria-labelledby': 'team-title' });
  const empty = h('div', { class: 'card empty' }, icon('people'), h('p', {}, 'Nobody is on the team yet.'));
  const name = h('input', { id: 'member-name', class: 'control', required: true, maxlength: 200, autocomplete: 'off', testid: 'member-name' });
  const email = h('input', { id: 'member-email', class: 'control', type: 'text', maxlength: 200, autocomplete: 'off', inputmode: 'email', testid: 'member-email' });
  const element = h('section', { class: 'column', 'aria-labelledby': 'team-title' },
    h('div', { class: 'section-head' }, h('h2', { id: 'team-title' }, 'Team')), empty, list,
    manages && h('form', { class: 'card form', onsubmit: add },
      h('div', { class: 'form-grid' }, h('div', { class: 'field' }, h('label', { for: 'member-name' }, 'Name'), name), h('div', { class: 'field' }, h('label', { for: 'member-email' }, 'Email'), email)),
      h('div', { class: 'actions' }, h('button', { type: 'submit', class: 'button button--primary', testid: 'member-add' }, 'Add to the team'))));

  async function add(event) {
    event.preventDefault();
    try {
      await db.collection('team').create({ store_id: store, name: name.value.trim(), role: 'staff', ...(email.value.trim() && { email: email.value.trim() }) });
      name.value = email.value = '';
      announce('Added.');
    } catch (error) {
      onError(error);
    }
  }

  function update(offline) {
    empty.hidden = data.team === undefined || data.team.length > 0;
    list.hidden = !data.team?.length;
    reconcile(list, data.team ?? [], {
      key: ({ id }) => id,
      signature: (member) => JSON.stringify([member, shownState(member, offline)]),
      render: (member) => h('li', { class: 'row', testid: 'member' }, h('div', { class: 'row__main' }, h('p', { class: 'row__title' }, member.name), h('p', { class: 'row__facts' }, [member.role, member.email].filter(Boolean).map((fact) => h('span', {}, fact))), stateTag(member, offline))),
    });
  }

  return { element, update };
}

const known = [['reminder', 'Remind the store at', 'time'], ['goal', 'Checklists a day', 'number']];

export function settingsPanel({ db, data, store, onError }) {
  const inputs = new Map();
  const states = new Map();
  const element = h('section', { class: 'column', 'aria-labelledby': 'settings-title' },
    h('div', { class: 'section-head' }, h('h2', { id: 'settings-title' }, 'Settings of the store')),
    h('div', { class: 'card form' }, known.map(([key, label, type]) => {
      const input = h('input', { id: `setting-${key}`, class: 'control', type, testid: `setting-${key}`, onchange: () => save(key, input.value) });
      inputs.set(key, input);
      const state = h('span', {});
      states.set(key, state);
      return h('div', { class: 'field' }, h('label', { for: `setting-${key}` }, label), input, state);
    })));

  async function save(key, value) {
    const setting = data.settings?.find((one) => one.key === key);
    try {
      // One record for each key: a second device makes the same id.
      await (setting ? db.collection('settings').update(setting.id, { value }) : db.collection('settings').put({ id: `${store}.${key}`, store_id: store, key, value }));
      announce('Saved.');
    } catch (error) {
      onError(error);
    }
  }

  function update(offline) {
    for (const [key, input] of inputs) {
      const setting = data.settings?.find((one) => one.key === key);
      if (document.activeElement !== input) input.value = setting?.value ?? '';
      states.get(key).replaceChildren(...(setting ? [stateTag(setting, offline)] : []));
    }
  }

  return { element, update };
}

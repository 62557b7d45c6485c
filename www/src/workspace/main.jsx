// The workspace page: the only one in React. The shell is the same; what is inside is a React tree over landfall/react.

import { LandfallProvider } from 'landfall/react';
import { createRoot } from 'react-dom/client';
import { h } from '../shell/dom.js';
import { nowhere, startPage } from '../shell/page.js';
import { Workspace } from './workspace.jsx';

startPage('workspace', ({ db, person, leave }) => {
  if (!person.facilities?.length) return nowhere(`${person.name} works on no board.`, leave);
  const element = h('div', { testid: 'workspace' });
  const root = createRoot(element);
  return {
    element,
    start: () => root.render(<LandfallProvider db={db}><Workspace person={person} /></LandfallProvider>),
    stop: () => root.unmount(),
  };
});

// The five systems of the demo: where they are, what they keep, and what their databases are opened with.

import { jsonSchema } from 'landfall/validate';

/** Of a company: the server first, in batches of a hundred. */
const company = { scope: 'company:{company_id}', mode: 'online-first', batch: 100 };

/** What a store does is sent at once; the rest within a quarter of a second. */
const insightTables = {
  submissions: { immediate: true, priority: 2, references: { form_id: 'forms' } },
  submission_answers: { immediate: true, priority: 1, indexes: ['submission_id'], references: { submission_id: 'submissions' } },
};
const storeTables = ['forms', 'form_sections', 'fields', 'submissions', 'submission_answers', 'team', 'kpi_data'];
const managerTables = [...storeTables, 'form_templates', 'settings'];

export const systems = {
  grades: {
    title: 'Grades',
    symbol: 'book',
    claim: 'A gradebook that goes on when the school’s line does not.',
    shows: ['A state for every score', 'Conflicts decided one by one or all at once', 'Retries with back-off, then a manual one'],
    collections: {
      student_ecr_item_scores: { scope: 'school:{school_id}', batch: 50, indexes: ['ecr_item_id'], validate: jsonSchema({ required: ['student_id', 'ecr_item_id'], properties: { score: { type: ['number', 'null'], minimum: 0 } } }) },
      student_running_grades: { scope: 'school:{school_id}', batch: 50, indexes: [['subject_id', 'quarter']], validate: jsonSchema({ required: ['student_id', 'subject_id', 'quarter'], properties: { grade: { type: ['number', 'null'], minimum: 0 }, quarter: { type: 'integer', minimum: 1, maximum: 4 } } }) },
    },
    options: { retry: { attempts: 10 } },
  },
  paytrack: {
    title: 'PayTrack',
    symbol: 'coin',
    claim: 'Collections and payments of a company: the server first, this device when it cannot be reached.',
    shows: ['Answers of the server, with a fallback', 'Suppliers, products, rates, collections, payments', 'Audit trail, metrics and health'],
    collections: {
      suppliers: { ...company, priority: 5 },
      products: { ...company, priority: 4 },
      rates: { ...company, priority: 3, references: { product_id: 'products' } },
      collections: { ...company, priority: 2, references: { supplier_id: 'suppliers', product_id: 'products' }, indexes: ['date'] },
      payments: { ...company, priority: 1, references: { supplier_id: 'suppliers' }, indexes: ['date'] },
    },
    options: { retry: { attempts: 3 } },
  },
  workspace: {
    title: 'Workspace',
    symbol: 'board',
    claim: 'A shared task board, in React. Open it twice and watch.',
    shows: ['Real time between two windows', 'Pending state on every card', 'Rollback with the reason'],
    collections: { tasks: { scope: 'facility:{facility_id}', immediate: true, indexes: [['facility_id', 'created_at']] } },
  },
  insight: {
    title: 'Insight',
    symbol: 'chart',
    claim: 'Checklists that a manager writes and stores fill in.',
    shows: ['Two roles, each with its tables', 'Submissions sent at once', 'Analytics on this device'],
    // A store has no use for what only a manager may read.
    collections: ({ roles = [] }) => Object.fromEntries((roles.includes('manager') ? managerTables : storeTables).map((name) => [name, { scope: 'store:{store_id}', ...insightTables[name] }])),
    options: { retry: { attempts: 5 } },
  },
  attendance: {
    title: 'Attendance',
    symbol: 'clock',
    claim: 'Clock in and out anywhere. What you record without a network arrives when it returns.',
    shows: ['One big button that always works', 'Refusals that can be mended', 'Review by an administrator'],
    collections: { attendance: {}, facilities: { scope: 'facility:{facility_id}' } },
  },
};

export const addressOf = (key) => `/${key}/`;

/** Who may sign in, and what each may do where. The server knows them; this is what the buttons say. */
const logins = {
  ada: { name: 'Ada', workspace: 'Works on the board of Main', attendance: 'Staff of Main' },
  grace: { name: 'Grace', workspace: 'Works on the boards of Main and North', attendance: 'Staff of Main and North' },
  linus: { name: 'Linus', workspace: 'Works on the board of North', attendance: 'Staff of North' },
  tess: { name: 'Tess', grades: 'Teaches class 6 B' },
  carl: { name: 'Carl', paytrack: 'Cashier of the company' },
  sam: { name: 'Sam', insight: 'Store: fills in checklists and sends numbers' },
  mia: { name: 'Mia', paytrack: 'Manager of the company', insight: 'Manager: writes forms, sees every submission' },
  'root-demo': { name: 'Root', paytrack: 'Administrator of the company', workspace: 'Works on the boards of Main and North', grades: 'Administrator: sees and edits every score', attendance: 'Administrator: reviews everybody’s sync' },
};

export const loginsOf = (system) => Object.entries(logins).filter(([, login]) => login[system]).map(([user, login]) => ({ user, name: login.name, may: login[system] }));

// The five systems of the demo: where they are, what they keep, and what their databases are opened with.

export const systems = {
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
  ada: { name: 'Ada', attendance: 'Staff of Main' },
  grace: { name: 'Grace', attendance: 'Staff of Main and North' },
  linus: { name: 'Linus', attendance: 'Staff of North' },
};

export const loginsOf = (system) => Object.entries(logins).filter(([, login]) => login[system]).map(([user, login]) => ({ user, name: login.name, may: login[system] }));

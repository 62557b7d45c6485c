import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { freePort, listenAnywhere } from '../../xtask/lib.mjs';

test('a free port is one that no outgoing connection is given, and never one that somebody has', async () => {
  const [taken, other] = [createServer(), createServer()];
  const port = await listenAnywhere(taken);
  assert.equal(taken.address().port, port);
  assert.ok(port >= 20_000 && port < 32_768, `${port}`);
  // By chance alone the one that is taken would be among these.
  for (let n = 0; n < 60; n++) assert.notEqual(await freePort([port, port + 9]), port);
  await assert.rejects(listenAnywhere(other, [port, port]), { code: 'EADDRINUSE' });
  taken.close();
});

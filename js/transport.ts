/** A backend of the app's own, as the engine asks it: by path and text, with an answer in the form of HTTP's. */
import type { Transport, TransportRequest } from './types.js';

/** @internal Rejects where there is no answer. */
export type Carry = (path: string, body: string | undefined, token: string | undefined) => Promise<{ status: number; body: string; retry_after_ms?: number | undefined }>;

/** The engine's own requests have this long. */
const callMs = 40_000;

/** @internal */
export function carrier(transport: Transport): Carry {
  return async (path, body, token) => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => (timer = setTimeout(reject, callMs)));
    try {
      return { status: 200, body: text(await Promise.race([ask(transport, path, body, token), late])) };
    } catch (error) {
      const { status, code, message = '', retryAfterMs } = Object(error) as { status?: unknown; code?: string; message?: string; retryAfterMs?: number };
      if (typeof status !== 'number' || status < 400) throw error;
      return { status, retry_after_ms: retryAfterMs, body: text({ error: { code, message, request_id: '' } }) };
    } finally {
      clearTimeout(timer);
    }
  };
}

/** Async, so that what it throws at once is a rejection too. */
async function ask(transport: Transport, path: string, body: string | undefined, token: string | undefined): Promise<unknown> {
  if (path === '/status') return (await transport.status?.({ token })) ?? {};
  return transport[path === '/push' ? 'push' : 'pull'](JSON.parse(body ?? '{}') as TransportRequest, { token });
}

/** What cannot be written as JSON is an answer that makes no sense: it counts, where no answer would be waited for without end. */
function text(value: unknown): string {
  try {
    return JSON.stringify(value) ?? '';
  } catch {
    return '';
  }
}

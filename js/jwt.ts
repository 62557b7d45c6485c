/**
 * When a token says it ends: milliseconds since 1970, or undefined for a token that is no JWT or says nothing.
 * Only read, never verified: the server does that, and a wrong answer here costs one refresh.
 */
export function expiresAtMs(token: string): number | undefined {
  try {
    const payload = token.split('.')[1] ?? '';
    const claims: unknown = JSON.parse(atob(payload.replace(/-/g, '+').replace(/_/g, '/')));
    if (typeof claims !== 'object' || claims === null || !('exp' in claims)) return undefined;
    return typeof claims.exp === 'number' && Number.isFinite(claims.exp) ? Math.floor(claims.exp * 1000) : undefined;
  } catch {
    return undefined;
  }
}

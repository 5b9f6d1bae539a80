// How many messages of each instance wait.
import { get } from './api.js';
import { changed, scopeQuery, state } from './state.js';

export const waitingOf = (session) => state.waiting.get(session) ?? 0;

// Milliseconds until what waits is counted once a message has moved: others follow at once. Counting takes a tenth of the time at most.
const COUNTED_AFTER = 200;
let counting = false;
let countAgain = false;

// A message has moved, or many have.
export async function waitingMoved() {
  countAgain = true;
  if (counting) return;
  counting = true;
  while (countAgain && state.signedIn === 'in') {
    await new Promise((resolve) => setTimeout(resolve, COUNTED_AFTER));
    countAgain = false;
    const began = performance.now();
    await count();
    await new Promise((resolve) => setTimeout(resolve, 9 * (performance.now() - began)));
  }
  counting = false;
}

async function count() {
  const { account } = state;
  const scope = scopeQuery();
  try {
    const { sessions } = await get(`messages/waiting/${scope}`);
    if (state.account === account && scopeQuery() === scope) changed({ waiting: new Map(sessions.map((one) => [one.session_id, one.waiting])) });
  } catch {
    // The next message that moves is another occasion; whoever may read none sees none.
  }
}

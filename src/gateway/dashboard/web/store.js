// Who is signed in, whose instances are shown, and what the gateway told of them.
import { actFor, get, onAnother, onEnded, path } from './api.js';
import { changed, covers, moved, nothing, scopeQuery, state } from './state.js';
import { follow } from './stream.js';
import { t } from './words.js';
import { waitingMoved } from './waiting.js';
import { toast } from './parts/toasts.js';

export { closeDialog, current, openDialog, search, useStore } from './state.js';

// --- who ---

// Windows of one browser share its cookie: whoever signs in or out in one of them does so in all.
const windows = new BroadcastChannel('dashboard.account');
windows.onmessage = ({ data }) => state.account?.signed_in_by !== 'header' && become(data);

onEnded(() => {
  if (state.signedIn === 'in') ended();
  else if (state.signedIn === 'checking') changed({ signedIn: 'out' });
});
onAnother(() => isStillOurs().catch(() => {}));

function ended() {
  rest();
  changed({ signedIn: 'ended' });
}

export function signedIn(account) {
  windows.postMessage(account);
  become(account);
}

export function signedOut() {
  windows.postMessage(null);
  become(null);
}

// The page is of this person from now on, or of nobody; of anybody else it keeps nothing.
function become(account) {
  const before = state.account?.user;
  if (before !== account?.user) forget();
  if (before && account && before !== account.user) toast(t('account.as', { user: account.user }));
  actFor(account?.user);
  changed({ account, signedIn: account ? 'in' : 'out' });
  if (account) begin();
  else rest();
}

// How long the question who is signed in may take: a connection that something has forgotten is not waited for.
const ASKED = 12_000;

// Whether the page is of whoever the gateway takes its requests for; otherwise it becomes theirs.
async function isStillOurs() {
  const asked = state.account;
  const account = await get('me', ASKED);
  // What was heard of another window meanwhile is newer than the answer.
  if (state.account !== asked) return false;
  const same = account.user === asked?.user;
  if (!same) become(account);
  return same;
}

export async function checkAccount() {
  readScope();
  // Asked again over another connection when there is no answer.
  const again = (refused) => (refused.status ? Promise.reject(refused) : isStillOurs());
  try {
    await isStillOurs().catch(again);
  } catch (refused) {
    // Without a cookie the answer is 401, which onEnded has heard of.
    if (refused.status !== 401) changed({ signedIn: 'out', refused });
  }
}

function forget() {
  heardLast = [];
  changed(nothing());
}

// --- whose ---

function readScope() {
  const query = new URLSearchParams(location.search);
  changed({ scope: { owner: query.get('owner') ?? '', namespace: query.get('namespace') ?? '' } });
}

export function chooseScope(scope) {
  changed({ scope: { ...state.scope, ...scope }, sessions: new Map(), loaded: false, limit: null, refused: null });
  history.replaceState(null, '', location.pathname + scopeQuery());
  begin();
}

// Whose limit counts here: none where several owners are shown.
export function scopeOwner() {
  if (state.scope.owner === '*') return null;
  return state.scope.owner || state.account?.user;
}

const NOT_ALLOWED = [401, 403, 404];

export async function readLimit() {
  const owner = scopeOwner();
  if (!owner || state.signedIn !== 'in') return changed({ limit: null });
  try {
    const limit = await get(owner === state.account.user ? 'owner' : path`owner?owner=${owner}`);
    if (scopeOwner() === owner) changed({ limit });
  } catch ({ status }) {
    // Whoever may not see it does without. Any other failure tells nothing of it: what was known is shown still.
    if (NOT_ALLOWED.includes(status) && scopeOwner() === owner) changed({ limit: null });
  }
}

let limitSoon = [];

// The count of slots follows the sessions a moment later, a busy operator some seconds later, and many may come at once.
function limitMoved() {
  limitSoon.forEach(clearTimeout);
  limitSoon = [250, 3000].map((pause) => setTimeout(readLimit, pause));
}

addEventListener('visibilitychange', () => document.visibilityState === 'visible' && readLimit());

// --- what is told ---

let stop = () => {};
// While everything is told anew: what has been told so far.
let seen = null;

function rest() {
  stop();
  changed({ stream: 'off' });
}

function begin() {
  stop();
  changed({ stream: 'connecting', refused: null });
  stop = follow(scopeQuery(), {
    connecting: () => changed({ stream: 'connecting' }),
    live: () => {
      if (state.stream === 'lost') readLimit();
      changed({ stream: 'live' });
    },
    lost: (heardAt) => changed({ stream: 'lost', heardAt }),
    begin: () => {
      seen = new Set();
    },
    event: told,
    ended,
    isStillOurs,
    renewed: () => state.account.signed_in_by === 'header',
    refused: (refused) => changed({ refused, loaded: true, stream: 'off' }),
  });
  readLimit();
}

// The newest events, the last one first; those that tell everything anew are left out.
const KEPT = 500;
let heardLast = [];
let heardCount = 0;

export const heardEvents = () => heardLast;

// Of whoever shows messages: {message(message), missed()}. Nobody else keeps any.
const readers = new Set();

export function readMessages(reader) {
  readers.add(reader);
  return () => readers.delete(reader);
}

// Takes one event of the stream.
export function told(kind, data) {
  if (!seen || kind !== 'session') {
    heardCount += 1;
    heardLast = [{ number: heardCount, at: new Date().toISOString(), kind, data }, ...heardLast.slice(0, KEPT - 1)];
  }
  if (kind === 'session') {
    seen?.add(data.session.id);
    put(data.session);
  } else if (kind === 'deleted') {
    remove(data.session.id);
  } else if (kind === 'ready') {
    for (const id of seen ? state.sessions.keys() : []) if (!seen.has(id)) remove(id);
    seen = null;
    changed({ loaded: true });
    waitingMoved();
  } else if (kind === 'message') {
    readers.forEach((reader) => reader.message(data.message));
    if (readers.size) moved();
    waitingMoved();
  } else if (kind === 'reset') {
    readers.forEach((reader) => reader.missed());
    waitingMoved();
  }
}

function put(session) {
  const before = state.sessions.get(session.id);
  state.sessions.set(session.id, session);
  if (session.user) state.owners.add(session.user);
  if (session.bridge) state.bridges.add(session.bridge);
  if (!before || (before.phase === 'Rejected') !== (session.phase === 'Rejected')) limitMoved();
  moved();
}

// What an answer to a request says, unless the stream was faster. Made for somebody else, it is shown among theirs: nothing
// is shown that the stream does not cover. False when theirs may not be seen.
export async function created(session) {
  if (!covers(session)) {
    try {
      await get(path`sessions/list/?owner=${session.user}&namespace=${session.namespace}`);
    } catch {
      return false;
    }
    chooseScope({ owner: session.user });
  }
  if (!state.sessions.has(session.id)) put(session);
  return true;
}

function remove(id) {
  if (!state.sessions.delete(id)) return;
  limitMoved();
  moved();
}

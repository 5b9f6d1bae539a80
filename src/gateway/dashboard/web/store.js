// What the page knows, in one place: who is signed in, whose instances are shown, and what the gateway told of them.
import { get, onEnded, path } from './api.js';
import { follow } from './stream.js';
import { useListeners } from './html.js';

const state = {
  // checking, out, in, ended
  signedIn: 'checking',
  account: null,
  // Owner and namespace as the API takes them; empty for the caller's own and the default one.
  scope: { owner: '', namespace: '' },
  sessions: new Map(),
  // Everything has been told once.
  loaded: false,
  // connecting, live, lost, off
  stream: 'connecting',
  heardAt: null,
  // Why the sessions of this scope are not shown.
  refused: null,
  // {used, max, connected}, or null when nobody says.
  limit: null,
  // Owners seen so far, for the switcher.
  owners: new Set(),
  // By session: its messages by id.
  messages: new Map(),
  // By session: how many of its messages wait.
  waiting: new Map(),
  dialog: null,
  search: '',
};

const listeners = new Set();
// Milliseconds from one drawing of what was told to the next.
const APART = 100;
let drawing = false;
let later;
let drawnAt = 0;

function draw() {
  clearTimeout(later);
  later = undefined;
  drawing = false;
  listeners.forEach((listener) => listener());
  drawnAt = performance.now();
}

function changed(changes) {
  Object.assign(state, changes);
  if (drawing) return;
  drawing = true;
  // However much changes at once, the page is drawn once.
  queueMicrotask(draw);
}

// An event that comes alone is drawn at once; of those that come by the hundred, many are drawn together.
function moved() {
  const early = drawnAt + APART - performance.now();
  if (early <= 0) changed({});
  else if (!drawing) later ??= setTimeout(draw, early);
}

export const current = () => state;

export function useStore() {
  useListeners(listeners);
  return state;
}

export const openDialog = (kind, properties = {}) => changed({ dialog: { kind, ...properties } });
export const closeDialog = () => changed({ dialog: null });
export const search = (text) => changed({ search: text });

// --- who ---

onEnded(() => {
  if (state.signedIn === 'in') ended();
  else if (state.signedIn === 'checking') changed({ signedIn: 'out' });
});

function ended() {
  stop();
  changed({ signedIn: 'ended' });
}

export async function signedIn(account) {
  const another = state.account && state.account.user !== account.user;
  if (another) forget();
  changed({ account, signedIn: 'in' });
  begin();
}

export function signedOut() {
  stop();
  forget();
  changed({ account: null, signedIn: 'out' });
}

export async function checkAccount() {
  readScope();
  try {
    await signedIn(await get('me'));
  } catch (refused) {
    // Without a cookie the answer is 401, which onEnded has heard of.
    if (refused.status !== 401) changed({ signedIn: 'out', refused });
  }
}

function forget() {
  heardLast = [];
  changed({ sessions: new Map(), messages: new Map(), waiting: new Map(), owners: new Set(), loaded: false, limit: null, refused: null, dialog: null });
}

// --- whose ---

function readScope() {
  const query = new URLSearchParams(location.search);
  changed({ scope: { owner: query.get('owner') ?? '', namespace: query.get('namespace') ?? '' } });
}

function scopeQuery() {
  const query = new URLSearchParams();
  if (state.scope.owner) query.set('owner', state.scope.owner);
  if (state.scope.namespace) query.set('namespace', state.scope.namespace);
  const text = query.toString();
  return text && `?${text}`;
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

export async function readLimit() {
  const owner = scopeOwner();
  if (!owner || state.signedIn !== 'in') return changed({ limit: null });
  try {
    const limit = await get(owner === state.account.user ? 'owner' : path`owner?owner=${owner}`);
    if (scopeOwner() === owner) changed({ limit });
  } catch {
    // Whoever may not see it does without.
    if (scopeOwner() === owner) changed({ limit: null });
  }
}

// --- what is told ---

let stop = () => {};
// While everything is told anew: what has been told so far.
let seen = null;

function begin() {
  stop();
  changed({ stream: 'connecting', refused: null });
  stop = follow(scopeQuery(), {
    live: () => changed({ stream: 'live' }),
    lost: (heardAt) => changed({ stream: 'lost', heardAt }),
    begin: () => {
      seen = new Set();
    },
    event: told,
    ended,
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
    putMessages(data.message.session_id, [data.message]);
    waitingMoved();
  } else if (kind === 'reset') {
    for (const id of state.messages.keys()) readMessages(id).catch(() => {});
    waitingMoved();
  }
}

function put(session) {
  const before = state.sessions.get(session.id);
  state.sessions.set(session.id, session);
  if (session.user) state.owners.add(session.user);
  if (!before || (before.phase === 'Rejected') !== (session.phase === 'Rejected')) limitMoved();
  moved();
}

// What an answer to a request says, unless the stream was faster.
export function created(session) {
  if (!state.sessions.has(session.id)) put(session);
}

function remove(id) {
  if (!state.sessions.delete(id)) return;
  state.messages.delete(id);
  limitMoved();
  moved();
}

let limitSoon;

// The count of slots follows the sessions a moment later, and many may come at once.
function limitMoved() {
  clearTimeout(limitSoon);
  limitSoon = setTimeout(readLimit, 250);
}

// --- messages ---

// A message only moves forward; an answer that is older than an event changes nothing.
const RANK = { queued: 0, sent: 1, delivered: 2, read: 3, failed: 4, expired: 4, cancelled: 4 };

export function putMessages(session, list) {
  const known = new Map(state.messages.get(session));
  for (const message of list) {
    const before = known.get(message.id);
    if (!before || RANK[message.status] >= RANK[before.status]) known.set(message.id, message);
  }
  state.messages.set(session, known);
  moved();
}

export async function readMessages(session, cursor) {
  const more = cursor ? path`&cursor=${cursor}` : '';
  const page = await get(path`messages/list/?session_id=${session}` + more);
  putMessages(session, page.messages);
  return page.next_cursor;
}

export function messagesOf(session) {
  const all = [...(state.messages.get(session)?.values() ?? [])];
  return all.sort((one, other) => other.accepted_at.localeCompare(one.accepted_at) || other.id.localeCompare(one.id));
}

export const waitingOf = (session) => state.waiting.get(session) ?? 0;

// Milliseconds until what waits is counted once a message has moved: others follow at once. Counting takes a tenth of the time at most.
const COUNTED_AFTER = 200;
let counting = false;
let countAgain = false;

// A message has moved, or many have.
async function waitingMoved() {
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
  const scope = scopeQuery();
  try {
    const { sessions } = await get(`messages/waiting/${scope}`);
    if (scopeQuery() === scope) changed({ waiting: new Map(sessions.map((one) => [one.session_id, one.waiting])) });
  } catch {
    // The next message that moves is another occasion; whoever may read none sees none.
  }
}

addEventListener('visibilitychange', () => document.visibilityState === 'visible' && readLimit());

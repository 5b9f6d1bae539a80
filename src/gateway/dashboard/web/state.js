// What the page knows, in one place, and when it is drawn.
import { useListeners } from './html.js';

// Which rows are selected, and what came of what was asked of them.
export const noSelection = () => ({
  // Ids of instances.
  chosen: new Set(),
  // By id: {is: waiting, busy, done or failed}, with the key of our words in `word`, or the refusal in `refused`.
  outcomes: new Map(),
  // What was asked last.
  last: null,
  // An object of its own while that is still being asked, so that those who ask notice that they are no longer wanted.
  running: null,
});

// What is known of whoever is signed in; of the next one it is nothing again.
export const nothing = () => ({
  sessions: new Map(),
  // Everything has been told once.
  loaded: false,
  // Why the sessions of this scope are not shown.
  refused: null,
  // {used, max, connected}, or null when nobody says.
  limit: null,
  // Owners seen so far, for the switcher, and bridges.
  owners: new Set(),
  bridges: new Set(),
  // By session: how many of its messages wait.
  waiting: new Map(),
  // By session: the message that is being written.
  drafts: new Map(),
  dialog: null,
  search: '',
  selection: noSelection(),
});

export const state = {
  // checking, out, in, ended
  signedIn: 'checking',
  account: null,
  // Owner and namespace as the API takes them; empty for the caller's own and the default one.
  scope: { owner: '', namespace: '' },
  // connecting, live, lost, off
  stream: 'connecting',
  heardAt: null,
  ...nothing(),
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

export function changed(changes) {
  Object.assign(state, changes);
  if (drawing) return;
  drawing = true;
  // However much changes at once, the page is drawn once.
  queueMicrotask(draw);
}

// An event that comes alone is drawn at once; of those that come by the hundred, many are drawn together.
export function moved() {
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

export function scopeQuery() {
  const query = new URLSearchParams();
  if (state.scope.owner) query.set('owner', state.scope.owner);
  if (state.scope.namespace) query.set('namespace', state.scope.namespace);
  const text = query.toString();
  return text && `?${text}`;
}

// Whether a session is among those that are followed.
export function covers({ user, namespace }) {
  const { scope, account } = state;
  const fits = (wanted, own, is) => wanted === '*' || (wanted || own) === is;
  return fits(scope.owner, account.user, user) && fits(scope.namespace, account.namespace, namespace);
}

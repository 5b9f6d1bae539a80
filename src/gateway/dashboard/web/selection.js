// Which rows are selected, and what came of what was asked of them: for as long as the page is open, in whatever view and language.
import { useListeners } from './html.js';

const state = {
  // Ids of instances.
  chosen: new Set(),
  // By id: {is: waiting, busy, done or failed}, with the key of our words in `word`, or the API's in `text`.
  outcomes: new Map(),
  // What was asked last.
  last: null,
  // An object of its own while that is still being asked, so that those who ask notice that they are no longer wanted.
  running: null,
};
const listeners = new Set();

let drawing;

// Outcomes come by the hundred: they are drawn together.
export function changed() {
  drawing ??= setTimeout(() => {
    drawing = undefined;
    listeners.forEach((listener) => listener());
  }, 100);
}

export const selection = () => state;

export function useSelection() {
  useListeners(listeners);
  return state;
}

export function select(ids, chosen) {
  for (const id of ids) {
    if (chosen) state.chosen.add(id);
    else state.chosen.delete(id);
  }
  listeners.forEach((listener) => listener());
}

// Also ends what is being asked: it is called when another user signs in.
export function selectNone() {
  state.chosen.clear();
  state.outcomes.clear();
  Object.assign(state, { last: null, running: null });
  changed();
}

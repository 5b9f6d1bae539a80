// Which rows are selected, and what came of what was asked of them: for as long as the page is open, in whatever view and language.
import { useListeners } from './html.js';

const state = {
  // Ids of instances.
  chosen: new Set(),
  // By id: {is: waiting, busy, done or failed}, with the key of our words in `word`, or the API's in `text`.
  outcomes: new Map(),
  // What was asked last, and whether it is still being asked.
  last: null,
  running: false,
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

export function selectNone() {
  state.chosen.clear();
  state.outcomes.clear();
  changed();
}

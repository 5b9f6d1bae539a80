// Selecting rows, of which one asks something at once: for as long as the page is open, in whatever view and language.
import { changed, moved, noSelection, state, useStore } from './state.js';

export const selection = () => state.selection;
export const useSelection = () => useStore().selection;

// Outcomes come by the hundred: they are drawn together.
export { moved as outcomesMoved };

export function select(ids, chosen) {
  for (const id of ids) {
    if (chosen) state.selection.chosen.add(id);
    else state.selection.chosen.delete(id);
  }
  changed({});
}

// Also ends what is being asked, as it does when another user signs in.
export const selectNone = () => changed({ selection: noSelection() });

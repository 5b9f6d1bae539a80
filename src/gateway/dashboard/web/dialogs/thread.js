// One page of an instance's messages, newest first, as they move. No more is kept than is shown.
import { get, path } from '../api.js';

// As many as the API gives at once.
export const PAGE = 50;
// A message only moves forward, and one that failed when the recipient's phone says that it has it; an answer that is older than an
// event changes nothing. What a linked device of the recipient has is further than what was only sent.
const RANK = { queued: 0, sent: 1, failed: 1.5, delivered: 2, read: 3, expired: 4, cancelled: 4 };
const rank = ({ status, companion_delivered_at: there }) => RANK[status] + (there ? 0.1 : 0);

// Of two that were accepted in the same moment, the one that was put in later is newer. Not by the text of the time, which has as
// many digits as it needs.
const at = ({ accepted_at: time }) => Date.parse(time);
const newestFirst = (known) => [...known.values()].reverse().sort((one, other) => at(other) - at(one));

// Takes a message as it is now into those that are known, by their ids; a new one only where there is room for new ones. The
// oldest makes room for it; whether one had to.
export function put(known, message, takesNew) {
  const before = known.get(message.id);
  if (before ? rank(message) < rank(before) : !takesNew) return false;
  known.set(message.id, message);
  if (known.size <= PAGE) return false;
  known.delete(newestFirst(known).at(-1).id);
  return true;
}

// What `id` has sent and has to send; `draw` is called when something was read.
export function thread(id, draw) {
  let known = new Map();
  // The page that is being read, with what was heard of it meanwhile.
  let coming = null;
  // Where the page begins: null is the newest.
  let from = null;
  // Where the next one begins, null when there is none; unknown once new messages have moved the end of this one.
  let next = null;
  const state = { loaded: false, error: null };

  async function list(cursor) {
    return get(path`messages/list/?session_id=${id}` + (cursor ? path`&cursor=${cursor}` : ''));
  }

  async function read(cursor) {
    const page = cursor === from ? known : new Map();
    coming = page;
    try {
      const { messages, next_cursor: after } = await list(cursor);
      if (coming !== page) return;
      const crowded = messages.toReversed().map((message) => put(page, message, true)).includes(true);
      // Of older pages nothing is shown that is not on them.
      const ids = new Set(messages.map((message) => message.id));
      for (const one of cursor ? page.keys() : []) if (!ids.has(one)) page.delete(one);
      [known, from, next] = [page, cursor, crowded ? undefined : after];
      state.error = null;
    } catch (refused) {
      state.error = refused;
    }
    if (coming === page) coming = null;
    state.loaded = true;
    draw();
  }

  // Takes a message as it is now.
  function take(message) {
    if (message.session_id !== id) return;
    if (put(known, message, from === null)) next = undefined;
    if (coming && coming !== known) put(coming, message, true);
  }

  return {
    state,
    take,
    messages: () => newestFirst(known),
    isNewest: () => from === null,
    hasOlder: () => next !== null,
    again: () => read(from),
    newest: () => read(null),
    older: async () => {
      try {
        await read(next ?? (await list(null)).next_cursor);
      } catch (refused) {
        state.error = refused;
        draw();
      }
    },
  };
}

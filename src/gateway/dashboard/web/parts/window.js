// What is not there when the page is first drawn: loaded when it is needed, or when there is nothing else to do.
import { html, useEffect, useState } from '../html.js';
import { closeDialog } from '../store.js';
import { loadWordsOfWindows, t } from '../words.js';
import { toast } from './toasts.js';

const WINDOWS = {
  add: () => import('../dialogs/add.js'),
  bulk: () => import('../page/bulk.js'),
  events: () => import('../dialogs/events.js'),
  help: () => import('../dialogs/help.js'),
  messages: () => import('../dialogs/messages.js'),
  qr: () => import('../dialogs/qr.js'),
  remove: () => import('../dialogs/remove.js'),
  rename: () => import('../dialogs/rename.js'),
  unlink: () => import('../dialogs/unlink.js'),
  table: () => import('../page/table.js'),
  token: () => import('../page/token.js'),
  sign_in: () => import('../dialogs/sign_in.js'),
};
const loaded = new Map();

async function load(kind) {
  if (!loaded.has(kind)) {
    // Whoever is not signed in sees that page first, and loads no more for it than they must: its words are the page's.
    const words = kind !== 'token' && loadWordsOfWindows();
    const [part] = await Promise.all([WINDOWS[kind](), words]);
    loaded.set(kind, part.default);
  }
  return loaded.get(kind);
}

export function Window({ kind, ...properties }) {
  const [Part, setPart] = useState(() => loaded.get(kind));
  useEffect(() => {
    if (Part) return;
    load(kind).then((part) => setPart(() => part), () => {
      closeDialog();
      // A proxy at which nobody is signed in any more may keep this file to itself too.
      toast(t(properties.again ? 'account.endedBefore' : 'errors.unreachable'), true);
    });
  }, [kind]);
  return Part && html`<${Part} ...${properties} />`;
}

export function loadAll() {
  const later = window.requestIdleCallback ?? ((callback) => setTimeout(callback, 200));
  later(() => Object.keys(WINDOWS).forEach((kind) => load(kind).catch(() => {})));
}

// What is not there when the page is first drawn: loaded when it is needed, or when there is nothing else to do.
import { html, useEffect, useState } from '../html.js';
import { closeDialog } from '../store.js';
import { loadWords, t } from '../words.js';
import { Problem } from './controls.js';
import { toast } from './toasts.js';

// What the page shows besides a window.
const ON_THE_PAGE = {
  cards: () => import('../page/cards.js'),
  table: () => import('../page/table.js'),
};
const WINDOWS = {
  add: () => import('../dialogs/add.js'),
  events: () => import('../dialogs/events.js'),
  help: () => import('../dialogs/help.js'),
  messages: () => import('../dialogs/messages.js'),
  qr: () => import('../dialogs/qr.js'),
  remove: () => import('../dialogs/remove.js'),
  rename: () => import('../dialogs/rename.js'),
  unlink: () => import('../dialogs/unlink.js'),
  sign_in: () => import('../dialogs/sign_in.js'),
};
// For whoever is not signed in, the first that is seen: it takes no more than the page has already.
const AT_ONCE = { token: () => import('../page/token.js') };
const PARTS = { ...ON_THE_PAGE, ...WINDOWS, ...AT_ONCE };

// Milliseconds until a part of the page that did not come is asked for again.
const AGAIN = 2_000;
// And those that a browser may take for the first paint: one that nobody looks at paints nothing.
const UNSEEN = 1_000;

const loaded = new Map();
let first;
let more;

// Over when something of the page has been seen: what is loaded later takes nothing from it.
function painted() {
  first ??= new Promise((resolve) => {
    setTimeout(resolve, UNSEEN);
    const seen = new PerformanceObserver((list) => list.getEntriesByName('first-contentful-paint').length && resolve());
    seen.observe({ type: 'paint', buffered: true });
  });
  return first;
}

const style = () => new Promise((resolve, reject) => {
  const link = Object.assign(document.createElement('link'), { rel: 'stylesheet', href: new URL('../later.css', import.meta.url), onload: resolve });
  link.onerror = () => {
    link.remove();
    reject(new TypeError('no style'));
  };
  document.head.append(link);
});

// The words and the looks of all that is loaded later.
function loadMore() {
  more ??= painted().then(() => Promise.all([loadWords('more'), style()])).catch((error) => {
    more = undefined;
    throw error;
  });
  return more;
}

async function load(kind) {
  if (!loaded.has(kind)) {
    if (!AT_ONCE[kind]) await painted();
    const [part] = await Promise.all([PARTS[kind](), !AT_ONCE[kind] && loadMore()]);
    loaded.set(kind, part.default);
  }
  return loaded.get(kind);
}

// `until`: what is shown in the place of a part of the page before it is there.
export function Window({ kind, until, ...properties }) {
  const [Part, setPart] = useState(() => loaded.get(kind));
  const [failed, setFailed] = useState(0);
  useEffect(() => {
    if (Part) return undefined;
    let again;
    load(kind).then((part) => setPart(() => part), () => {
      if (!(kind in WINDOWS)) {
        again = setTimeout(setFailed, AGAIN, failed + 1);
        return;
      }
      closeDialog();
      // A proxy at which nobody is signed in any more may keep this file to itself too.
      toast(t(properties.again ? 'account.endedBefore' : 'errors.unreachable'), true);
    });
    return () => clearTimeout(again);
  }, [kind, failed]);
  if (Part) return html`<${Part} ...${properties} />`;
  // Many browsers remember that a file did not come, and do not ask for it again before the page is loaded anew.
  if (failed) return html`<${Problem} error=${{ message: t('errors.unreachable') }} onRetry=${() => location.reload()} />`;
  return until;
}

export function loadAll() {
  const later = window.requestIdleCallback ?? ((callback) => setTimeout(callback, 200));
  const all = () => {
    Object.keys(PARTS).forEach((kind) => load(kind).catch(() => {}));
    loadWords('refusals').catch(() => {});
  };
  painted().then(() => later(all));
}

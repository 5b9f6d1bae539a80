// What is asked of many instances at once: each has its own outcome, and those that failed can be asked again.
import { html, useState } from '../html.js';
import { call, refusedBy } from '../api.js';
import { current, useStore } from '../store.js';
import { outcomesMoved, selectNone, selection, useSelection } from '../selection.js';
import { t } from '../words.js';
import { Button, Field } from '../parts/controls.js';
import { Dialog } from '../parts/dialog.js';

const VERBS = ['connect', 'disconnect', 'refresh-qr', 'delete'];
const ICONS = { connect: 'power', disconnect: 'off', 'refresh-qr': 'refresh', delete: 'trash' };
// So many in one request, so that their outcomes are seen to come.
const AT_ONCE = 50;
// And so many requests at a time: together as many as one request may name. The stream needs a connection beside them, and over HTTP/1.1 a
// browser has six.
const TOGETHER = 4;
// A gateway that asks for patience so often in a row, and lets nothing through meanwhile, is asked no more.
const PATIENCE = 20;

const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

// Over when the gateway takes requests again. All wait for it: one that went on at once would take what the others wait for.
let pause = Promise.resolve();
// How often it has asked for patience since it last let something through.
let refused = 0;

// Nothing, once somebody else uses the page: what was asked under one name is not asked under another.
async function ask(action, ids, asked) {
  for (;;) {
    // It may have become longer meanwhile.
    for (let seen; seen !== pause; ) await (seen = pause);
    if (asked !== selection().running) return null;
    try {
      const { outcomes } = await call('POST', 'sessions/bulk/', { action, session_ids: ids });
      refused = 0;
      return outcomes;
    } catch (error) {
      if (error.code !== 'RateLimited' || refused >= PATIENCE) throw error;
      refused += 1;
      pause = wait(error.retryAfter ?? 1);
    }
  }
}

async function some(verb, ids, running) {
  const put = (id, is, said) => {
    if (running !== selection().running) return;
    selection().outcomes.set(id, { is, ...said });
    outcomesMoved();
  };
  const asked = ids.filter((id) => {
    // The page may be showing another owner's by now: those that it does not know are asked for all the same.
    const offered = current().sessions.get(id)?.actions.includes(verb) ?? true;
    if (offered) put(id, 'busy', { word: 'bulk.busy' });
    else put(id, 'failed', { word: 'bulk.notOffered' });
    return offered;
  });
  if (!asked.length) return;
  try {
    const outcomes = await ask(verb, asked, running);
    if (!outcomes) return;
    for (const [at, { done, error }] of outcomes.entries()) {
      if (done) put(asked[at], 'done', { word: 'bulk.done' });
      else put(asked[at], 'failed', { refused: await refusedBy(error) });
    }
  } catch (refused) {
    asked.forEach((id) => put(id, 'failed', { refused }));
  }
}

// Asks all of them, some at a time, begun in their order.
async function run(verb, ids) {
  const all = selection();
  if (all.running) return;
  const running = {};
  Object.assign(all, { last: verb, running });
  refused = 0;
  all.outcomes.clear();
  ids.forEach((id) => all.outcomes.set(id, { is: 'waiting', word: 'bulk.waiting' }));
  outcomesMoved();
  let at = 0;
  const next = async () => {
    while (at < ids.length && running === selection().running) {
      at += AT_ONCE;
      await some(verb, ids.slice(at - AT_ONCE, at), running);
    }
  };
  try {
    await Promise.all(Array.from({ length: TOGETHER }, next));
  } finally {
    if (running === all.running) all.running = null;
    outcomesMoved();
  }
}

function ConfirmDelete({ count, onAgreed, onClose }) {
  const [typed, setTyped] = useState('');
  const agreed = typed.trim() === String(count);
  const footer = html`
    <${Button} label=${t('cancel')} onPress=${onClose} />
    <${Button} label=${t('remove.button')} icon="trash" kind="danger" type="submit" disabled=${!agreed} onPress=${() => agreed && onAgreed()} />`;
  return html`
    <${Dialog} title=${t('bulk.deleteTitle', { count })} onClose=${onClose} footer=${footer}>
      <p>${t('bulk.deleteText')}</p>
      <${Field} label=${t('remove.type', { count })} value=${typed} inputmode="numeric" onInput=${(event) => setTyped(event.target.value)} />
    <//>`;
}

export default function Bulk() {
  const { sessions } = useStore();
  const { chosen, outcomes, last, running: asked } = useSelection();
  const running = asked !== null;
  const [asking, setAsking] = useState(false);
  const ids = [...chosen].filter((id) => sessions.has(id));
  const of = (is) => [...outcomes.values()].filter((outcome) => outcome.is === is).length;
  const left = of('waiting') + of('busy');
  // Those that failed, and to which it may be done now.
  const failed = [...outcomes].filter(([id, { is }]) => is === 'failed' && sessions.get(id)?.actions.includes(last)).map(([id]) => id);
  const start = (verb, which) => {
    setAsking(false);
    return run(verb, which);
  };
  const offered = (verb) => ids.some((id) => sessions.get(id).actions.includes(verb));
  const button = (verb) => html`
    <${Button} key=${verb} icon=${ICONS[verb]} label=${t(`actions.${verb}`)} kind="small ${verb === 'delete' ? 'danger quiet' : ''}" data-bulk=${verb}
      disabled=${running || !offered(verb)} onPress=${() => (verb === 'delete' ? setAsking(true) : start(verb, ids))} />`;
  if (!ids.length && !running) return null;
  return html`
    <section class="bulk" aria-label=${t('bulk.title')}>
      <strong>${t('bulk.selected', { count: ids.length })}</strong>
      ${VERBS.map(button)}
      ${outcomes.size > 0 && html`
        <span class="bulk-outcome" role="status" data-done=${of('done')} data-failed=${of('failed')} data-waiting=${of('waiting')}>
          ${t(left ? 'bulk.outcome' : 'bulk.ended', { done: of('done'), failed: of('failed'), left })}</span>`}
      ${!running && failed.length > 0 && html`<${Button} icon="refresh" label=${t('bulk.retry', { count: failed.length })} kind="small primary" data-bulk="retry" onPress=${() => start(last, failed)} />`}
      <${Button} icon="close" label=${t('bulk.none')} kind="small quiet" onlyIcon disabled=${running} onPress=${selectNone} />
      ${asking && html`<${ConfirmDelete} count=${ids.length} onAgreed=${() => start('delete', ids)} onClose=${() => setAsking(false)} />`}
    </section>`;
}

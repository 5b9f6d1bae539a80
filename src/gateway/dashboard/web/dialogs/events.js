// What the gateway told this page since it was opened: the newest 500 events.
import { html, useEffect, useState } from '../html.js';
import { heardEvents, useStore } from '../store.js';
import { clockTime, t } from '../words.js';
import { Button, Field } from '../parts/controls.js';
import { copy } from '../parts/copy.js';
import { Dialog } from '../parts/dialog.js';
import { toast } from '../parts/toasts.js';

// What may be a number of somebody, but for its last two digits: seven or more of them, with whatever the gateway takes in between.
const NUMBER = /\+?\d(?:[\s().\/\u2010-\u2015-]*\d){4,}(?=(?:[\s().\/\u2010-\u2015-]*\d){2})/g;
const SECRET = ['message', 'push_name'];

// The same without numbers, names and texts of people. Codes stand in no event.
function masked(value, key = '') {
  if (Array.isArray(value)) return value.map((one) => masked(one));
  if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, masked(one, name)]));
  if (typeof value !== 'string') return value;
  if (SECRET.includes(key)) return '…';
  return ['phone_number', 'recipient'].includes(key) ? value.replace(NUMBER, '…') : value;
}

function about({ data }) {
  if (data.session) return `${data.session.instance_name} · ${data.session.phase}${data.session.reason ? ` · ${data.session.reason}` : ''}`;
  if (data.message) return [data.message.recipient, data.message.status, data.message.cause].filter(Boolean).join(' · ');
  return data.reason ?? '';
}

export default function EventsDialog({ onClose }) {
  useStore();
  const [search, setSearch] = useState('');
  const [open, setOpen] = useState(false);
  // While it is paused: what there was then.
  const [held, setHeld] = useState(null);
  const all = held ?? heardEvents();
  const shown = all.map((one) => ({ ...one, data: open ? one.data : masked(one.data) }));
  const words = search.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const text = (one) => `${one.kind} ${JSON.stringify(one.data)}`.toLowerCase();
  const list = words.length ? shown.filter((one) => words.every((word) => text(one).includes(word))) : shown;
  const [, tick] = useState(0);
  useEffect(() => {
    if (held) return undefined;
    const timer = setInterval(() => tick((count) => count + 1), 500);
    return () => clearInterval(timer);
  }, [Boolean(held)]);
  async function copyAll() {
    const json = JSON.stringify(list.map(({ at, kind, data }) => ({ at, event: kind, data })), null, 2);
    if (await copy(json)) toast(t('events.copied', { count: list.length }));
  }
  return html`
    <${Dialog} title=${t('header.events')} kind="drawer" onClose=${onClose}>
      <${Field} label=${t('events.filter')} type="search" name="filter" value=${search} onInput=${(event) => setSearch(event.target.value)} />
      <div class="actions">
        <${Button} icon=${held ? 'play' : 'pause'} label=${t(held ? 'events.resume' : 'events.pause')} kind="small" aria-pressed=${Boolean(held)} data-verb="pause" onPress=${() => setHeld(held ? null : heardEvents())} />
        <${Button} icon="copy" label=${t('events.copy')} kind="small" data-verb="copy" onPress=${copyAll} />
        <label class="check"><input type="checkbox" checked=${open} onChange=${(event) => setOpen(event.target.checked)} />${t('events.open')}</label>
      </div>
      <p class="hint" role="status">${words.length ? t('events.found', { found: list.length, count: all.length }) : t('events.count', { count: list.length })}</p>
      <ol class="events">${list.map((one) => html`
        <li key=${one.number} data-event=${one.kind}>
          <details><summary><time datetime=${one.at}>${clockTime(one.at)}</time> <strong>${one.kind}</strong> <bdi>${about(one)}</bdi></summary>
          <pre tabindex="0">${JSON.stringify(one.data, null, 2)}</pre></details>
        </li>`)}</ol>
    <//>`;
}

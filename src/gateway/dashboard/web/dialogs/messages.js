// What an instance sent and has to send, as it moves; and one more.
import { html, useEffect, useRef, useState } from '../html.js';
import { path, post } from '../api.js';
import { readMessages, useStore } from '../store.js';
import { brief, has, t } from '../words.js';
import { Button, Icon, Problem } from '../parts/controls.js';
import { Dialog } from '../parts/dialog.js';
import { complain } from '../parts/toasts.js';
import { Status } from '../page/status.js';
import { Compose } from './compose.js';
import { thread } from './thread.js';

const ICONS = { queued: 'clock', sent: 'check', delivered: 'checks', read: 'checks', failed: 'alert', expired: 'alert', cancelled: 'close' };

// What follows the word of its state.
function why(message) {
  const { status, waits_for: waits, cause, estimated_send_at: expected } = message;
  if (status === 'queued' && waits) {
    const text = has(`messages.waits.${waits}`) ? t(`messages.waits.${waits}`) : waits;
    return ` ${text}${expected && waits === 'Pacing' ? `, ${t('messages.expected', { time: brief(expected) })}` : ''}`;
  }
  if (cause) return `: ${has(`messages.cause.${cause}`) ? t(`messages.cause.${cause}`) : cause}`;
  return status === 'sent' && message.companion_delivered_at ? `, ${t('messages.onCompanion')}` : '';
}

const lastStep = (message) =>
  message.ended_at ?? message.read_at ?? message.delivered_at ?? message.companion_delivered_at ?? message.sent_at ?? message.accepted_at;

function Message({ message, onTaken }) {
  async function cancel() {
    try {
      onTaken(await post(path`messages/cancel/${message.id}/`));
    } catch (error) {
      complain(error);
    }
  }
  const reason = why(message);
  return html`
    <li class="message is-${message.status}" data-id=${message.id}>
      <p class="message-to"><bdi class="number">${message.recipient}</bdi><time class="aside" datetime=${message.accepted_at}>${brief(message.accepted_at)}</time></p>
      <p class="message-text" dir="auto">${message.message}</p>
      <p class="message-state"><${Icon} name=${ICONS[message.status] ?? 'check'} />
        <span>${t(`messages.status.${message.status}`)}${reason && html`<span class="aside">${reason}</span>`}</span>
        ${message.status !== 'queued' && html`<time class="aside" datetime=${lastStep(message)}>${brief(lastStep(message))}</time>`}
        ${message.status === 'queued' && html`<${Button} label=${t('messages.cancel')} kind="small quiet" onPress=${cancel} />`}
      </p>
    </li>`;
}

export default function MessagesDialog({ id, onClose }) {
  const session = useStore().sessions.get(id);
  const [name] = useState(session?.instance_name ?? '');
  const [, draw] = useState(0);
  const [page] = useState(() => thread(id, () => draw((count) => count + 1)));
  const list = useRef();
  useEffect(() => {
    page.newest();
    return readMessages({ message: page.take, missed: page.again });
  }, [page]);
  const taken = (message) => {
    page.take(message);
    draw((count) => count + 1);
  };
  const turn = (read) => read().then(() => list.current?.scrollIntoView({ block: 'start' }));
  const sent = (message) => (page.isNewest() ? taken(message) : page.newest());
  const { loaded, error } = page.state;
  const messages = page.messages();
  return html`
    <${Dialog} title=${t('messages.title', { name })} kind="drawer" onClose=${onClose}>
      ${session && html`<p class="drawer-state"><${Status} session=${session} /></p>`}
      <${Compose} id=${id} session=${session} onSent=${sent} />
      <${Problem} error=${error} onRetry=${page.again} />
      ${!loaded && html`<div class="skeleton" aria-busy="true"><i class="w80"></i><i class="w60"></i><i class="w80"></i></div>`}
      ${loaded && messages.length === 0 && !error && html`<p class="quiet-text">${t('messages.empty')}</p>`}
      <ul class="message-list" aria-live="polite" ref=${list}>${messages.map((message) => html`<${Message} key=${message.id} message=${message} onTaken=${taken} />`)}</ul>
      <div class="actions">
        ${!page.isNewest() && html`<${Button} label=${t('messages.newest')} onPress=${() => turn(page.newest)} />`}
        ${page.hasOlder() && html`<${Button} label=${t('messages.more')} onPress=${() => turn(page.older)} />`}
      </div>
    <//>`;
}

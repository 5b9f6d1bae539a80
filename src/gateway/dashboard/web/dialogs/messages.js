// What an instance sent and has to send, as it moves; and one more.
import { html, useEffect, useState } from '../html.js';
import { path, post, randomKey } from '../api.js';
import { messagesOf, putMessages, readMessages, useStore } from '../store.js';
import { brief, has, t } from '../words.js';
import { Button, Field, Problem } from '../parts/controls.js';
import { Dialog } from '../parts/dialog.js';
import { Icon } from '../parts/icons.js';
import { complain } from '../parts/toasts.js';
import { Status } from '../page/status.js';

const ICONS = { queued: 'clock', sent: 'check', delivered: 'checks', read: 'checks', failed: 'alert', expired: 'alert', cancelled: 'close' };

function why(message) {
  const { status, waits_for: waits, cause, estimated_send_at: expected } = message;
  if (status === 'queued' && waits) {
    const text = has(`messages.waits.${waits}`) ? t(`messages.waits.${waits}`) : waits;
    return expected && waits === 'Pacing' ? `${text}, ${t('messages.expected', { time: brief(expected) })}` : text;
  }
  if (cause) return has(`messages.cause.${cause}`) ? t(`messages.cause.${cause}`) : cause;
  return '';
}

const lastStep = (message) =>
  message.ended_at ?? message.read_at ?? message.delivered_at ?? message.sent_at ?? message.accepted_at;

function Message({ message }) {
  async function cancel() {
    try {
      putMessages(message.session_id, [await post(path`messages/cancel/${message.id}/`)]);
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
        <span>${t(`messages.status.${message.status}`)}${reason && html` <span class="aside">${reason}</span>`}</span>
        ${message.status !== 'queued' && html`<time class="aside" datetime=${lastStep(message)}>${brief(lastStep(message))}</time>`}
        ${message.status === 'queued' && html`<${Button} label=${t('messages.cancel')} kind="small quiet" onPress=${cancel} />`}
      </p>
    </li>`;
}

function Compose({ session }) {
  const [to, setTo] = useState('');
  const [text, setText] = useState('');
  // The same until it was accepted, so that trying again sends it once.
  const [key, setKey] = useState(randomKey);
  const [refused, setRefused] = useState(null);
  async function send() {
    const recipient = to.replace(/[\s()-]/g, '');
    if (!recipient || !text.trim()) return;
    setRefused(null);
    try {
      // Most are sent at once, and then appear as sent.
      const wait = session.status === 'connected' ? 3 : 0;
      const message = await post(`messages/send/?wait=${wait}`, { recipient, message: text, session_id: session.id }, { 'Idempotency-Key': key });
      putMessages(message.session_id, [message]);
      setText('');
      setKey(randomKey());
    } catch (error) {
      setRefused(error);
      if (error.code === 'KeyReused') setKey(randomKey());
    }
  }
  const keys = (event) => event.key === 'Enter' && (event.ctrlKey || event.metaKey) && send();
  return html`
    <div class="compose" onKeyDown=${keys}>
      <${Problem} error=${refused} onRetry=${refused?.retryable ? send : undefined} />
      ${session.status !== 'connected' && html`<p class="note"><${Icon} name="clock" />${t('messages.offline')}</p>`}
      <${Field} label=${t('messages.to')} type="tel" name="recipient" value=${to} placeholder=${t('messages.toHint')} onInput=${(event) => setTo(event.target.value)} />
      <${Field} label=${t('messages.text')} area name="text" value=${text} dir="auto" aside=${t('messages.sendKeys')} onInput=${(event) => setText(event.target.value)} />
      <${Button} icon="send" label=${t('messages.send')} kind="primary" onPress=${send} disabled=${!to.trim() || !text.trim()} />
    </div>`;
}

export default function MessagesDialog({ id, onClose }) {
  const session = useStore().sessions.get(id);
  const [name] = useState(session?.instance_name ?? '');
  const [cursor, setCursor] = useState(null);
  const [error, setError] = useState(null);
  const [loaded, setLoaded] = useState(false);
  const read = (from) => readMessages(id, from).then((next) => {
    setCursor(next);
    setError(null);
    setLoaded(true);
  }, (refused) => {
    // A session without a place on a bridge has sent nothing.
    setError(refused.code === 'MessageNotFound' ? null : refused);
    setLoaded(true);
  });
  useEffect(() => {
    read();
  }, [id]);
  const list = messagesOf(id);
  const linked = Boolean(session?.phone_number);
  return html`
    <${Dialog} title=${t('messages.title', { name })} kind="drawer" onClose=${onClose}>
      ${session && html`<p class="drawer-state"><${Status} session=${session} /></p>`}
      ${session && linked && html`<${Compose} session=${session} />`}
      ${session && !linked && html`<p class="note"><${Icon} name="qr" />${t('messages.notLinked')}</p>`}
      <${Problem} error=${error} onRetry=${() => read()} />
      ${!loaded && html`<div class="skeleton" aria-busy="true"><i class="w80"></i><i class="w60"></i><i class="w80"></i></div>`}
      ${loaded && list.length === 0 && !error && html`<p class="quiet-text">${t('messages.empty')}</p>`}
      <ul class="message-list" aria-live="polite">${list.map((message) => html`<${Message} key=${message.id} message=${message} />`)}</ul>
      ${cursor && html`<${Button} label=${t('messages.more')} onPress=${() => read(cursor)} />`}
    <//>`;
}

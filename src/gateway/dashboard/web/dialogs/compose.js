// The message that is being written. It is kept until it is sent: whatever becomes of the instance, and of this window.
import { html, useEffect, useRef, useState } from '../html.js';
import { post, randomKey } from '../api.js';
import { current } from '../store.js';
import { t } from '../words.js';
import { Button, Field, Icon, Problem } from '../parts/controls.js';
import { ActionButton } from '../page/actions.js';

function useDraft(id) {
  const [, draw] = useState(0);
  const { drafts } = current();
  // The key stays the same until the message was accepted, so that trying again sends it once.
  if (!drafts.has(id)) drafts.set(id, { to: '', text: '', key: randomKey() });
  const draft = drafts.get(id);
  useEffect(() => () => {
    if (!draft.to && !draft.text) drafts.delete(id);
  }, [draft]);
  const write = (part) => {
    Object.assign(draft, part);
    draw((count) => count + 1);
  };
  return [draft, write];
}

// Why nothing can be sent now, or that it waits.
function note(session) {
  if (!session) return ['alert', 'qr.gone'];
  if (!session.phone_number) return session.actions.includes('connect') ? ['unlink', 'messages.connectFirst'] : ['qr', 'messages.notLinked'];
  return session.status !== 'connected' && ['clock', 'messages.offline'];
}

export function Compose({ id, session, onSent }) {
  const [draft, write] = useDraft(id);
  const [refused, setRefused] = useState(null);
  const field = useRef();
  const { to, text } = draft;
  const ready = Boolean(session?.phone_number && to.trim() && text.trim());
  async function send() {
    if (!ready) return;
    setRefused(null);
    try {
      // Most are sent at once, and then appear as sent.
      const wait = session.status === 'connected' ? 3 : 0;
      // The number goes as it was written, for the gateway refuses what another number would come of: (0) without its brackets.
      const body = { recipient: to.trim().replace(/\s/g, ' '), message: text, session_id: id };
      const message = await post(`messages/send/?wait=${wait}`, body, { 'Idempotency-Key': draft.key });
      // What was written meanwhile is the next message.
      write({ key: randomKey(), ...(draft.text === text && { text: '' }) });
      field.current?.focus();
      onSent(message);
    } catch (error) {
      setRefused(error);
      if (error.code === 'KeyReused') write({ key: randomKey() });
    }
  }
  const keys = (event) => event.key === 'Enter' && (event.ctrlKey || event.metaKey) && send();
  const why = note(session);
  return html`
    <div class="compose" onKeyDown=${keys}>
      <${Problem} error=${refused} onRetry=${refused?.retryable ? send : undefined} />
      ${why && html`<p class="note"><${Icon} name=${why[0]} /><span>${t(why[1])}</span>
        ${session?.actions.includes('connect') && html`<${ActionButton} session=${session} verb="connect" />`}</p>`}
      <${Field} label=${t('messages.to')} type="tel" name="recipient" value=${to} placeholder=${t('messages.toHint')} onInput=${(event) => write({ to: event.target.value })} />
      <${Field} label=${t('messages.text')} area name="text" value=${text} dir="auto" inputRef=${field} aside=${t('messages.sendKeys')} onInput=${(event) => write({ text: event.target.value })} />
      <${Button} icon="send" label=${t('messages.send')} kind="primary" onPress=${send} disabled=${!ready} />
    </div>`;
}

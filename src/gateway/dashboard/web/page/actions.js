// What may be asked of an instance: the API says which now, this says how it looks and does it.
import { html } from '../html.js';
import { path, post } from '../api.js';
import { openDialog } from '../store.js';
import { t } from '../words.js';
import { Button } from '../parts/controls.js';
import { complain, toast } from '../parts/toasts.js';
import { wording } from './status.js';

// The order of the buttons. What needs nobody to look at it waits for nothing: the stream tells what comes of it.
const SHOWN = ['qr', 'refresh-qr', 'connect', 'disconnect', 'set-primary', 'messages', 'unlink', 'delete'];
// These stand apart from the others, together.
const LAST = ['unlink', 'delete'];
const ICONS = {
  qr: 'qr',
  'refresh-qr': 'refresh',
  connect: 'power',
  disconnect: 'off',
  'set-primary': 'star',
  messages: 'message',
  unlink: 'unlink',
  delete: 'trash',
};

async function ask(session, verb) {
  try {
    await post(path`sessions/${verb}/${session.id}/?wait=0`);
    if (verb === 'set-primary') toast(t('actions.primaryMoved', { name: session.instance_name }), false, 'primary');
    return true;
  } catch (error) {
    complain(error, verb === 'set-primary' ? 'primary' : undefined);
    return false;
  }
}

export function act(session, verb) {
  switch (verb) {
    case 'qr':
      return openDialog('qr', { id: session.id });
    case 'messages':
      return openDialog('messages', { id: session.id });
    case 'rename':
      return openDialog('rename', { id: session.id });
    case 'unlink':
      return openDialog('unlink', { id: session.id });
    case 'delete':
      return openDialog('remove', { id: session.id });
    case 'refresh-qr':
      return ask(session, verb).then((asked) => asked && openDialog('qr', { id: session.id }));
    case 'connect':
      // One that is not linked needs a scan first.
      return ask(session, verb).then((asked) => asked && !session.phone_number && openDialog('qr', { id: session.id }));
    default:
      return ask(session, verb);
  }
}

// Whether to say why it cannot be made primary, rather than nothing.
const mayNotBePrimary = (session) =>
  !session.actions.includes('set-primary') && !session.is_primary && session.user && session.actions.includes('rename') &&
  session.status !== 'connected' && session.phase !== 'Rejected';

export function verbs(session) {
  const offered = new Set(session.actions);
  if (session.phone_number && session.phase !== 'Rejected') offered.add('messages');
  // It is by default; that it could also be wished for is of no use to whoever looks at it.
  if (session.is_primary) offered.delete('set-primary');
  if (mayNotBePrimary(session)) offered.add('set-primary');
  return SHOWN.filter((verb) => offered.has(verb));
}

function kind(session, verb) {
  if (verb === 'delete' || verb === 'unlink') return 'danger quiet';
  const first = session.actions.includes('qr') ? 'qr' : session.actions.includes('refresh-qr') ? 'refresh-qr' : 'connect';
  return verb === first ? 'primary' : '';
}

export function ActionButton({ session, verb, onlyIcon }) {
  const refused = verb === 'set-primary' && !session.actions.includes(verb);
  const why = refused ? t('actions.notConnected', { name: session.instance_name }) : undefined;
  return html`
    <${Button} icon=${ICONS[verb]} label=${wording('actions', verb, session)} onlyIcon=${onlyIcon} kind="${kind(session, verb)} small" why=${why}
      aria-disabled=${refused || undefined} data-verb=${verb}
      onPress=${() => (refused ? toast(why, true, 'primary') : act(session, verb))} />`;
}

export function Actions({ session, onlyIcon }) {
  const button = (verb) => html`<${ActionButton} key=${verb} session=${session} verb=${verb} onlyIcon=${onlyIcon} />`;
  return html`
  <div class="actions" role="group" aria-label=${t('card.actions', { name: session.instance_name })}>
    ${verbs(session).filter((verb) => !LAST.includes(verb)).map(button)}
    <span class="actions-last">${verbs(session).filter((verb) => LAST.includes(verb)).map(button)}</span>
  </div>`;
}

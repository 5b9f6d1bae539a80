// The code for the phone, live: each code as WhatsApp gives it, until one is used or the window has passed.
import { html, useEffect, useState } from '../html.js';
import { get, path, post } from '../api.js';
import { useStore } from '../store.js';
import { t } from '../words.js';
import { Code, Left, Over, Steps, useSecondsLeft } from '../parts/code.js';
import { Button, Icon, Problem } from '../parts/controls.js';
import { Dialog } from '../parts/dialog.js';
import { Share } from '../parts/share.js';
import { toast } from '../parts/toasts.js';
import { ActionButton } from '../page/actions.js';
import { advice, isTyped, phase, wording } from '../page/status.js';

// Long enough to be seen.
const FAREWELL = 1_500;
// Codes follow one another within moments; only what is overdue for longer has expired.
const GRACE = 2_000;

const LINKING = ['Connecting', 'Reconnecting'];

// The code that the session has now, read again whenever the stream says that it is another one.
function useCode(session) {
  const [code, setCode] = useState(null);
  const [error, setError] = useState(null);
  const [again, setAgain] = useState(0);
  const expires = session?.phase === 'AwaitingPairing' ? session.qr_expires_at : null;
  useEffect(() => {
    let wanted = true;
    if (!expires) {
      setCode(null);
      setError(null);
      return undefined;
    }
    get(path`sessions/qr/${session.id}/`).then(
      (found) => wanted && (setCode(found), setError(null)),
      (refused) => wanted && !['NoCode', 'AlreadyConnected'].includes(refused.code) && setError(refused),
    );
    return () => {
      wanted = false;
    };
  }, [session?.id, expires, again]);
  return { code, error, retry: () => setAgain((count) => count + 1) };
}

export default function QrDialog({ id, onClose }) {
  const { sessions, stream } = useStore();
  const session = sessions.get(id);
  const [name] = useState(session?.instance_name ?? '');
  const { code, error, retry } = useCode(session);
  const until = code?.qr_expires_at ?? null;
  const left = useSecondsLeft(until);
  const [overdue, setOverdue] = useState(false);
  const [refused, setRefused] = useState(null);

  useEffect(() => {
    setOverdue(false);
    if (left !== 0) return undefined;
    const timer = setTimeout(setOverdue, GRACE, true);
    return () => clearTimeout(timer);
  }, [left === 0, until]);

  const connected = session?.status === 'connected';
  useEffect(() => {
    if (!connected) return undefined;
    const timer = setTimeout(() => {
      toast(t('qr.connected', { name }));
      onClose();
    }, FAREWELL);
    return () => clearTimeout(timer);
  }, [connected]);

  async function refresh() {
    setRefused(null);
    try {
      await post(path`sessions/refresh-qr/${id}/?wait=0`);
    } catch (why) {
      setRefused(why);
    }
  }

  const last = code && (code.qr_attempt === null || code.qr_attempt === code.qr_attempts);
  const expired = session?.phase === 'PairingExpired' || (left === 0 && (last || overdue));
  const mayRefresh = session?.actions.includes('refresh-qr');
  // Known before there is a code, and after the last one has gone.
  const typed = isTyped(session);
  const linking = LINKING.includes(session?.phase);
  // Whether there is a code, or one is coming.
  const awaited = ['AwaitingPairing', 'Pending'].includes(session?.phase) && !expired;
  // Nothing for the phone to do.
  const idle = !awaited && !expired && !linking && !connected;
  // A link begins anew from any of these; the one that was just made stays to be copied while that happens.
  const shares = !connected && !linking && (mayRefresh || session?.link_expires_at);
  const refreshButton = () => mayRefresh && html`<${Button} icon="refresh" label=${wording('actions', 'refresh-qr', session)} kind=${awaited ? '' : 'primary'} data-verb="refresh-qr" onPress=${refresh} />`;

  const connectButton = () => session.actions.includes('connect') && html`<${ActionButton} session=${session} verb="connect" />`;

  function inside() {
    if (!session) return html`<${Over} title=${t('qr.gone')} />`;
    if (connected) return html`<div class="qr-done" role="status"><${Icon} name="check" /><strong>${t('qr.connected', { name })}</strong></div>`;
    // Without the stream the code on the screen may be an old one.
    if (stream === 'lost') return html`<${Over} title=${t('qr.lost')}><i class="spinner"></i><//>`;
    if (linking) return html`<${Over} title=${t('qr.linking')}><i class="spinner"></i><//>`;
    if (expired) return html`<${Over} title=${t('qr.expired')} text=${t('qr.expiredText')}>${refreshButton()}<//>`;
    if (idle) return html`<${Over} title=${phase(session)} text=${advice(session)}>${refreshButton() || connectButton()}<//>`;
    if (left === 0) return html`<${Over} title=${t('qr.next')}><i class="spinner"></i><//>`;
    if (!code) return html`<${Over} title=${t('qr.waiting')} text=${session.reason === 'PairingQueued' || session.phase === 'Pending' ? advice(session) : ''}><i class="spinner"></i><//>`;
    return null;
  }

  const over = inside();
  return html`
    <${Dialog} title=${t('qr.title', { name })} kind="qr" onClose=${onClose}>
      <${Problem} error=${refused ?? error} onRetry=${refused ? refresh : retry} />
      <div class="qr">
        <${Code} drawing=${code?.qr_drawing} characters=${code?.pairing_code} typed=${typed} over=${over} />
        <div class="qr-side">
          ${(awaited || expired) && html`<${Steps} typed=${typed} />`}
          ${linking && html`<p class="hint">${t('qr.keepOpen')}</p>`}
          ${connected && html`<p class="hint">${t('qr.closes')}</p>`}
          ${code && !over && html`
            <${Left} until=${until} left=${left} typed=${typed}>
              ${code.qr_attempt && html`<span class="aside">${t('qr.attempt', { attempt: code.qr_attempt, attempts: code.qr_attempts })}</span>`}
            <//>`}
          ${awaited && html`<p class="hint">${t('qr.secret')}</p>`}
          ${awaited && refreshButton()}
        </div>
      </div>
      ${shares && html`<${Share} session=${session} />`}
    <//>`;
}

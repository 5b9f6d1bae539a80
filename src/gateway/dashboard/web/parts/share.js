// A link for the person with the phone, who has no account here.
import { html, useState } from '../html.js';
import { call, now, path, post } from '../api.js';
import { brief, t } from '../words.js';
import { Button, Problem } from './controls.js';
import { Copy } from './copy.js';

// Where nobody else gets to, as with kubectl whatsapp dashboard.
const LOCAL = ['127.0.0.1', '[::1]', 'localhost'];

export function Share({ session }) {
  const [made, setMade] = useState(null);
  const [error, setError] = useState(null);
  const expires = session.link_expires_at;
  const works = expires && Date.parse(expires) > now();

  const ask = (asked) => asked.then((answer) => (setError(null), setMade(answer.link ? answer : null)), setError);
  const make = () => ask(post(path`sessions/link/${session.id}/`, {}));
  const revoke = () => ask(call('DELETE', path`sessions/link/${session.id}/`));

  // The one that was made here, unless it was taken back or another was made since.
  const shown = works && made?.expires_at === expires ? new URL(made.link, location.origin) : null;
  const isLocal = shown && LOCAL.includes(shown.hostname);
  return html`
    <div class="share">
      <${Problem} error=${error} />
      ${shown && html`<${Copy} text=${shown.href} label=${t('share.link')} />`}
      <p class="hint">${t(shown ? 'share.made' : works ? 'share.exists' : 'share.hint', { time: works ? brief(expires) : '' })}</p>
      ${isLocal && html`<p class="hint warn">${t('share.local')}</p>`}
      <div class="share-buttons">
        ${!shown && html`<${Button} icon="link" label=${t(works ? 'share.again' : 'share.make')} kind="small" data-share="make" onPress=${make} />`}
        ${works && html`<${Button} label=${t('share.revoke')} kind="small quiet" data-share="revoke" onPress=${revoke} />`}
      </div>
    </div>`;
}

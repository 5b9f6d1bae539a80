// Signing in again, over the page as it was.
import { html } from '../html.js';
import { useStore } from '../store.js';
import { t } from '../words.js';
import { Button } from '../parts/controls.js';
import { Dialog } from '../parts/dialog.js';
import { Inside, useSignIn } from '../page/token.js';

// Whoever stands in between signs people in, with a page of their own.
function LoadAgain() {
  const footer = html`<${Button} label=${t('signIn.load')} kind="primary" type="submit" onPress=${() => location.reload()} />`;
  return html`<${Dialog} title=${t('signIn.endedTitle')} locked footer=${footer}><p>${t('account.endedBefore')}</p><//>`;
}

function GiveAgain() {
  const { field, refused, submit } = useSignIn();
  const footer = html`<${Button} label=${t('signIn.button')} kind="primary" type="submit" onPress=${submit} />`;
  return html`
    <${Dialog} title=${t('signIn.title')} locked footer=${footer}>
      <p>${t('signIn.ended')}</p>
      <${Inside} field=${field} refused=${refused} />
    <//>`;
}

export default () => (useStore().account.signed_in_by === 'header' ? html`<${LoadAgain} />` : html`<${GiveAgain} />`);

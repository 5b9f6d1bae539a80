// A token, exchanged for a cookie. It is in this field until it is sent, and nowhere else.
import { html, useRef, useState } from '../html.js';
import { post } from '../api.js';
import { signedIn, useStore } from '../store.js';
import { t } from '../words.js';
import { Button, Field, Problem } from '../parts/controls.js';

const COMMAND = 'kubectl create token NAME';

// Words with the command among them, which is shown as such.
function withCommand(text) {
  return text.split(COMMAND).map((part, at) => html`${at > 0 && html`<code>${COMMAND}</code>`}${part}`);
}

export function useSignIn() {
  const field = useRef();
  const [refused, setRefused] = useState(null);
  async function submit() {
    const token = field.current.value.trim();
    if (!token) {
      setRefused({ message: t('signIn.missing') });
      field.current.focus();
      return;
    }
    try {
      const account = await post('sign-in', { token });
      field.current.value = '';
      await signedIn(account);
    } catch (error) {
      setRefused(error.status === 401 ? { message: t('signIn.refused'), requestId: error.requestId } : error);
    }
  }
  return { field, refused, submit };
}

export const Inside = ({ field, refused }) => html`
  <${Problem} error=${refused} />
  <${Field} label=${t('signIn.token')} type="password" name="token" inputRef=${field} spellcheck="false" required />
  <p class="hint">${withCommand(t('signIn.hint', { command: COMMAND }))}</p>
  <p class="hint">${t('signIn.kept')}</p>`;

export default function SignInPage() {
  const { field, refused, submit } = useSignIn();
  const { refused: unreachable } = useStore();
  return html`
    <main class="sign-in">
      <form class="sign-in-card" onSubmit=${(event) => event.preventDefault()} novalidate>
        <span class="mark large" aria-hidden="true"></span>
        <h1>${t('title')}</h1>
        <p class="lead">${t('signIn.lead')}</p>
        <${Inside} field=${field} refused=${refused ?? unreachable} />
        <${Button} label=${t('signIn.button')} kind="primary large wide" type="submit" onPress=${submit} />
      </form>
    </main>`;
}

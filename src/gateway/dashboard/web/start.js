// The beginning: which page, and which window over it.
import { html, render, useEffect } from './html.js';
import { checkAccount, closeDialog, useStore } from './store.js';
import { show, useSettings } from './settings.js';
import { language, loadWords, t } from './words.js';
import { Toasts } from './parts/toasts.js';
import { Window, loadAll } from './parts/window.js';
import { Home } from './page/home.js';

function App() {
  const { signedIn, account, dialog } = useStore();
  useSettings();
  const spoken = language();
  useEffect(() => {
    document.documentElement.lang = spoken;
    document.title = t('title');
  }, [spoken]);
  useEffect(() => account && loadAll(), [Boolean(account)]);
  const page = () => {
    if (signedIn === 'checking') return html`<main class="checking" aria-busy="true"><i class="spinner"></i></main>`;
    return account ? html`<${Home} key=${spoken} />` : html`<${Window} key=${spoken} kind="token" />`;
  };
  return html`
    ${page()}
    ${dialog && account && html`<${Window} key="${dialog.kind} ${dialog.id}" ...${dialog} onClose=${closeDialog} />`}
    ${signedIn === 'ended' && html`<${Window} kind="sign_in" again />`}
    <${Toasts} />`;
}

show();
await loadWords();
render(html`<${App} />`, document.getElementById('app'));
checkAccount();

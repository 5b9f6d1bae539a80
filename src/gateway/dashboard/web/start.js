// The beginning.
import { html, render } from './html.js';
import { App } from './app.js';
import { show } from './settings.js';
import { checkAccount } from './store.js';
import { loadWords } from './words.js';

show();
await loadWords();
render(html`<${App} />`, document.getElementById('app'));
checkAccount();

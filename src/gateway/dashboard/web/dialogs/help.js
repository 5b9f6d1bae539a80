// The keys that do something.
import { html } from '../html.js';
import { t } from '../words.js';
import { Dialog } from '../parts/dialog.js';

const KEYS = [['/', 'search'], ['n', 'add'], ['v', 'view'], ['e', 'events'], ['?', 'help'], ['Esc', 'close']];

const HelpDialog = ({ onClose }) => html`
  <${Dialog} title=${t('help.title')} onClose=${onClose}>
    <dl class="keys">${KEYS.map(([key, what]) => html`<div key=${key}><dt><kbd>${key}</kbd></dt><dd>${t(`help.${what}`)}</dd></div>`)}</dl>
  <//>`;

export default HelpDialog;

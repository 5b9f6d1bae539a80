// What goes into the clipboard.
import { html, useRef, useState } from '../html.js';
import { t } from '../words.js';
import { Icon } from './controls.js';
import { toast } from './toasts.js';

// Whether it is in there; if not, it is said. Without TLS browsers have no clipboard, and they refuse it to a window behind others.
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    toast(t('noClipboard'), true);
    return false;
  }
}

// A text that is copied when it is pressed, or selected for a key that copies.
export function Copy({ text, label }) {
  const [done, setDone] = useState(false);
  const shown = useRef();
  async function press() {
    if (!(await copy(text))) {
      getSelection().selectAllChildren(shown.current);
      return;
    }
    setDone(true);
    setTimeout(setDone, 1500, false);
  }
  return html`
    <button type="button" class="copy" onClick=${press} title="${t('copy')}: ${text}" aria-label="${t('copy')}: ${label} ${text}">
      <code ref=${shown}>${text}</code><${Icon} name=${done ? 'check' : 'copy'} />
      <span class="hidden" role="status">${done ? t('copied') : ''}</span>
    </button>`;
}

// A window over the page. The browser keeps the focus inside, gives it back to what is still there, and closes it with Escape.
// One that is locked stays until what it asks for is done: the page under it does nothing any more.
import { html, useEffect, useId, useRef, useState } from '../html.js';
import { t } from '../words.js';
import { Button } from './controls.js';
import { keep } from './focus.js';
import { Toasts } from './toasts.js';
import { Lost } from '../page/header.js';

function show(dialog) {
  dialog.showModal();
  // What is typed first, or what it is about, rather than the button that closes.
  (dialog.querySelector('input:not([type=radio]), textarea') ?? dialog.querySelector('h2')).focus();
}

const keepEscape = (event) => event.key === 'Escape' && event.preventDefault();

export function Dialog({ title, kind = '', onClose, onSubmit, locked, children, footer }) {
  const dialog = useRef();
  const id = useId();
  const [open, setOpen] = useState(false);
  useEffect(() => {
    const shown = dialog.current;
    const before = keep(document.activeElement);
    show(shown);
    setOpen(true);
    return () => {
      shown.close();
      before.giveBack(shown);
    };
  }, []);
  // Browsers let a page refuse to close a window only once after something was clicked or typed: the second Escape in a row closes
  // it all the same, and the windows below it. A key that is taken first closes nothing.
  useEffect(() => {
    if (!locked) return undefined;
    addEventListener('keydown', keepEscape, true);
    return () => removeEventListener('keydown', keepEscape, true);
  }, [Boolean(locked)]);
  const cancelled = (event) => {
    event.preventDefault();
    if (!locked) onClose();
  };
  // There are other ways to close than a key, the gesture that goes back on phones for one.
  const closed = ({ target }) => locked && target.isConnected && !target.open && show(target);
  const pressed = (event) => event.target === dialog.current && !locked && onClose();
  const submitted = (event) => {
    event.preventDefault();
    onSubmit?.();
  };
  return html`
    <dialog ref=${dialog} class="dialog ${kind} ${locked ? 'locked' : ''}" aria-labelledby=${id} onCancel=${cancelled} onClose=${closed} onMouseDown=${pressed}>
      <form method="dialog" class="dialog-inside" onSubmit=${submitted} novalidate>
        <header class="dialog-head">
          <h2 id=${id} tabindex="-1">${title}</h2>
          ${!locked && html`<${Button} icon="close" label=${t('close')} kind="quiet" onlyIcon onPress=${onClose} />`}
        </header>
        ${!locked && html`<${Lost} />`}
        <div class="dialog-body">${children}</div>
        ${footer && html`<footer class="dialog-foot">${footer}</footer>`}
      </form>
      ${open && html`<${Toasts} />`}
    </dialog>`;
}

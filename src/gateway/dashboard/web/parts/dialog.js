// A window over the page. The browser keeps the focus inside, gives it back to what is still there, and closes it with Escape.
import { html, useEffect, useId, useRef, useState } from '../html.js';
import { t } from '../words.js';
import { Button } from './controls.js';
import { keep } from './focus.js';
import { Toasts } from './toasts.js';

export function Dialog({ title, kind = '', onClose, onSubmit, locked, children, footer }) {
  const dialog = useRef();
  const id = useId();
  const [open, setOpen] = useState(false);
  useEffect(() => {
    const shown = dialog.current;
    const before = keep(document.activeElement);
    shown.showModal();
    setOpen(true);
    // What is typed first, or what it is about, rather than the button that closes.
    (shown.querySelector('input:not([type=radio]), textarea') ?? shown.querySelector('h2')).focus();
    return () => {
      shown.close();
      before.giveBack(shown);
    };
  }, []);
  const cancelled = (event) => {
    event.preventDefault();
    if (!locked) onClose();
  };
  const pressed = (event) => event.target === dialog.current && !locked && onClose();
  const submitted = (event) => {
    event.preventDefault();
    onSubmit?.();
  };
  return html`
    <dialog ref=${dialog} class="dialog ${kind}" aria-labelledby=${id} onCancel=${cancelled} onMouseDown=${pressed}>
      <form method="dialog" class="dialog-inside" onSubmit=${submitted} novalidate>
        <header class="dialog-head">
          <h2 id=${id} tabindex="-1">${title}</h2>
          ${!locked && html`<${Button} icon="close" label=${t('close')} kind="quiet" onlyIcon onPress=${onClose} />`}
        </header>
        <div class="dialog-body">${children}</div>
        ${footer && html`<footer class="dialog-foot">${footer}</footer>`}
      </form>
      ${open && html`<${Toasts} />`}
    </dialog>`;
}

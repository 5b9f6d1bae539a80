// Buttons and fields.
import { html, useEffect, useId, useRef, useState } from '../html.js';
import { t } from '../words.js';
import { Icon } from './icons.js';

// A button that is busy until what it does is done, and cannot be pressed twice meanwhile.
export function Button({ icon, label, kind = '', onPress, onlyIcon, why, children, ...others }) {
  const [busy, setBusy] = useState(false);
  const here = useRef(true);
  useEffect(() => () => {
    here.current = false;
  }, []);
  async function press(event) {
    if (busy) return;
    const doing = onPress?.(event);
    if (!doing?.finally) return;
    setBusy(true);
    await doing.catch(() => {}).finally(() => here.current && setBusy(false));
  }
  return html`
    <button type="button" class="button ${kind} ${busy ? 'busy' : ''}" aria-busy=${busy} onClick=${press}
      aria-label=${onlyIcon ? label : undefined} title=${why ?? (onlyIcon ? label : undefined)} ...${others}>
      ${icon && html`<${Icon} name=${icon} />`}
      ${!onlyIcon && html`<span>${label}</span>`}
      ${children}
    </button>`;
}

// A label, what is typed, and what is wrong with it.
export function Field({ label, hint, error, aside, area, inputRef, ...others }) {
  const id = useId();
  const notes = [hint && !error && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(' ');
  const properties = { id, ref: inputRef, autocomplete: 'off', 'aria-describedby': notes || undefined, 'aria-invalid': Boolean(error), ...others };
  return html`
    <div class="field">
      <div class="field-head"><label for=${id}>${label}</label>${aside && html`<span class="aside">${aside}</span>`}</div>
      ${area ? html`<textarea rows="3" ...${properties}></textarea>` : html`<input ...${properties} />`}
      ${hint && !error && html`<p class="hint" id="${id}-hint">${hint}</p>`}
      <p class="error" id="${id}-error" aria-live="polite">${error}</p>
    </div>`;
}

export function Problem({ error, title, onRetry }) {
  if (!error) return null;
  return html`
    <div class="problem" role="alert">
      <${Icon} name="alert" />
      <p>${title && html`<strong>${title}</strong>`}${error.message}${error.requestId && html` <span class="aside">${t('errors.request', { id: error.requestId })}</span>`}</p>
      ${onRetry && html`<${Button} label=${t('tryAgain')} kind="small" onPress=${onRetry} />`}
    </div>`;
}

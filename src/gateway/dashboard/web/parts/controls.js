// Buttons, fields, and the icons that stand with them.
import { html, useEffect, useId, useRef, useState } from '../html.js';
import { t } from '../words.js';

// Line drawings of 24 units. They say nothing that a word beside them or a label does not say too.
const DRAWN = {
  plus: 'M12 5v14M5 12h14',
  search: 'M11 4a7 7 0 1 1 0 14 7 7 0 0 1 0-14zM16.500 16.500 21 21',
  close: 'M6 6l12 12M18 6 6 18',
  copy: 'M9 9h10v11H9zM5 15V4h10',
  pause: 'M8 5v14M16 5v14',
  play: 'M7 5l11 7-11 7z',
  check: 'M5 12.500l4.500 4.500L19 7.500',
  checks: 'M2 12.500l4.500 4.500L14 9.500M11 16l1 1 9.500-9.500',
  clock: 'M12 4a8 8 0 1 1 0 16 8 8 0 0 1 0-16zM12 8v4l3 2',
  star: 'M12 4l2.400 5 5.600.700-4.100 3.800 1.100 5.500-5-2.700-5 2.700 1.100-5.500L4 9.700 9.600 9z',
  qr: 'M4 4h6v6H4zM14 4h6v6h-6zM4 14h6v6H4zM14 14h2v2h-2zM18 14h2M14 18v2M18 18h2v2h-2z',
  refresh: 'M20 11a8 8 0 0 0-14.300-4L4 9M4 4v5h5M4 13a8 8 0 0 0 14.300 4l1.700-2M20 20v-5h-5',
  power: 'M12 4v8M7.500 6.800a7 7 0 1 0 9 0',
  off: 'M12 4v8M7.500 6.800a7 7 0 1 0 9 0M4 4l16 16',
  message: 'M4 6.500A2.500 2.500 0 0 1 6.500 4h11A2.500 2.500 0 0 1 20 6.500v7a2.500 2.500 0 0 1-2.500 2.500H10l-5 4v-4.300A2.500 2.500 0 0 1 4 13.500z',
  pencil: 'M4 20l1-4L16.500 4.500l3 3L8 19zM14.500 6.500l3 3',
  trash: 'M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.500 11v5M13.500 11v5',
  sliders: 'M4 7h9M19 7h1M4 17h1M11 17h9M16 4.500a2.500 2.500 0 1 1 0 5 2.500 2.500 0 0 1 0-5zM8 14.500a2.500 2.500 0 1 1 0 5 2.500 2.500 0 0 1 0-5z',
  unlink: 'M9 15l6-6M7 12l-2 2a3.500 3.500 0 0 0 5 5l2-2M17 12l2-2a3.500 3.500 0 0 0-5-5l-2 2M4 8h3M8 4v3M20 16h-3M16 20v-3',
  grid: 'M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z',
  rows: 'M4 6h16M4 12h16M4 18h16',
  send: 'M4 12l16-8-5 16-3-7z',
  alert: 'M12 4l9 16H3zM12 10v4M12 17v.500',
  link: 'M10 14a3.500 3.500 0 0 0 5 0l3.500-3.500a3.500 3.500 0 0 0-5-5L12 7M14 10a3.500 3.500 0 0 0-5 0l-3.500 3.500a3.500 3.500 0 0 0 5 5L12 17',
};

export const Icon = ({ name }) => html`
  <svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${DRAWN[name]} /></svg>`;

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

// A label, what is typed, and what is wrong with it. `offered` is what may be meant; something else may be typed too.
export function Field({ label, hint, error, aside, area, offered, inputRef, ...others }) {
  const id = useId();
  const notes = [hint && !error && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(' ');
  const list = offered?.length ? `${id}-list` : undefined;
  const properties = { id, list, ref: inputRef, autocomplete: 'off', 'aria-describedby': notes || undefined, 'aria-invalid': Boolean(error), ...others };
  return html`
    <div class="field">
      <div class="field-head"><label for=${id}>${label}</label>${aside && html`<span class="aside">${aside}</span>`}</div>
      ${area ? html`<textarea rows="3" ...${properties}></textarea>` : html`<input ...${properties} />`}
      ${list && html`<datalist id=${list}>${offered.map((one) => html`<option key=${one} value=${one} />`)}</datalist>`}
      ${hint && !error && html`<p class="hint" id="${id}-hint">${hint}</p>`}
      <p class="error" id="${id}-error" aria-live="polite">${error}</p>
    </div>`;
}

// What the API says of a refusal beyond our words of it.
export const Said = ({ error }) => error.said && html` <span class="said" lang="en">${error.said}</span>`;

export function Problem({ error, title, onRetry }) {
  if (!error) return null;
  return html`
    <div class="problem" role="alert">
      <${Icon} name="alert" />
      <p>${title && html`<strong>${title}</strong>`}${error.message}<${Said} error=${error} />${error.requestId && html` <span class="aside">${t('errors.request', { id: error.requestId })}</span>`}</p>
      ${onRetry && html`<${Button} label=${t('tryAgain')} kind="small" onPress=${onRetry} />`}
    </div>`;
}

// A code for the phone: drawn or in characters, how long it works, and what is said over it.
import { html, useEffect, useState } from '../html.js';
import { now } from '../api.js';
import { t } from '../words.js';

// Seconds that codes are valid at most: the first of a window, and one to type.
const LONGEST = 60;
const LONGEST_TYPED = 180;
// Seconds at the end that stand out.
const HURRY = 10;
// Light modules around a code (ISO/IEC 18004).
const QUIET = 4;
// Pixels that a picture of a code may take.
const SPACE = 326;

// Seconds left, counted while the code is on the screen.
export function useSecondsLeft(until) {
  const left = () => (until ? Math.max(0, Date.parse(until) - now()) : null);
  const [shown, setShown] = useState(left());
  useEffect(() => {
    setShown(left());
    if (!until) return undefined;
    let timer;
    const tick = () => {
      const rest = left();
      setShown(rest);
      // At the moment the next second begins.
      if (rest > 0) timer = setTimeout(tick, rest % 1000 || 1000);
    };
    tick();
    return () => clearTimeout(timer);
  }, [until]);
  return shown === null ? null : Math.ceil(shown / 1000);
}

const timeOf = (seconds) => `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;

// Modules are whole pixels, all of the same size.
function Picture({ size, path: modules }) {
  const side = size + 2 * QUIET;
  return html`
    <svg class="qr-picture" width=${side * Math.max(1, Math.floor(SPACE / side))} viewBox="0 0 ${side} ${side}" role="img" aria-label=${t('qr.picture')} shape-rendering="crispEdges">
      <rect width=${side} height=${side} fill="#fff" />
      <path transform="translate(${QUIET} ${QUIET})" d=${modules} fill="#000" />
    </svg>`;
}

const Typed = ({ text }) => html`
  <output class="qr-typed" aria-label=${[...text].join(' ')}>${text.replace(/^(.{4})-?(.{4})$/, '$1-$2')}</output>`;

// The code, and what is over it.
export const Code = ({ drawing, characters, typed, over }) => html`
  <div class="qr-place ${over ? 'is-over' : ''} ${typed ? 'is-typed' : ''}">
    ${drawing && html`<${Picture} ...${drawing} />`}
    ${characters && html`<${Typed} text=${characters} />`}
    ${over}
  </div>`;

export function Over({ title, text, children }) {
  return html`<div class="qr-over" role="status"><strong>${title}</strong>${text && html`<p>${text}</p>`}${children}</div>`;
}

export const Steps = ({ typed }) => html`
  <ol class="steps">${t(typed ? 'qr.typed' : 'qr.steps').map((step) => html`<li key=${step}>${step}</li>`)}</ol>`;

export function Left({ until, left, typed, children }) {
  const longest = typed ? LONGEST_TYPED : LONGEST;
  return html`
    <p class="qr-left ${left <= HURRY ? 'is-short' : ''}" role="timer" data-expires=${until} data-left=${left}>
      <span>${t('qr.left', { time: timeOf(left) })}</span>
      ${children}
      <progress max=${longest} value=${Math.min(left, longest)} aria-hidden="true"></progress>
    </p>`;
}

// Short messages at the edge: what came of something, or why it did not.
import { html, useEffect, useRef, useState } from '../html.js';
import { t } from '../words.js';
import { Button } from './controls.js';
import { Icon } from './icons.js';

const SHOWN = 6_000;
const SHOWN_PROBLEM = 12_000;

let list = [];
let draw = () => {};
let last = 0;

export function toast(text, problem = false) {
  last += 1;
  const one = { id: last, text, problem };
  list = [...list.slice(-3), one];
  draw(list);
  setTimeout(dismiss, problem ? SHOWN_PROBLEM : SHOWN, one.id);
}

export const complain = (error) => toast(error.message, true);

function dismiss(id) {
  list = list.filter((one) => one.id !== id);
  draw(list);
}

export function Toasts() {
  const [shown, setShown] = useState(list);
  const place = useRef();
  useEffect(() => {
    draw = setShown;
  }, []);
  useEffect(() => {
    // Above whatever dialog is open.
    if (place.current.matches(':popover-open')) place.current.hidePopover();
    if (shown.length) place.current.showPopover();
  }, [shown]);
  return html`
    <div class="toasts" popover="manual" ref=${place} role="status" aria-live="polite">
      ${shown.map((one) => html`
        <div class="toast ${one.problem ? 'bad' : ''}" key=${one.id}>
          <${Icon} name=${one.problem ? 'alert' : 'check'} /><p>${one.text}</p>
          <${Button} icon="close" label=${t('close')} kind="quiet" onlyIcon onPress=${() => dismiss(one.id)} />
        </div>`)}
    </div>`;
}

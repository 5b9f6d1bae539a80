// Short messages at the edge: what came of something, or why it did not.
import { html, useEffect, useLayoutEffect, useRef, useState } from '../html.js';
import { t } from '../words.js';
import { Button, Icon, Said } from './controls.js';

const SHOWN = 6_000;
const SHOWN_PROBLEM = 12_000;
// Who opens a window has seen what was said before it. A problem younger than this may not have been read: windows also open by
// themselves.
const UNREAD = 2_000;

let list = [];
let last = 0;

// Where they may be shown, by what draws it again: on the page, and in each window over it. The last is over all others, and the
// only one that can be heard and pressed while it is open.
const places = [];
const NONE = [];
const draw = () => places.forEach((redraw) => redraw({}));

// `about`: of two about the same thing only the later one is shown.
export function toast(text, problem = false, about = text, said = '') {
  last += 1;
  const one = { id: last, text, problem, about, said, at: Date.now() };
  list = [...list.filter((other) => other.about !== about).slice(-3), one];
  draw();
  setTimeout(dismiss, problem ? SHOWN_PROBLEM : SHOWN, one.id);
}

export const complain = (error, about) => toast(error.message, true, about, error.said);

function dismiss(id) {
  list = list.filter((one) => one.id !== id);
  draw();
}

export function Toasts() {
  const place = useRef();
  const [, redraw] = useState();
  useLayoutEffect(() => {
    list = list.filter(({ problem, at }) => problem && Date.now() - at < UNREAD);
    places.push(redraw);
    draw();
    return () => {
      places.splice(places.indexOf(redraw), 1);
      draw();
    };
  }, []);
  const shown = places.at(-1) === redraw ? list : NONE;
  useEffect(() => {
    place.current.togglePopover(shown.length > 0);
  }, [shown]);
  return html`
    <div class="toasts" popover="manual" ref=${place} role="status" aria-live="polite">
      ${shown.map((one) => html`
        <div class="toast ${one.problem ? 'bad' : ''}" key=${one.id}>
          <${Icon} name=${one.problem ? 'alert' : 'check'} /><p>${one.text}<${Said} error=${one} /></p>
          <${Button} icon="close" label=${t('close')} kind="quiet" onlyIcon onPress=${() => dismiss(one.id)} />
        </div>`)}
    </div>`;
}

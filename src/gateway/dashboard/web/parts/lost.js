// That what is shown is old: on the page, and in each window over it, which may hide the page and keeps it from being heard.
import { html } from '../html.js';
import { useStore } from '../store.js';
import { clockTime, t } from '../words.js';
import { Icon } from './icons.js';

export function Lost() {
  const { stream, heardAt, refused } = useStore();
  const visible = stream === 'lost' && !refused;
  return html`<div class="banner" role="alert" hidden=${!visible}>${visible && html`<${Icon} name="alert" />${t('stream.banner', { time: clockTime(heardAt) })}`}</div>`;
}

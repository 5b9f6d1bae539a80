// How many there are and may be, and one more.
import { html } from '../html.js';
import { openDialog, useStore } from '../store.js';
import { t } from '../words.js';
import { Button } from '../parts/controls.js';
import { toast } from '../parts/toasts.js';

export const isFull = (limit) => Boolean(limit) && limit.used >= limit.max;

// That no more may be created, and what to do about it.
export const fullAdvice = (limit) => `${t('summary.full', limit)} ${t('summary.more')}`;

export function add(limit) {
  if (isFull(limit)) toast(t('summary.full', limit), true);
  else openDialog('add');
}

export function Summary() {
  const { sessions, limit, loaded, refused } = useStore();
  const all = [...sessions.values()];
  const connected = all.filter((session) => session.status === 'connected').length;
  const full = isFull(limit);
  return html`
    <section class="summary" aria-labelledby="summary-title">
      <div class="summary-text">
        <h1 id="summary-title">${t('title')}</h1>
        ${!refused && html`<p class="summary-count" data-used=${limit?.used} data-max=${limit?.max}>
          ${!loaded ? html`<i class="skeleton-line"></i>` : html`
            ${limit ? html`<strong>${limit.used}/${limit.max}</strong>` : html`<strong>${t('summary.shown', { count: all.length })}</strong>`}
            <span class="aside">${t('summary.connected', { count: connected })}</span>`}
        </p>`}
        ${limit && !refused && html`<meter min="0" max=${limit.max || 1} value=${limit.used} class=${full ? 'full' : ''}
          aria-label=${t('summary.used', limit)}></meter>`}
      </div>
      ${!refused && html`
        <div class="summary-add">
          <${Button} icon="plus" label=${t('summary.add')} kind="primary large add" onPress=${() => add(limit)} aria-disabled=${full || undefined} />
          ${full && html`<p class="hint">${fullAdvice(limit)}</p>`}
        </div>`}
    </section>`;
}

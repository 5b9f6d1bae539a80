// The page: summary, search, and the instances.
import { html, useEffect } from '../html.js';
import { openDialog, scopeOwner, search, useStore } from '../store.js';
import { choose, useSettings } from '../settings.js';
import { t } from '../words.js';
import { Button, Icon, Problem } from '../parts/controls.js';
import { toast } from '../parts/toasts.js';
import { Window } from '../parts/window.js';
import { Header, Lost } from './header.js';

// A word of this length may be the beginning of an id; a shorter one is that of some id by chance, and counts when it is all of it.
const ID_BEGINS = 4;

const byName = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });

function shown(sessions, text) {
  const words = text.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (session) => {
    const all = [session.instance_name, session.phone_number, session.user].join(' ').toLowerCase();
    const ids = [session.session_id ?? '', session.object];
    const isId = (word) => ids.some((id) => id === word || (word.length >= ID_BEGINS && id.startsWith(word)));
    return words.every((word) => all.includes(word) || isId(word));
  };
  const found = words.length ? [...sessions.values()].filter(fits) : [...sessions.values()];
  return found.sort((one, other) => byName.compare(one.instance_name, other.instance_name) || one.id.localeCompare(other.id));
}

const isFull = (limit) => Boolean(limit) && limit.used >= limit.max;

// That no more may be created, and what to do about it.
export const fullAdvice = (limit) => `${t('summary.full', limit)} ${t('summary.more')}`;

function add(limit) {
  if (isFull(limit)) toast(t('summary.full', limit), true);
  else openDialog('add');
}

function Summary() {
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

function Empty({ text }) {
  const { limit } = useStore();
  const own = scopeOwner() !== null;
  if (text) {
    return html`<div class="empty"><p>${t('empty.nothing', { search: text })}</p>
      <${Button} label=${t('empty.clear')} onPress=${() => search('')} /></div>`;
  }
  const more = html`<${Button} icon="plus" label=${t('summary.add')} kind="primary large" onPress=${() => add(limit)} />`;
  if (!own) return html`<div class="empty"><p>${t('empty.others')}</p>${more}</div>`;
  return html`
    <div class="empty">
      <span class="empty-mark" aria-hidden="true"><${Icon} name="qr" /></span>
      <h2>${t('empty.title')}</h2>
      <p>${t('empty.text')}</p>
      ${more}
    </div>`;
}

function Toolbar({ count }) {
  const { search: text } = useStore();
  const { view } = useSettings();
  return html`
    <div class="toolbar">
      <label class="search"><${Icon} name="search" /><span class="hidden">${t('summary.search')}</span>
        <input type="search" id="search" placeholder=${t('summary.search')} title=${t('summary.searchHint')} value=${text} onInput=${(event) => search(event.target.value)} />
        <kbd aria-hidden="true">/</kbd></label>
      <span class="hidden" role="status">${text && t('summary.found', { count })}</span>
      <div class="segments" role="group" aria-label=${t('summary.view')}>
        ${['grid', 'table'].map((name) => html`
          <${Button} key=${name} icon=${name === 'grid' ? 'grid' : 'rows'} label=${t(`summary.${name}`)} kind="segment"
            aria-pressed=${view === name} onPress=${() => choose('view', name)} />`)}
      </div>
    </div>`;
}

function useKeys(limit) {
  const { view } = useSettings();
  useEffect(() => {
    const pressed = (event) => {
      const typing = event.target.closest?.('input, textarea, select, dialog');
      if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
      if (event.key === 'Escape' && event.target.id === 'search') {
        search('');
        event.target.blur();
      }
      if (typing) return;
      const keys = {
        '/': () => document.getElementById('search')?.focus(),
        n: () => add(limit),
        v: () => choose('view', view === 'grid' ? 'table' : 'grid'),
        e: () => openDialog('events'),
        '?': () => openDialog('help'),
      };
      if (!keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    };
    addEventListener('keydown', pressed);
    return () => removeEventListener('keydown', pressed);
  });
}

const CardSkeleton = () => html`
  <div class="card skeleton" aria-hidden="true"><i class="w40"></i><i class="w20"></i><i class="w80"></i><i class="w60"></i></div>`;

export function Home() {
  const { sessions, loaded, refused, search: text, limit, stream } = useStore();
  const { view } = useSettings();
  const list = shown(sessions, text);
  useKeys(limit);
  const skeleton = html`<div class="cards" aria-busy="true"><${CardSkeleton} /><${CardSkeleton} /></div>`;
  return html`
    <${Header} />
    <${Lost} />
    <main id="main" tabindex="-1" class=${stream === 'lost' ? 'is-lost' : ''}>
      <${Summary} />
      ${refused ? html`<${Problem} title=${t('errors.list')} error=${refused} onRetry=${() => location.reload()} />` : html`
        ${(sessions.size > 0 || !loaded) && html`<${Toolbar} count=${list.length} />`}
        ${!loaded && skeleton}
        ${loaded && list.length === 0 && html`<${Empty} text=${text.trim()} />`}
        ${loaded && sessions.size > 0 && html`<${Window} key=${view} kind=${view === 'table' ? 'table' : 'cards'} sessions=${list} withOwner=${scopeOwner() === null} until=${list.length > 0 && skeleton} />`}`}
    </main>`;
}

// Whose instances, whether the page is live, and settings.
import { html, useEffect, useRef, useState } from '../html.js';
import { post } from '../api.js';
import { chooseScope, openDialog, signedOut, useStore } from '../store.js';
import { choose, useSettings } from '../settings.js';
import { LANGUAGES, brief, clockTime, loadWords, short, t } from '../words.js';
import { Button, Icon } from '../parts/controls.js';
import { complain, toast } from '../parts/toasts.js';

function Select({ label, value, options, onChoose }) {
  return html`
    <label class="select"><span>${label}</span>
      <select value=${value} onChange=${(event) => onChoose(event.target.value)}>
        ${options.map(([key, name]) => html`<option key=${key} value=${key} selected=${key === value}>${name}</option>`)}
      </select>
    </label>`;
}

function Scope() {
  const { scope, owners, account } = useStore();
  const others = [...owners].filter((owner) => owner !== account.user).sort();
  // One's own may be in the address by their names, too.
  const owner = scope.owner === account.user ? '' : scope.owner;
  const namespace = scope.namespace === account.namespace ? '' : scope.namespace;
  if (owner && owner !== '*' && !others.includes(owner)) others.push(owner);
  const choices = [['', t('scope.mine')], ['*', t('scope.everyone')], ...others.map((one) => [one, short(one)])];
  const spaces = [['', account.namespace], ['*', t('scope.everywhere')]];
  if (namespace && namespace !== '*') spaces.push([namespace, namespace]);
  return html`
    <div class="scope">
      <${Select} label=${t('scope.owner')} value=${owner} options=${choices} onChoose=${(one) => chooseScope({ owner: one })} />
      <${Select} label=${t('scope.namespace')} value=${namespace} options=${spaces} onChoose=${(one) => chooseScope({ namespace: one })} />
    </div>`;
}

const Live = () => {
  const { stream } = useStore();
  if (stream === 'off') return null;
  return html`<span class="live ${stream}" role="status"><span class="light" aria-hidden="true"></span><span>${t(`stream.${stream}`)}</span></span>`;
};

// That what is shown is old: on the page, and in each window over it, which may hide the page and keeps it from being heard.
export function Lost() {
  const { stream, heardAt, refused } = useStore();
  const visible = stream === 'lost' && !refused;
  return html`<div class="banner" role="alert" hidden=${!visible}>${visible && html`<${Icon} name="alert" />${t('stream.banner', { time: clockTime(heardAt) })}`}</div>`;
}

function Menu() {
  const { account } = useStore();
  const settings = useSettings();
  const [open, setOpen] = useState(false);
  const place = useRef();
  useEffect(() => {
    if (!open) return undefined;
    const outside = (event) => !place.current.contains(event.target) && setOpen(false);
    const escape = (event) => event.key === 'Escape' && setOpen(false);
    addEventListener('pointerdown', outside);
    addEventListener('keydown', escape);
    return () => {
      removeEventListener('pointerdown', outside);
      removeEventListener('keydown', escape);
    };
  }, [open]);
  async function leave() {
    try {
      await post('sign-out');
      signedOut();
    } catch (error) {
      complain(error);
    }
  }
  async function speak(code) {
    const before = settings.language;
    choose('language', code);
    try {
      await loadWords();
    } catch {
      choose('language', before);
      toast(t('errors.unreachable'), true);
      return;
    }
    // Once more, in the new words.
    choose('language', code);
  }
  const themes = ['system', 'light', 'dark'].map((name) => [name, t(`header.themes.${name}`)]);
  const languages = [['', t('header.automatic')], ...LANGUAGES.map(({ code, name }) => [code, name])];
  return html`
    <div class="menu" ref=${place}>
      <${Button} icon="sliders" label=${t('header.menu')} kind="quiet" onlyIcon aria-expanded=${open} onPress=${() => setOpen(!open)} />
      ${open && html`
        <div class="menu-list">
          <p class="menu-who"><strong><bdi title=${account.user}>${short(account.user)}</bdi></strong>
            ${account.expires_at && html`<span class="aside">${t('account.until', { time: brief(account.expires_at) })}</span>`}</p>
          <${Select} label=${t('header.theme')} value=${settings.theme} options=${themes} onChoose=${(value) => choose('theme', value)} />
          <${Select} label=${t('header.language')} value=${settings.language} options=${languages} onChoose=${speak} />
          <${Button} label=${t('header.help')} kind="quiet wide of-keys" onPress=${() => { setOpen(false); openDialog('help'); }}><kbd>?</kbd><//>
          <${Button} label=${t('header.events')} kind="quiet wide" onPress=${() => { setOpen(false); openDialog('events'); }}><kbd>e</kbd><//>
          <a class="button quiet wide" href="/api/v1/docs">${t('header.api')}</a>
          ${account.signed_in_by === 'cookie' && html`<${Button} label=${t('account.out')} kind="quiet wide" onPress=${leave} />`}
        </div>`}
    </div>`;
}

export const Header = () => html`
  <header class="top">
    <a class="skip" href="#main">${t('skip')}</a>
    <span class="brand"><span class="mark" aria-hidden="true"></span>whatsapp-operator</span>
    <${Live} />
    <${Scope} />
    <${Menu} />
  </header>`;

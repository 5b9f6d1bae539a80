// The page of a linking link: the code of one instance, for somebody who has the phone and no account here.
import { html, render, useEffect, useState } from '../html.js';
import { post, randomKey } from '../api.js';
import { show } from '../settings.js';
import { brief, language, loadWords, t } from '../words.js';
import { Button, Icon } from '../parts/controls.js';
import { Code, Left, Over, Steps, useSecondsLeft } from '../parts/code.js';

// Seconds until it is asked again after no answer.
const PAUSE = 2;

const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

// Kept by the browser where it keeps anything, else until the page is closed.
function kept(storage, name, value) {
  try {
    const { [storage]: place } = window;
    if (value) place.setItem(name, value);
    return place.getItem(name) ?? value;
  } catch {
    return value;
  }
}

// The secret does not stay in the address, from where it would get into the history; a page that is loaded again has it still.
function secret() {
  const given = location.hash.slice(1);
  if (given) history.replaceState(null, '', location.pathname);
  return kept('sessionStorage', 'linking.link', given);
}

// By which the gateway knows the first browser again.
const browser = () => kept('localStorage', 'linking.browser') ?? kept('localStorage', 'linking.browser', randomKey());

// What is behind the link, as it changes, until there is nothing more to come.
async function follow(link, tell) {
  const who = browser();
  let seen;
  for (;;) {
    try {
      const code = await post('linking-code', { link, browser: who, seen });
      tell({ code, over: null, lost: false });
      if (code.state === 'linked') return;
      seen = code.version;
    } catch (error) {
      if (!error.retryable) return tell({ code: null, over: error.code, lost: false });
      tell({ lost: true });
      await wait(error.retryAfter ?? PAUSE);
    }
  }
}

// The refusals that have words of their own here; any other means that what was given is no link.
const ENDS = ['LinkOver', 'LinkTaken'];

function Page({ link }) {
  const [{ code, over, lost }, setKnown] = useState({ code: null, over: link ? null : 'LinkOver', lost: false });
  // The first browser that shows the code keeps the link. Many a link is opened on the very phone that is to scan it.
  const [started, setStarted] = useState(kept('sessionStorage', 'linking.started') === link);
  useEffect(() => {
    let wanted = true;
    if (link && started) follow(link, (news) => wanted && setKnown((known) => ({ ...known, ...news })));
    return () => {
      wanted = false;
    };
  }, [started]);
  const left = useSecondsLeft(code?.code_expires_at);
  if (over) {
    const word = ENDS.includes(over) ? over : 'LinkOver';
    return html`<div class="link-end" role="status"><${Icon} name="alert" /><h1>${t(`link.${word}.title`)}</h1><p>${t(`link.${word}.text`)}</p></div>`;
  }
  if (code?.state === 'linked') {
    return html`<div class="link-end is-good" role="status"><${Icon} name="check" /><h1>${t('link.linked.title')}</h1><p>${t('link.linked.text')}</p></div>`;
  }
  if (!started) {
    const start = () => (kept('sessionStorage', 'linking.started', link), setStarted(true));
    return html`
      <h1>${t('link.title')}</h1>
      <p class="link-lead">${t('link.lead')}</p>
      <p class="link-lead">${t('link.where')}</p>
      <${Button} icon="qr" label=${t('link.start')} kind="primary large wide" onPress=${start} />`;
  }
  const typed = code?.pairing_method === 'Code';
  const inside = () => {
    const spinner = html`<i class="spinner"></i>`;
    if (lost) return html`<${Over} title=${t('qr.lost')}>${spinner}<//>`;
    if (code?.state === 'linking') return html`<${Over} title=${t('qr.linking')}>${spinner}<//>`;
    if (code?.state === 'code') return left === 0 ? html`<${Over} title=${t('qr.next')}>${spinner}<//>` : null;
    return html`<${Over} title=${t('qr.waiting')}>${spinner}<//>`;
  };
  const hidden = inside();
  return html`
    <h1>${t('link.title')}</h1>
    <p class="link-lead">${t('link.lead')}</p>
    <div class="qr">
      <${Code} drawing=${code?.qr_drawing} characters=${code?.pairing_code} typed=${typed} over=${hidden} />
      <div class="qr-side">
        ${code?.state === 'linking' ? html`<p class="hint">${t('qr.keepOpen')}</p>` : html`<${Steps} typed=${typed} />`}
        ${code?.state === 'code' && !hidden && html`<${Left} until=${code.code_expires_at} left=${left} typed=${typed} />`}
        ${code && html`<p class="hint">${t('link.until', { time: brief(code.link_expires_at) })}</p>`}
      </div>
    </div>`;
}

// Another link in the same tab is another page, though browsers see the same one.
addEventListener('hashchange', () => location.reload());

const link = secret();
show();
await loadWords('more');
document.documentElement.lang = language();
document.title = t('link.title');
render(html`<main class="link"><div class="link-card"><p class="brand"><span class="mark" aria-hidden="true"></span>whatsapp-operator</p><${Page} link=${link} /></div></main>`, document.getElementById('app'));

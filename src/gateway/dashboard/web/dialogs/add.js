// A new instance: its name, and how the phone is to be linked.
import { html, useState } from '../html.js';
import { post } from '../api.js';
import { created, current, openDialog, scopeOwner, useStore } from '../store.js';
import { t } from '../words.js';
import { Button, Field, Problem } from '../parts/controls.js';
import { Dialog } from '../parts/dialog.js';
import { toast } from '../parts/toasts.js';
import { fullAdvice } from '../page/home.js';

const LONGEST = 100;
// From so many on it is said how many there are.
const NEARLY = 80;
const NUMBER = /^\+[1-9][0-9]{6,14}$/;

// Decimals of a spreadsheet, an extension after a stroke: as the server does, these are not taken for some of the number.
const AMBIGUOUS = /^[^.]*\.(\D*\d){0,2}\D*$|^[^.]*\.0+$|\/.*\/|\/(\D*\d){0,4}\D*$|^(\D*\d){9,}\D*\//;

// A number as the server takes it, of what people write; empty when there is none. Without its brackets a (0), which is dialled
// within the country only, would make another number of it.
function international(written) {
  const number = written.replace(/[\s\u200b-\u200f\u202a-\u202e\u2060-\u2069]/g, '');
  const plain = number.includes('(0)') || AMBIGUOUS.test(number) ? '' : number.replace(/[().\/\u00ad\u2010-\u2015\u2212\ufe58\uff0d-]/g, '');
  return NUMBER.test(plain) ? plain : '';
}

// Nearly as the server compares names; it has the last word.
const comparable = (name) => name.normalize('NFKC').replace(/[\u00ad\u200b-\u200f\u2060\ufe00-\ufe0f\ufeff]/gu, '').trim().toLowerCase();

export function nameProblem(name, owner, except) {
  if ([...name].length > LONGEST) return t('add.long');
  if (!comparable(name)) return t('add.blank');
  const taken = [...current().sessions.values()].some((session) =>
    session.id !== except && session.user === owner && comparable(session.instance_name) === comparable(name));
  return taken ? t('add.taken') : '';
}

export function NameField({ name, onName, problem }) {
  const count = [...name].length;
  return html`<${Field} label=${t('add.name')} hint=${t('add.nameHint')} value=${name} maxlength="200" dir="auto"
    aside=${count >= NEARLY && t('add.count', { count })} error=${problem} onInput=${(event) => onName(event.target.value)} />`;
}

const offered = (known) => [...known].sort();

const Choice = ({ value, chosen, title, hint, onChoose }) => html`
  <label class="choice"><input type="radio" name="method" value=${value} checked=${chosen} onChange=${onChoose} />
    <span><strong>${title}</strong><span class="hint">${hint}</span></span></label>`;

export default function AddDialog({ onClose }) {
  const { account, limit, owners, bridges } = useStore();
  const [name, setName] = useState('');
  const [method, setMethod] = useState('QR');
  const [number, setNumber] = useState('');
  const theirs = scopeOwner();
  const [owner, setOwner] = useState(theirs && theirs !== account.user ? theirs : '');
  const [bridge, setBridge] = useState('');
  const [touched, setTouched] = useState(false);
  const [refused, setRefused] = useState(null);

  const problem = name || touched ? nameProblem(name, owner || account.user) : '';
  const numberProblem = method === 'Code' && (number || touched) && !international(number) ? t('add.phoneBad') : '';

  async function submit() {
    setTouched(true);
    if (nameProblem(name, owner || account.user) || (method === 'Code' && !international(number))) return;
    const body = { name };
    if (method === 'Code') body.pairing = { method, phone_number: international(number) };
    if (owner.trim()) body.owner = owner.trim();
    if (bridge.trim()) body.bridge = bridge.trim();
    const { namespace } = current().scope;
    if (namespace && namespace !== '*') body.namespace = namespace;
    setRefused(null);
    try {
      const session = await post('sessions/init/?wait=0', body);
      if (await created(session)) openDialog('qr', { id: session.id });
      else {
        toast(t('add.elsewhere', { name, owner: session.user }));
        onClose();
      }
    } catch (error) {
      // The API names the owner's object, for administrators.
      const known = error.code === 'LimitExceeded' && limit && (owner.trim() || account.user) === scopeOwner();
      setRefused(known ? { message: fullAdvice(limit), requestId: error.requestId } : error);
    }
  }

  const footer = html`
    <${Button} label=${t('cancel')} onPress=${onClose} />
    <${Button} label=${t('add.button')} kind="primary" onPress=${submit} type="submit" />`;
  return html`
    <${Dialog} title=${t('add.title')} onClose=${onClose} footer=${footer}>
      <${Problem} error=${refused} />
      <${NameField} name=${name} onName=${setName} problem=${problem} />
      <fieldset class="field"><legend>${t('add.method')}</legend>
        <div class="choices">
          <${Choice} value="QR" chosen=${method === 'QR'} title=${t('add.qr')} hint=${t('add.qrHint')} onChoose=${() => setMethod('QR')} />
          <${Choice} value="Code" chosen=${method === 'Code'} title=${t('add.code')} hint=${t('add.codeHint')} onChoose=${() => setMethod('Code')} />
        </div>
      </fieldset>
      ${method === 'Code' && html`<${Field} label=${t('add.phone')} hint=${t('add.phoneHint')} type="tel" value=${number} error=${numberProblem}
        onInput=${(event) => setNumber(event.target.value)} />`}
      <details class="more"><summary>${t('add.more')}</summary>
        <${Field} label=${t('add.owner')} hint=${t('add.ownerHint')} name="owner" offered=${offered(owners)} value=${owner} onInput=${(event) => setOwner(event.target.value)} />
        <${Field} label=${t('add.bridge')} hint=${t('add.bridgeHint')} name="bridge" offered=${offered(bridges)} value=${bridge} onInput=${(event) => setBridge(event.target.value)} />
      </details>
    <//>`;
}

// Deleting takes the name, typed: it cannot be undone.
import { html, useState } from '../html.js';
import { call, path } from '../api.js';
import { useStore } from '../store.js';
import { t } from '../words.js';
import { Button, Field, Problem } from '../parts/controls.js';
import { Dialog } from '../parts/dialog.js';
import { toast } from '../parts/toasts.js';

// As it is seen: a page shows several spaces as one, and keyboards of phones write other quotes than those of computers.
const seen = (name) => name.normalize('NFKC').replace(/[\u2018\u2019\u02bc]/g, "'").replace(/[\u201c\u201d\u201e]/g, '"')
  .replace(/[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, '').replace(/\s+/g, ' ').trim();

export default function RemoveDialog({ id, onClose }) {
  const session = useStore().sessions.get(id);
  const [name] = useState(session?.instance_name ?? '');
  const [typed, setTyped] = useState('');
  const [refused, setRefused] = useState(null);
  const agreed = seen(typed) === seen(name);

  async function submit() {
    if (!agreed) return;
    setRefused(null);
    try {
      const { deleted } = await call('DELETE', path`sessions/delete/${id}/?wait=0`);
      toast(t(deleted ? 'remove.done' : 'remove.under', { name }));
      onClose();
    } catch (error) {
      setRefused(error);
    }
  }

  const footer = html`
    <${Button} label=${t('cancel')} onPress=${onClose} />
    <${Button} label=${t('remove.button')} icon="trash" kind="danger" type="submit" onPress=${submit} disabled=${!agreed} />`;
  return html`
    <${Dialog} title=${t('remove.title', { name })} onClose=${onClose} footer=${footer}>
      <${Problem} error=${refused} />
      <p>${t('remove.text')}</p>
      <${Field} label=${t('remove.typeName', { name })} value=${typed} dir="auto" onInput=${(event) => setTyped(event.target.value)} />
    <//>`;
}

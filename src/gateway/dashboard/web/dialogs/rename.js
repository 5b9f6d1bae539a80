// Another display name.
import { html, useState } from '../html.js';
import { call, path } from '../api.js';
import { useStore } from '../store.js';
import { t } from '../words.js';
import { Button, Problem } from '../parts/controls.js';
import { Dialog } from '../parts/dialog.js';
import { toast } from '../parts/toasts.js';
import { NameField, nameProblem } from './add.js';

export default function RenameDialog({ id, onClose }) {
  const session = useStore().sessions.get(id);
  const [before] = useState(session?.instance_name ?? '');
  const [name, setName] = useState(before);
  const [refused, setRefused] = useState(null);
  const problem = nameProblem(name, session?.user, id);

  async function submit() {
    if (problem) return;
    if (name === before) {
      onClose();
      return;
    }
    setRefused(null);
    try {
      await call('PATCH', path`sessions/${id}/`, { name });
      toast(t('rename.done', { name }));
      onClose();
    } catch (error) {
      setRefused(error);
    }
  }

  const footer = html`
    <${Button} label=${t('cancel')} onPress=${onClose} />
    <${Button} label=${t('rename.button')} kind="primary" type="submit" onPress=${submit} />`;
  return html`
    <${Dialog} title=${t('rename.title', { name: before })} onClose=${onClose} footer=${footer}>
      <${Problem} error=${refused} />
      <${NameField} name=${name} onName=${setName} problem=${problem} />
    <//>`;
}

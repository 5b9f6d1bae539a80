// Unlinking is confirmed: linking again takes the phone.
import { html, useState } from '../html.js';
import { path, post } from '../api.js';
import { useStore } from '../store.js';
import { t } from '../words.js';
import { Button, Problem } from '../parts/controls.js';
import { Dialog } from '../parts/dialog.js';
import { toast } from '../parts/toasts.js';

export default function UnlinkDialog({ id, onClose }) {
  const session = useStore().sessions.get(id);
  const [name] = useState(session?.instance_name ?? '');
  const [refused, setRefused] = useState(null);

  async function submit() {
    setRefused(null);
    try {
      await post(path`sessions/unlink/${id}/?wait=0`);
      toast(t('unlink.under', { name }));
      onClose();
    } catch (error) {
      setRefused(error);
    }
  }

  const footer = html`
    <${Button} label=${t('cancel')} onPress=${onClose} />
    <${Button} label=${t('unlink.button')} icon="unlink" kind="danger" type="submit" onPress=${submit} />`;
  return html`
    <${Dialog} title=${t('unlink.title', { name })} onClose=${onClose} footer=${footer}>
      <${Problem} error=${refused} />
      <p>${t('unlink.text')}</p>
    <//>`;
}

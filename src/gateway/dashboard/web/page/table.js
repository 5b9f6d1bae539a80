// Many instances as rows.
import { html, memo } from '../html.js';
import { select, useSelection } from '../selection.js';
import { waitingOf } from '../waiting.js';
import { day, short, t } from '../words.js';
import { Icon, Said } from '../parts/controls.js';
import { Actions } from './actions.js';
import Bulk from './bulk.js';
import { Status, advice, phone } from './status.js';

const Box = ({ label, ...others }) => html`<td class="box"><label><span class="hidden">${label}</span><input type="checkbox" ...${others} /></label></td>`;

const Row = memo(({ session, waiting, withOwner, chosen, outcome }) => html`
  <tr data-id=${session.id} data-outcome=${outcome?.is} class=${session.is_primary ? 'is-primary' : ''}>
    <${Box} label=${t('card.select', { name: session.instance_name })} checked=${chosen} onChange=${(event) => select([session.id], event.target.checked)} />
    <th scope="row"><bdi title=${session.instance_name}>${session.instance_name}</bdi>
      ${session.is_primary && html` <span class="badge"><${Icon} name="star" />${t('card.primary')}</span>`}</th>
    <td title=${advice(session)}><${Status} session=${session} />${waiting > 0 && html`<p class="outcome">${t('card.waiting', { count: waiting })}</p>`}${outcome && html`<p class="outcome ${outcome.is}">${outcome.word ? t(outcome.word) : html`${outcome.refused.message}<${Said} error=${outcome.refused} />`}</p>`}</td>
    <td class="number">${phone(session) || '–'}</td>
    ${withOwner && html`<td><bdi title=${session.user}>${short(session.user)}</bdi></td>`}
    <td class="number"><time datetime=${session.created_at}>${day(session.created_at)}</time></td>
    <td><${Actions} session=${session} onlyIcon /></td>
  </tr>`);

export default function Table({ sessions, withOwner }) {
  const { chosen, outcomes } = useSelection();
  if (!sessions.length) return chosen.size > 0 && html`<${Bulk} />`;
  const count = sessions.filter((session) => chosen.has(session.id)).length;
  const all = count === sessions.length;
  return html`
  ${chosen.size > 0 && html`<${Bulk} />`}
  <div class="table" role="region" aria-label=${t('title')} tabindex="0">
    <table>
      <thead><tr>
        <${Box} label=${t('card.selectAll')} checked=${all} indeterminate=${count > 0 && !all} onChange=${(event) => select(sessions.map((session) => session.id), event.target.checked)} />
        <th scope="col">${t('card.name')}</th><th scope="col">${t('card.status')}</th><th scope="col" class="number">${t('card.phone')}</th>
        ${withOwner && html`<th scope="col">${t('card.owner')}</th>`}
        <th scope="col" class="number">${t('card.created')}</th><th scope="col"><span class="hidden">${t('card.actions', { name: '' })}</span></th>
      </tr></thead>
      <tbody>${sessions.map((session) => html`<${Row} key=${session.id} session=${session} withOwner=${withOwner} waiting=${waitingOf(session.id)}
        chosen=${chosen.has(session.id)} outcome=${outcomes.get(session.id)} />`)}</tbody>
    </table>
  </div>`;
}

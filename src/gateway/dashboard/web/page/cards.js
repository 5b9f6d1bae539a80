// Instances as cards.
import { html, memo } from '../html.js';
import { waitingOf } from '../waiting.js';
import { brief, day, has, short, t } from '../words.js';
import { Button, Icon } from '../parts/controls.js';
import { Copy } from '../parts/copy.js';
import { Actions, act } from './actions.js';
import { Status, advice, light, phone } from './status.js';

const Fact = ({ name, wide, children }) => html`<div class="fact ${wide ? 'wide' : ''}"><dt>${name}</dt><dd>${children}</dd></div>`;

const Card = memo(({ session, waiting, withOwner }) => {
  const { last_disconnect: last } = session;
  // A bridge of a later release may know reasons that have no words here.
  const reason = last && `, ${has(`disconnects.${last.reason}`) ? t(`disconnects.${last.reason}`) : last.reason}`;
  const text = advice(session) || (last && t('card.lastDisconnect', { time: brief(last.at), reason }));
  return html`
    <article class="card ${session.is_primary ? 'is-primary' : ''} is-${light(session)}" data-id=${session.id}
      aria-labelledby="name-${session.id}">
      <header class="card-head">
        <h3 id="name-${session.id}" tabindex="-1" title=${session.instance_name}><bdi>${session.instance_name}</bdi></h3>
        ${session.actions.includes('rename') && html`
          <${Button} icon="pencil" label=${t('actions.rename')} kind="quiet rename" onlyIcon onPress=${() => act(session, 'rename')} />`}
        ${session.is_primary && html`<span class="badge"><${Icon} name="star" />${t('card.primary')}</span>`}
      </header>
      <div class="card-state">
        <${Status} session=${session} />
        ${waiting > 0 && html`<button type="button" class="chip" onClick=${() => act(session, 'messages')}><${Icon} name="clock" />${t('card.waiting', { count: waiting })}</button>`}
      </div>
      ${text && html`<p class="advice">${text}</p>`}
      <dl class="facts">
        <${Fact} name=${t('card.phone')}><span class="number">${phone(session) || t('card.noPhone')}</span><//>
        <${Fact} name=${t('card.created')}><time datetime=${session.created_at}>${day(session.created_at)}</time><//>
        ${session.connected_at && html`<${Fact} name=${t('card.connectedAt')}><time datetime=${session.connected_at}>${brief(session.connected_at)}</time><//>`}
        ${withOwner && html`<${Fact} name=${t('card.owner')}><bdi title=${session.user}>${short(session.user)}</bdi><//>`}
        <${Fact} name=${t('card.session')} wide>
          ${session.session_id ? html`<${Copy} text=${session.session_id} label=${t('card.session')} />` : t('card.none')}
        <//>
      </dl>
      <${Actions} session=${session} />
    </article>`;
});

export default ({ sessions, withOwner }) => sessions.length > 0 && html`
  <div class="cards">
    ${sessions.map((session) => html`<${Card} key=${session.id} session=${session} waiting=${waitingOf(session.id)} withOwner=${withOwner} />`)}
  </div>`;

// /mcps: the predefined MCPs, whether each is ready, and what to do about the others.

import { element, icon } from './common.js';
import { explain, ownPath, permissions } from './integration-connectors.js';
import { listPage } from './list-page.js';

function purpose(known) {
  if (known?.description) return known.description;
  return known?.scopes?.length ? `Can ${permissions(known.scopes)}.` : '';
}

function row(mcp, services, organization) {
  const service = services.find((one) => one.service === mcp.service);
  const name = service?.name ?? mcp.service;
  const known = service?.mcps?.find((one) => one.mcp === mcp.mcp);
  const { badge, warning } = explain(mcp, name);
  const ready = mcp.state === 'ready';
  const link = element('a', { href: ownPath(mcp.connect_url, organization) }, 'Open Integrations');
  return element(
    'li',
    { class: 'row', 'data-mcp': mcp.mcp, 'data-state': mcp.state },
    element(
      'div',
      { class: 'card-name' },
      element('h2', null, mcp.name),
      element('span', { class: `badge ${ready ? 'badge-valid' : 'badge-unknown'}` }, badge),
    ),
    element('p', { class: 'muted' }, purpose(known)),
    element('p', { class: 'through' }, ready ? `Works through your ${name} account.` : `Needs ${name}.`),
    ready ? null : element('p', { class: 'warn' }, icon('warning'), element('span', null, `${warning} `, link)),
  );
}

listPage({
  resource: 'mcps',
  title: 'MCPs',
  render({ list, services, organization }, content) {
    if (list.length === 0) {
      content.replaceChildren(element(
        'section',
        { class: 'panel' },
        element('h2', null, 'No MCPs are offered yet'),
        element('p', null, 'An administrator of this site can add some to a provider. Choose Refresh afterwards.'),
      ));
      return;
    }
    content.replaceChildren(element('ul', { class: 'rows' }, ...list.map((mcp) => row(mcp, services, organization))));
  },
});

// English. A {name} is replaced by a value; where there are `one` and `other`, a count decides.
export default {
  language: 'English',
  title: 'WhatsApp Instances',
  close: 'Close',
  cancel: 'Cancel',
  copy: 'Copy',
  copied: 'Copied',
  noClipboard: 'The browser does not let this page copy; without TLS none does. Mark the text, and copy it with the keyboard.',
  tryAgain: 'Try again',
  skip: 'Skip to the instances',

  account: {
    endedBefore: 'You were signed out. Reload the page. If kubectl whatsapp dashboard opened it, run that again.',
    out: 'Sign out',
    as: 'Signed in as {user}',
    until: 'Signed in until {time}',
  },

  signIn: {
    title: 'Sign in',
    lead: 'Manage WhatsApp instances of this cluster with your own Kubernetes rights.',
    endedTitle: 'Signed out',
    token: 'Bearer token',
    hint: 'Paste a token that the cluster accepts, for example from {command}.',
    button: 'Sign in',
    ended: 'Your sign-in expired. Sign in to continue where you left off.',
    load: 'Reload',
    kept: 'The token stays in a cookie that scripts cannot read, until you sign out or it expires.',
    refused: 'The cluster does not accept this token: it is wrong, expired, or for another audience. Create a new one and paste it.',
    missing: 'Paste a token first.',
  },

  stream: {
    live: 'Live',
    connecting: 'Connecting',
    lost: 'Connection lost',
    banner: 'Connection lost. Reconnecting. You see the state of {time}.',
  },

  header: {
    menu: 'Settings',
    events: 'Event monitor',
    theme: 'Appearance',
    themes: { system: 'System', light: 'Light', dark: 'Dark' },
    language: 'Language',
    automatic: 'Automatic',
    help: 'Keyboard shortcuts',
    api: 'REST API docs',
  },

  scope: {
    owner: 'Owner',
    mine: 'Me',
    everyone: 'Everyone',
    namespace: 'Namespace',
    everywhere: 'All namespaces',
  },

  summary: {
    used: '{used} of {max} instances',
    shown: { one: '{count} instance', other: '{count} instances' },
    connected: '{count} connected',
    add: 'Add New WhatsApp Instance',
    full: 'All {max} instances are in use.',
    more: 'Delete one, or ask an administrator to raise the limit.',
    search: 'Search instances',
    searchHint: 'Name, phone, owner or session ID',
    grid: 'Cards',
    table: 'Table',
    view: 'View',
    found: { one: '{count} instance found', other: '{count} instances found' },
  },

  empty: {
    title: 'No instances yet',
    text: 'An instance is one WhatsApp account, linked like WhatsApp Web. Name it, scan its QR code with the phone, and it is ready to send.',
    others: 'No instances here. Choose another owner or namespace, or add one.',
    nothing: 'No instance matches “{search}”.',
    clear: 'Clear the search',
  },

  errors: {
    unreachable: 'The gateway does not answer; check your connection.',
    unreadable: 'The gateway answered something that this page cannot read; reload the page.',
    list: 'The instances cannot be shown',
    request: 'Request {id}',
  },
};

// Deutsch.
export default {
  language: 'Deutsch',
  title: 'WhatsApp-Instanzen',
  close: 'Schließen',
  cancel: 'Abbrechen',
  copy: 'Kopieren',
  copied: 'Kopiert',
  noClipboard: 'Der Browser lässt diese Seite nicht kopieren; ohne TLS keine. Den Text markieren und mit der Tastatur kopieren.',
  tryAgain: 'Noch einmal',
  skip: 'Zu den Instanzen',

  account: {
    endedBefore: 'Sie wurden abgemeldet. Die Seite neu laden. Wenn kubectl whatsapp dashboard sie geöffnet hat, das noch einmal ausführen.',
    out: 'Abmelden',
    as: 'Angemeldet als {user}',
    until: 'Angemeldet bis {time}',
  },

  signIn: {
    title: 'Anmelden',
    lead: 'WhatsApp-Instanzen dieses Clusters verwalten, mit den eigenen Kubernetes-Rechten.',
    endedTitle: 'Abgemeldet',
    token: 'Bearer-Token',
    hint: 'Ein Token einfügen, das der Cluster annimmt, zum Beispiel von {command}.',
    button: 'Anmelden',
    ended: 'Die Anmeldung ist abgelaufen. Nach dem Anmelden geht es dort weiter, wo Sie waren.',
    load: 'Neu laden',
    kept: 'Das Token bleibt in einem Cookie, den Skripte nicht lesen können, bis zum Abmelden oder bis es abläuft.',
    refused: 'Der Cluster nimmt dieses Token nicht an: Es ist falsch, abgelaufen oder für andere Empfänger. Ein neues erzeugen und einfügen.',
    missing: 'Erst ein Token einfügen.',
  },

  stream: {
    live: 'Live',
    connecting: 'Verbindet',
    lost: 'Verbindung unterbrochen',
    banner: 'Verbindung unterbrochen. Sie wird neu aufgebaut. Zu sehen ist der Stand von {time}.',
  },

  header: {
    menu: 'Einstellungen',
    events: 'Ereignisse',
    theme: 'Darstellung',
    themes: { system: 'System', light: 'Hell', dark: 'Dunkel' },
    language: 'Sprache',
    automatic: 'Automatisch',
    help: 'Tastenkürzel',
    api: 'REST-API-Doku',
  },

  scope: {
    owner: 'Besitzer',
    mine: 'Ich',
    everyone: 'Alle',
    namespace: 'Namespace',
    everywhere: 'Alle Namespaces',
  },

  summary: {
    used: '{used} von {max} Instanzen',
    shown: { one: '{count} Instanz', other: '{count} Instanzen' },
    connected: '{count} verbunden',
    add: 'Neue WhatsApp-Instanz',
    full: 'Alle {max} Instanzen sind vergeben.',
    more: 'Eine löschen oder um ein höheres Limit bitten.',
    search: 'Instanzen suchen',
    searchHint: 'Name, Nummer, Besitzer oder Session-ID',
    grid: 'Karten',
    table: 'Tabelle',
    view: 'Ansicht',
    found: { one: '{count} Instanz gefunden', other: '{count} Instanzen gefunden' },
  },

  empty: {
    title: 'Noch keine Instanz',
    text: 'Eine Instanz ist ein WhatsApp-Konto, verknüpft wie bei WhatsApp Web. Namen geben, QR-Code mit dem Telefon scannen, und schon kann sie senden.',
    others: 'Hier gibt es keine Instanzen. Anderen Besitzer oder Namespace wählen, oder eine anlegen.',
    nothing: 'Keine Instanz passt zu „{search}“.',
    clear: 'Suche leeren',
  },

  errors: {
    unreachable: 'Das Gateway antwortet nicht; die eigene Verbindung prüfen.',
    unreadable: 'Das Gateway hat etwas geantwortet, das diese Seite nicht lesen kann; die Seite neu laden.',
    list: 'Die Instanzen können nicht gezeigt werden',
    request: 'Anfrage {id}',
  },
};

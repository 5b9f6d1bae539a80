//! What `--help` says below the flags.

/// Of the whole program.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    it failed; the message says why and what to do
  2    the command line is wrong
  3    the pairing window passed unused (open a new one with --refresh)
  4    timed out
  5    the phone is needed: the instance has to be paired first
  130  interrupted";

/// Of `completion`.
pub const COMPLETION_HELP: &str = "\
Completion of `kubectl whatsapp ...` works through kubectl's own: put a script on PATH, next to the plugin.
  kubectl whatsapp completion kubectl > ~/.local/bin/kubectl_complete-whatsapp
  chmod +x ~/.local/bin/kubectl_complete-whatsapp
The other shells complete the program when it is called by its own name, kubectl-whatsapp:
  source <(kubectl whatsapp completion bash)";

/// Of `qr`.
pub const QR_HELP: &str = "\
The command watches the instance: the code on the screen is replaced the moment WhatsApp replaces it, and the command
ends by itself when the phone has scanned one. Whoever sees the code can link the account: do not share the screen.

Examples:
  kubectl whatsapp qr shop                       draw the code until it is scanned
  kubectl whatsapp qr shop --refresh             open a new pairing window first
  kubectl whatsapp qr shop --once -o svg > qr.svg
  kubectl whatsapp qr shop -o raw | while read -r code; do ...; done

Exit codes: 0 connected (or, with --once, code shown), 3 pairing window passed, 4 timed out, 5 unlinked: use --refresh.";

/// Of `link`.
pub const LINK_HELP: &str = "\
For the person who has the phone and no account of the cluster: the page shows the instance's pairing codes and nothing else.
Whoever opens the address first keeps it. It can link a phone to the instance: send it as you would send a password.

Examples:
  kubectl whatsapp link shop                     an address that works for ten minutes
  kubectl whatsapp link shop --expires-in 2m
  kubectl whatsapp link shop --revoke            the address works no longer, nor does a code that it has shown";

/// Of `dashboard`.
pub const DASHBOARD_HELP: &str = "\
The command serves the gateway's page on a port of this machine until Ctrl-C, and passes on what the browser asks for with
the kubeconfig's own token: the token is in no browser, no address and no history. The address works once, within two
minutes; it is exchanged for a cookie that is good for as long as the command runs.

Examples:
  kubectl whatsapp dashboard                                 open it in the browser
  kubectl whatsapp dashboard --no-open --port 8080           print the address, for another browser of this machine
  kubectl whatsapp dashboard --as-service-account dashboard  with the rights of a service account of the namespace
  kubectl whatsapp dashboard --gateway https://whatsapp.example.com";

//! What went wrong with a credential plugin of a kubeconfig (`users[].user.exec`), in words. The client library's own words quote what the
//! plugin printed, and that may be a token.

use std::{error::Error as StdError, io::IsTerminal as _};

use kube::{
    client::AuthError,
    config::{ExecConfig, ExecInteractiveMode},
};

use super::causes::causes;

/// A credential plugin has standard input only where that is a terminal, as with kubectl. Otherwise it would read what is not meant
/// for it: the text of a message, or the lines that a shell's loop has still to go through.
pub fn keep_input_from(exec: &mut ExecConfig) {
    if !std::io::stdin().is_terminal() && exec.interactive_mode != Some(ExecInteractiveMode::Always) {
        exec.interactive_mode = Some(ExecInteractiveMode::Never);
    }
}

/// What the credential plugin did, if it is to blame; without anything that it printed.
pub fn blamed(error: &(dyn StdError + 'static)) -> Option<String> {
    let plugin = "the kubeconfig's credential plugin";
    Some(match of_plugin(error)? {
        AuthError::AuthExecStart(error) => format!("{plugin} cannot be run ({error})"),
        AuthError::AuthExecRun { out, .. } => format!("{plugin} failed ({})", out.status),
        AuthError::ExecPluginFailed => format!("{plugin} printed an ExecCredential without a status"),
        _ => format!("{plugin} printed something that does not read as an ExecCredential"),
    })
}

/// The last thing that a plugin which failed said on standard error, for whoever ran it.
pub fn complaint(error: &(dyn StdError + 'static)) -> Option<String> {
    let AuthError::AuthExecRun { out, .. } = of_plugin(error)? else { return None };
    let said = String::from_utf8_lossy(&out.stderr);
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(last.chars().filter(|character| !character.is_control()).take(300).collect())
}

fn of_plugin<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a AuthError> {
    causes(error).filter_map(of_credentials).find(|error| {
        matches!(
            error,
            AuthError::AuthExecStart(_)
                | AuthError::AuthExecRun { .. }
                | AuthError::ExecPluginFailed
                | AuthError::AuthExecParse(_)
        )
    })
}

/// What is said of credentials by this very error.
pub(super) fn of_credentials<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a AuthError> {
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Auth(error)) => Some(error),
        _ => error.downcast_ref::<AuthError>(),
    }
}

#[cfg(test)]
mod tests {
    use std::{io, os::unix::process::ExitStatusExt as _, process::Output};

    use super::*;
    use crate::platform::kubernetes::{describe, root_cause};

    fn failed(stdout: &str, stderr: &str) -> kube::Error {
        let status = std::process::ExitStatus::from_raw(255 << 8);
        let out = Output { status, stdout: stdout.into(), stderr: stderr.into() };
        kube::Error::Auth(AuthError::AuthExecRun { cmd: "FLAG=hush aws".to_owned(), out: Box::new(out) })
    }

    #[test]
    fn a_plugin_is_blamed_and_nothing_of_what_it_printed_is_repeated() {
        let missing = kube::Error::Auth(AuthError::AuthExecStart(io::ErrorKind::NotFound.into()));
        assert!(blamed(&missing).unwrap().contains("cannot be run (entity not found)"));
        let told = blamed(&failed("token: hush", "log in: hush")).unwrap();
        assert!(told.contains("failed (exit status: 255)") && !told.contains("hush"), "{told}");
        for words in [describe(&failed("token: hush", "")), root_cause(&failed("token: hush", ""))] {
            assert_eq!(words, told, "wherever it is told");
        }
        let error = serde_saphyr::from_str::<bool>("token: hush").unwrap_err();
        let unread = kube::Error::Auth(AuthError::AuthExecParse(Box::new(error)));
        let told = blamed(&unread).unwrap();
        assert!(told.ends_with("does not read as an ExecCredential") && !told.contains("hush"), "{told}");
        // As a request has it when a token could not be had anew.
        let later = kube::Error::Service(Box::new(AuthError::ExecPluginFailed));
        assert!(blamed(&later).unwrap().contains("without a status"));
        let other = kube::Error::Auth(AuthError::MissingCommand);
        assert_eq!((blamed(&other), blamed(&io::Error::other("away"))), (None, None));
    }

    #[test]
    fn what_a_plugin_complains_of_is_its_last_line() {
        let told = |stderr| complaint(&failed("token: hush", stderr));
        assert_eq!(
            told("warning\nthe session ended: run aws sso login\u{7}\n\n").unwrap(),
            "the session ended: run aws sso login"
        );
        assert_eq!(told("\n"), None);
        assert_eq!(complaint(&kube::Error::Auth(AuthError::ExecPluginFailed)), None);
    }
}

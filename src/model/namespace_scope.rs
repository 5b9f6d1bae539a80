//! Which namespaces a process looks after.

/// Which namespaces a process looks after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NamespaceScope {
    /// All of them.
    #[default]
    All,
    /// Only these.
    Only(Vec<String>),
}

impl NamespaceScope {
    /// Only these namespaces; all when there are none.
    pub fn of(namespaces: &[String]) -> Self {
        if namespaces.is_empty() { Self::All } else { Self::Only(namespaces.to_vec()) }
    }

    /// Whether a namespace is one of them.
    pub fn includes(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(namespaces) => namespaces.iter().any(|one| one == namespace),
        }
    }
}

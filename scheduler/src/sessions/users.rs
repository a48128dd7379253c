//! Who may connect, where a file of users is given.
//!
//! ```text
//! # what follows is a comment
//! ada:$2y$12$...            a password: bcrypt, as `htpasswd -B` writes it
//! nightly:sha256:9f86d0...  a bearer token, by its SHA-256 in hex
//! ```
//!
//! A name may have several lines, so that a password or token can be changed without a gap.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

/// What begins the value of a line that holds a token.
const TOKEN_PREFIX: &str = "sha256:";
/// Passwords that are checked at a time: each takes a core for as long as its hash was made to take.
const CHECKS: usize = 2;
/// Most bytes of a password that bcrypt looks at; a longer one is refused rather than cut.
const LONGEST_PASSWORD: usize = 72;

/// A file of users that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// It can't be read.
    #[error("the file of users '{}' can't be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A line is not of the form that it has to have.
    #[error("line {line} of the file of users '{}' {wrong}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it, and what would be right.
        wrong: &'static str,
    },
    /// It names nobody.
    #[error("the file of users '{}' names nobody, so that nobody could connect: add lines NAME:HASH", path.display())]
    Nobody {
        /// The file.
        path: PathBuf,
    },
}

/// The users of a file.
pub(crate) struct Users {
    /// bcrypt hashes by name.
    passwords: BTreeMap<String, Vec<String>>,
    /// Names by the SHA-256 of a token.
    tokens: HashMap<[u8; 32], String>,
    checks: Arc<Semaphore>,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").field("names", &self.passwords.keys()).finish_non_exhaustive()
    }
}

impl Users {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, UsersError> {
        let text = std::fs::read_to_string(path).map_err(|source| UsersError::Read { path: path.to_owned(), source })?;
        let users = Self::parse(&text).map_err(|(line, wrong)| UsersError::Line { path: path.to_owned(), line, wrong })?;
        if users.passwords.is_empty() && users.tokens.is_empty() {
            return Err(UsersError::Nobody { path: path.to_owned() });
        }
        Ok(users)
    }

    fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut users = Self { passwords: BTreeMap::new(), tokens: HashMap::new(), checks: Arc::new(Semaphore::new(CHECKS)) };
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                users.add(line).map_err(|wrong| (index + 1, wrong))?;
            }
        }
        Ok(users)
    }

    fn add(&mut self, line: &str) -> Result<(), &'static str> {
        let (name, value) = line.split_once(':').ok_or("is not NAME:HASH")?;
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("has no name, or one with spaces, before ':'");
        }
        if let Some(hex) = value.strip_prefix(TOKEN_PREFIX) {
            let digest = digest_of_hex(hex).ok_or("has a token whose SHA-256 is not 64 digits in hex: printf %s TOKEN | sha256sum")?;
            self.tokens.insert(digest, name.to_owned());
            return Ok(());
        }
        if value.parse::<bcrypt::HashParts>().is_err() {
            return Err("has neither a password as 'htpasswd -nB NAME' writes it ($2y$..) nor sha256: and the SHA-256 of a token");
        }
        self.passwords.entry(name.to_owned()).or_default().push(value.to_owned());
        Ok(())
    }

    /// Whether the password is right. Takes as long for a name that is not there.
    pub(crate) async fn has_password(&self, name: &str, password: &str) -> bool {
        let known = self.passwords.get(name);
        let hashes = known.or_else(|| self.passwords.values().next()).cloned().unwrap_or_default();
        if password.len() > LONGEST_PASSWORD {
            return false;
        }
        let Ok(_turn) = self.checks.acquire().await else { return false };
        let password = password.to_owned();
        let checked = tokio::task::spawn_blocking(move || hashes.iter().any(|hash| bcrypt::verify(&password, hash).unwrap_or(false)));
        checked.await.unwrap_or(false) && known.is_some()
    }

    /// Whose token this is, if it is one of the file's.
    pub(crate) fn of_token(&self, token: &str) -> Option<&str> {
        // Looked up by its digest, so that how long it takes says nothing about the token.
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        self.tokens.get(&digest).map(String::as_str)
    }

    /// Whether somebody of this name can get a token by a password.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.passwords.contains_key(name)
    }
}

fn digest_of_hex(hex: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "secret", at the lowest cost that there is.
    fn secret() -> String {
        bcrypt::hash("secret", 4).unwrap()
    }

    #[tokio::test]
    async fn passwords_and_tokens_are_those_of_the_file() {
        let token = Sha256::digest(b"t0ken").iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let users = Users::parse(&format!("# users\n\nada:{}\nnightly:sha256:{token}\n", secret())).unwrap();
        assert!(users.has_password("ada", "secret").await);
        assert!(!users.has_password("ada", "Secret").await);
        assert!(!users.has_password("ada", "").await);
        assert!(!users.has_password("bob", "secret").await);
        assert!(!users.has_password("nightly", "t0ken").await, "a token is no password");
        assert!(!users.has_password("ada", &"x".repeat(100)).await);
        assert_eq!(users.of_token("t0ken"), Some("nightly"));
        assert_eq!(users.of_token("token"), None);
        assert!(users.has_name("ada") && !users.has_name("nightly"));
    }

    #[tokio::test]
    async fn a_name_may_have_two_passwords() {
        let users = Users::parse(&format!("ada:{}\nada:{}", secret(), bcrypt::hash("new", 4).unwrap())).unwrap();
        assert!(users.has_password("ada", "secret").await && users.has_password("ada", "new").await);
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, line, part) in [
            ("ada", 1, "NAME:HASH"),
            ("# x\n:$2y$04$x", 2, "no name"),
            ("a b:$2y$04$x", 1, "no name"),
            ("ada:secret", 1, "htpasswd"),
            ("ada:$2y$04$short", 1, "htpasswd"),
            ("ada:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", 1, "htpasswd"),
            ("\n\nn:sha256:12", 3, "64 digits"),
        ] {
            let (found, wrong) = Users::parse(text).unwrap_err();
            assert_eq!(found, line, "{text}");
            assert!(wrong.contains(part), "{text}: {wrong}");
        }
    }

    #[test]
    fn a_file_that_is_missing_or_empty_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        assert!(Users::read(&path).unwrap_err().to_string().contains("can't be read"));
        std::fs::write(&path, "# nobody\n").unwrap();
        assert!(Users::read(&path).unwrap_err().to_string().contains("nobody could connect"));
    }
}

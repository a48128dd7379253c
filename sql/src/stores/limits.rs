//! How long a store is waited for, and how often it is asked again.

use std::env;
use std::time::Duration;

use datafusion::error::{DataFusionError, Result};
use object_store::RetryConfig;

use crate::duration::parse_duration;

/// What the names of the options of a statement begin with.
pub(super) const PREFIX: &str = "store.";

/// The settings of a store, from a statement's options or from the environment: `store.timeout` is `VOLLEY_STORE_TIMEOUT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limits {
    /// For one request.
    pub(super) timeout: Duration,
    /// For a connection.
    pub(super) connect_timeout: Duration,
    /// How often a request is made again that failed in a way that may pass.
    pub(super) retries: usize,
    /// For a request with all its tries.
    pub(super) retry_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            retries: 10,
            retry_timeout: Duration::from_secs(60),
        }
    }
}

impl Limits {
    const NAMES: [&str; 4] = ["timeout", "connect_timeout", "retries", "retry_timeout"];

    /// Those of the environment, and of a statement's options before them.
    pub(super) fn of(options: &[(String, String)]) -> Result<Self> {
        let mut limits = Self::default();
        for name in Self::NAMES {
            let variable = format!("VOLLEY_STORE_{}", name.to_uppercase());
            if let Ok(value) = env::var(&variable) {
                limits.set(name, &value).map_err(|why| DataFusionError::Configuration(format!("{variable}: {why}")))?;
            }
        }
        for (key, value) in options {
            if let Some(name) = key.strip_prefix(PREFIX) {
                limits.set(name, value).map_err(|why| DataFusionError::Plan(format!("option '{key}': {why}")))?;
            }
        }
        Ok(limits)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "timeout" => self.timeout = parse_duration(value)?,
            "connect_timeout" => self.connect_timeout = parse_duration(value)?,
            "retry_timeout" => self.retry_timeout = parse_duration(value)?,
            "retries" => self.retries = value.parse().map_err(|_| format!("'{value}' is not a number"))?,
            _ => return Err(format!("the options of all stores are {}", Self::NAMES.map(|name| format!("{PREFIX}{name}")).join(", "))),
        }
        Ok(())
    }

    pub(super) fn retry(&self) -> RetryConfig {
        RetryConfig { max_retries: self.retries, retry_timeout: self.retry_timeout, ..RetryConfig::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_sets_limits() {
        let options = [("store.timeout".to_owned(), "2s".to_owned()), ("store.retries".to_owned(), "0".to_owned())];
        let limits = Limits::of(&options).unwrap();
        assert_eq!(limits, Limits { timeout: Duration::from_secs(2), retries: 0, ..Limits::default() });
        let error = Limits::of(&[("store.timeout".to_owned(), "soon".to_owned())]).unwrap_err().to_string();
        assert!(error.contains("'store.timeout'") && error.contains("500ms"), "{error}");
    }
}

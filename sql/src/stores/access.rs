//! How to get into a store that the environment says nothing of: what a statement says, kept apart from it.
//!
//! ```text
//! CREATE EXTERNAL TABLE .. LOCATION 's3://bucket/t/' OPTIONS ('aws.secret_access_key' '..')
//!     ─> .. LOCATION 's3://NAME@bucket/t/' in the catalog and in plans, and NAME with its options in the catalog's entry
//!     ─> NAME with its options beside each stage's plan, to the executors that run its tasks
//! ```
//!
//! So no plan, listing, log or error holds more than the name.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use datafusion::error::{DataFusionError, Result};
use datafusion::sql::parser::CreateExternalTable;
use datafusion::sql::sqlparser::ast::Value;
use object_store::aws::AmazonS3ConfigKey;
use object_store::azure::AzureConfigKey;
use object_store::gcp::GoogleConfigKey;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use url::Url;

use super::limits::{Limits, PREFIX};

/// What the names of the stores' own options begin with, and the schemes of these stores.
const KINDS: &[(&str, &[&str])] = &[("aws.", &["s3", "s3a"]), ("gcp.", &["gs"]), ("azure.", &["az", "adl", "azure", "abfs", "abfss"])];

/// The options of a store under the name that URLs have of it. All but the name is secret, and no text of it shows more.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreAccess {
    name: String,
    options: Vec<(String, String)>,
}

impl fmt::Debug for StoreAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreAccess").field("name", &self.name).finish_non_exhaustive()
    }
}

impl From<volley_proto::StoreAccess> for StoreAccess {
    fn from(access: volley_proto::StoreAccess) -> Self {
        Self { name: access.name, options: access.options }
    }
}

impl From<StoreAccess> for volley_proto::StoreAccess {
    fn from(access: StoreAccess) -> Self {
        Self { name: access.name, options: access.options }
    }
}

/// What this process knows: the names are new for each statement, so that one never means two.
static KNOWN: LazyLock<RwLock<HashMap<String, StoreAccess>>> = LazyLock::new(RwLock::default);

/// Lets URLs of this process use a name.
pub fn remember(access: impl Into<StoreAccess>) {
    let access = access.into();
    KNOWN.write().insert(access.name.clone(), access);
}

/// Those that URLs name, as far as this process knows them.
pub(crate) fn named_in<'a>(urls: impl Iterator<Item = &'a Url>) -> Vec<volley_proto::StoreAccess> {
    let names: BTreeSet<_> = urls.filter_map(name_in).collect();
    let known = KNOWN.read();
    names.into_iter().filter_map(|name| known.get(name)).cloned().map(Into::into).collect()
}

/// The name in a URL, which is where others have a user; in one of Azure that is the container.
pub(super) fn name_in(url: &Url) -> Option<&str> {
    match url.scheme() {
        "abfs" | "abfss" => url.password(),
        "http" | "https" | "file" => None,
        _ => Some(url.username()).filter(|name| !name.is_empty()),
    }
}

/// A URL without the name in it.
pub(super) fn without_name(url: &Url) -> Url {
    let mut url = url.clone();
    if name_in(&url).is_some() {
        let is_user = url.password().is_none();
        // These fail for URLs that can't have a user, and this has one.
        let _ = if is_user { url.set_username("") } else { url.set_password(None) };
    }
    url
}

/// The options that a URL names, and none where it names none.
pub(super) fn options_in(url: &Url) -> Result<Vec<(String, String)>> {
    let Some(name) = name_in(url) else {
        return Ok(vec![]);
    };
    match KNOWN.read().get(name) {
        Some(access) => Ok(access.options.clone()),
        None => Err(DataFusionError::Plan(format!(
            "'{name}' in '{url}' is not the name of a store's options; the options of CREATE EXTERNAL TABLE give one"
        ))),
    }
}

/// Whether an option of a statement is one of a store.
fn is_of_store(key: &str) -> bool {
    key.starts_with(PREFIX) || KINDS.iter().any(|(prefix, _)| key.starts_with(prefix))
}

/// Whether a name is that of an option that says how to get into a store, without the beginning that it should have.
pub(crate) fn is_secret(key: &str) -> bool {
    is_of_store(key)
        || AmazonS3ConfigKey::from_str(key).is_ok()
        || GoogleConfigKey::from_str(key).is_ok()
        || AzureConfigKey::from_str(key).is_ok()
}

/// Takes the options of a store out of a statement, which gets a name for them instead. What they say is checked, as far as that is possible
/// without asking the store.
pub(crate) fn take(create: &mut CreateExternalTable) -> Result<Option<StoreAccess>> {
    let (taken, left): (Vec<_>, Vec<_>) = std::mem::take(&mut create.options).into_iter().partition(|(key, _)| is_of_store(key));
    create.options = left;
    if taken.is_empty() {
        return Ok(None);
    }
    let options: Vec<_> = taken.into_iter().map(|(key, value)| (key, text(value))).collect();
    let name = format!("access-{}", uuid::Uuid::new_v4().simple());
    for location in &mut create.locations {
        *location = named(location, &name, &options)?;
    }
    Limits::of(&options)?;
    Ok(Some(StoreAccess { name, options }))
}

fn text(value: Value) -> String {
    value.clone().into_string().unwrap_or_else(|| value.to_string())
}

/// A location with the name of its store's options.
fn named(location: &str, name: &str, options: &[(String, String)]) -> Result<String> {
    let wrong = |why: String| Err(DataFusionError::Plan(why));
    let Ok(mut url) = Url::parse(location) else {
        return wrong(format!("'{location}' is no URL of a store, and the statement has options of one"));
    };
    let kind = KINDS.iter().find(|(_, schemes)| schemes.contains(&url.scheme()));
    let Some((prefix, _)) = kind else {
        return wrong(format!("'{}:' URLs take no options of stores; those of s3, gs, az and abfs do", url.scheme()));
    };
    if name_in(&url).is_some() {
        return wrong(format!("'{location}' names options of a store, and the statement has some too"));
    }
    for (key, _) in options.iter().filter(|(key, _)| !key.starts_with(PREFIX)) {
        let Some(own) = key.strip_prefix(prefix) else {
            return wrong(format!("option '{key}' is for other stores than '{}:'; here they begin with '{prefix}'", url.scheme()));
        };
        let is_known = match *prefix {
            "aws." => AmazonS3ConfigKey::from_str(own).is_ok(),
            "gcp." => GoogleConfigKey::from_str(own).is_ok(),
            _ => AzureConfigKey::from_str(own).is_ok(),
        };
        if !is_known {
            return wrong(format!("'{key}' is not an option of '{}:' stores", url.scheme()));
        }
    }
    let set = if matches!(url.scheme(), "abfs" | "abfss") { url.set_password(Some(name)) } else { url.set_username(name) };
    match set {
        Ok(()) => Ok(url.into()),
        Err(()) => wrong(format!("'{location}' has no place for the name of a store's options")),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::{DFParser, Statement};

    use super::*;

    fn parsed(sql: &str) -> CreateExternalTable {
        match DFParser::parse_sql(sql).unwrap().pop_front().unwrap() {
            Statement::CreateExternalTable(create) => create,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn secrets_leave_the_statement() {
        let mut create = parsed(
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 's3://bucket/t/' \
             OPTIONS ('aws.access_key_id' 'who', 'aws.secret_access_key' 'hush', 'store.timeout' '3s', 'format.delimiter' ';')",
        );
        let access = take(&mut create).unwrap().unwrap();
        assert!(!format!("{create} {access:?}").contains("hush"));
        assert_eq!(create.options.len(), 1);
        let url = Url::parse(&create.locations[0]).unwrap();
        assert_eq!(name_in(&url), Some(access.name.as_str()));
        assert_eq!(without_name(&url).as_str(), "s3://bucket/t/");
        assert!(options_in(&url).unwrap_err().to_string().contains("not the name"));
        remember(access);
        assert_eq!(options_in(&url).unwrap()[1], ("aws.secret_access_key".to_owned(), "hush".to_owned()));
    }

    #[test]
    fn a_container_keeps_its_place() {
        let mut create = parsed(
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'abfss://c@a.dfs.core.windows.net/t/' OPTIONS ('azure.account_key' 'hush')",
        );
        let access = take(&mut create).unwrap().unwrap();
        let url = Url::parse(&create.locations[0]).unwrap();
        assert_eq!((url.username(), name_in(&url)), ("c", Some(access.name.as_str())));
        assert_eq!(without_name(&url).as_str(), "abfss://c@a.dfs.core.windows.net/t/");
    }

    #[test]
    fn options_of_another_store_are_refused() {
        for (location, options, expected) in [
            ("/tmp/t/", "'aws.region' 'eu'", "no URL of a store"),
            ("s3://b/t/", "'gcp.service_account_key' 'x'", "begin with 'aws.'"),
            ("s3://b/t/", "'aws.nonsense' 'x'", "'aws.nonsense' is not an option"),
            ("https://host/t/", "'aws.region' 'x'", "take no options of stores"),
            ("s3://b/t/", "'store.nonsense' 'x'", "store.retry_timeout"),
        ] {
            let mut create = parsed(&format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{location}' OPTIONS ({options})"));
            let error = take(&mut create).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}

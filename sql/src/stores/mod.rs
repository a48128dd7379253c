//! Where files are: the local file system, and object stores that are connected to when a URL first names them.
//!
//! ```text
//! file:///dir/    s3://bucket/    gs://bucket/    az://container/, abfss://container@account/    http(s)://host/
//! ```
//!
//! Credentials, regions and endpoints come from the environment of the process, under the names that each store's own tools use (`AWS_*`,
//! `GOOGLE_*`, `AZURE_*`), or from the statement that made a table ([`access`]), in which case nothing is taken from the environment. Nothing
//! of them is ever part of a plan, a log or an error.

mod access;
mod ends;
mod limits;
mod s3_uploads;

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ClientConfigKey, ClientOptions, ObjectStore};
use parking_lot::RwLock;
use url::{Position, Url};

use ends::WithEnds;
use limits::Limits;
use s3_uploads::S3Uploads;

pub use access::{StoreAccess, remember};
pub(crate) use access::{is_secret, named_in, take};

/// The schemes that are understood.
const SCHEMES: &str = "file, s3, gs, az, abfs, http and https";

/// The stores of a process, by the scheme and host of their URLs.
#[derive(Debug, Default)]
pub(crate) struct StoreRegistry {
    known: DefaultObjectStoreRegistry,
    /// Those whose URLs name options, by scheme, name and host.
    named: RwLock<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl ObjectStoreRegistry for StoreRegistry {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.known.register_store(url, store)
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        self.known.deregister_store(url)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        if access::name_in(url).is_some() {
            let key = url[..Position::BeforePath].to_owned();
            if let Some(store) = self.named.read().get(&key) {
                return Ok(Arc::clone(store));
            }
            let store = connect(url)?;
            self.named.write().insert(key, Arc::clone(&store));
            return Ok(store);
        }
        if let Ok(store) = self.known.get_store(url) {
            return Ok(store);
        }
        let store = connect(url)?;
        self.known.register_store(url, Arc::clone(&store));
        Ok(store)
    }
}

/// A store that is not connected to yet; that happens with the first request.
fn connect(url: &Url) -> Result<Arc<dyn ObjectStore>> {
    match url.scheme() {
        "s3" | "s3a" => Ok(Arc::new(s3_builder(url)?.build()?)),
        "gs" => Ok(Arc::new(gcs(url)?)),
        "az" | "adl" | "azure" | "abfs" | "abfss" => Ok(Arc::new(WithEnds(azure(url)?))),
        "http" | "https" => {
            let limits = Limits::of(&[])?;
            let options = client_options(&limits)
                .into_iter()
                .fold(ClientOptions::new().with_allow_http(true), |options, (key, value)| options.with_config(key, value));
            let host = &url[..Position::BeforePath];
            Ok(Arc::new(HttpBuilder::new().with_url(host).with_retry(limits.retry()).with_client_options(options).build()?))
        }
        other => Err(DataFusionError::Plan(format!("no store is known for URLs that begin with '{other}://'; the schemes are {SCHEMES}"))),
    }
}

/// A store that takes uploads which are completed later.
#[async_trait]
pub(crate) trait UploadStore: MultipartStore {
    /// The uploads to a path that are neither completed nor aborted; none where the store can't be asked.
    async fn unfinished(&self, path: &Path) -> Result<Vec<String>>;
}

/// The store of a URL, where it takes uploads that are completed later.
pub(crate) fn upload_store(url: &Url) -> Result<Option<Arc<dyn UploadStore>>> {
    Ok(match url.scheme() {
        "s3" | "s3a" => Some(Arc::new(S3Uploads::connect(url, s3_builder(url)?)?)),
        "gs" => Some(Arc::new(gcs(url)?)),
        "az" | "adl" | "azure" | "abfs" | "abfss" => Some(Arc::new(azure(url)?)),
        _ => None,
    })
}

#[async_trait]
impl UploadStore for GoogleCloudStorage {
    async fn unfinished(&self, _: &Path) -> Result<Vec<String>> {
        Ok(vec![])
    }
}

#[async_trait]
impl UploadStore for MicrosoftAzure {
    /// Azure has no uploads: blocks that nobody commits go by themselves.
    async fn unfinished(&self, _: &Path) -> Result<Vec<String>> {
        Ok(vec![])
    }
}

fn client_options(limits: &Limits) -> [(ClientConfigKey, String); 2] {
    let millis = |time: Duration| format!("{}ms", time.as_millis());
    [(ClientConfigKey::Timeout, millis(limits.timeout)), (ClientConfigKey::ConnectTimeout, millis(limits.connect_timeout))]
}

/// A builder of one kind of store: from the options that a URL names, or from the environment.
macro_rules! builder {
    ($url:expr, $prefix:literal, $builder:ty, $key:ty) => {{
        let options = access::options_in($url)?;
        let limits = Limits::of(&options)?;
        let builder = if access::name_in($url).is_some() { <$builder>::new() } else { <$builder>::from_env() };
        let mut builder = builder.with_url(access::without_name($url)).with_retry(limits.retry());
        for (key, value) in client_options(&limits) {
            builder = builder.with_config(<$key>::Client(key), value);
        }
        for (key, value) in options.iter().filter_map(|(key, value)| Some((key.strip_prefix($prefix)?, value))) {
            builder = builder.with_config(<$key>::from_str(key)?, value);
        }
        builder
    }};
}

fn s3_builder(url: &Url) -> Result<AmazonS3Builder> {
    Ok(builder!(url, "aws.", AmazonS3Builder, AmazonS3ConfigKey))
}

fn gcs(url: &Url) -> Result<GoogleCloudStorage> {
    Ok(builder!(url, "gcp.", GoogleCloudStorageBuilder, GoogleConfigKey).build()?)
}

fn azure(url: &Url) -> Result<MicrosoftAzure> {
    Ok(builder!(url, "azure.", MicrosoftAzureBuilder, AzureConfigKey).build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gets_its_store_and_the_same_again() {
        let registry = StoreRegistry::default();
        for text in ["file:///", "s3://bucket", "gs://bucket", "https://example.org"] {
            let url = Url::parse(text).unwrap();
            let store = registry.get_store(&url).unwrap();
            assert!(Arc::ptr_eq(&store, &registry.get_store(&url).unwrap()), "{text}");
        }
    }

    #[test]
    fn an_unknown_scheme_is_refused_with_those_that_are_known() {
        let error = StoreRegistry::default().get_store(&Url::parse("hdfs://host/").unwrap()).unwrap_err().to_string();
        assert!(error.contains("'hdfs://'") && error.contains("s3"), "{error}");
    }
}

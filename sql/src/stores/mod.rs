//! Where files are: the local file system, and object stores that are connected to when a URL first names them.
//!
//! ```text
//! file:///dir/    s3://bucket/    gs://bucket/    az://container/, abfss://container@account/    http(s)://host/
//! ```
//!
//! Credentials, regions and endpoints come from the environment of the process, under the names that each store's own tools use (`AWS_*`,
//! `GOOGLE_*`, `AZURE_*`); nothing of them is ever part of a plan, a log or an error.

mod s3_uploads;

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
use object_store::{ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use s3_uploads::S3Uploads;

/// How long a request is tried again, and one try may take.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
const TIMES: [(ClientConfigKey, &str); 2] = [(ClientConfigKey::Timeout, "30 seconds"), (ClientConfigKey::ConnectTimeout, "5 seconds")];

/// The schemes that are understood.
const SCHEMES: &str = "file, s3, gs, az, abfs, http and https";

/// The stores of a process, by the scheme and host of their URLs.
#[derive(Debug, Default)]
pub(crate) struct StoreRegistry {
    known: DefaultObjectStoreRegistry,
}

impl ObjectStoreRegistry for StoreRegistry {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.known.register_store(url, store)
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        self.known.deregister_store(url)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
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
        "s3" | "s3a" => Ok(Arc::new(s3_builder(url).build()?)),
        "gs" => Ok(Arc::new(gcs(url)?)),
        "az" | "adl" | "azure" | "abfs" | "abfss" => Ok(Arc::new(azure(url)?)),
        "http" | "https" => {
            let mut options = ClientOptions::new().with_allow_http(true);
            for (key, time) in TIMES {
                options = options.with_config(key, time);
            }
            let host = &url[..url::Position::BeforePath];
            Ok(Arc::new(HttpBuilder::new().with_url(host).with_retry(retry()).with_client_options(options).build()?))
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
        "s3" | "s3a" => Some(Arc::new(S3Uploads::connect(url, s3_builder(url))?)),
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

fn retry() -> RetryConfig {
    RetryConfig { retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() }
}

fn s3_builder(url: &Url) -> AmazonS3Builder {
    let builder = AmazonS3Builder::from_env().with_url(url.as_str()).with_retry(retry());
    TIMES.into_iter().fold(builder, |builder, (key, time)| builder.with_config(AmazonS3ConfigKey::Client(key), time))
}

fn gcs(url: &Url) -> Result<GoogleCloudStorage> {
    let builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).with_retry(retry());
    let builder = TIMES.into_iter().fold(builder, |builder, (key, time)| builder.with_config(GoogleConfigKey::Client(key), time));
    Ok(builder.build()?)
}

fn azure(url: &Url) -> Result<MicrosoftAzure> {
    let builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str()).with_retry(retry());
    let builder = TIMES.into_iter().fold(builder, |builder, (key, time)| builder.with_config(AzureConfigKey::Client(key), time));
    Ok(builder.build()?)
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

//! Uploads to S3, which can be asked for those that nobody ended:
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html>.

use std::fmt;

use async_trait::async_trait;
use datafusion::error::{DataFusionError, Result};
use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer};
use object_store::client::{HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{ClientOptions, MultipartId, PutPayload, PutResult};
use url::Url;

use super::UploadStore;

/// The region of a request where none is configured, as the tools of S3 have it.
const DEFAULT_REGION: &str = "us-east-1";

/// A bucket.
pub(super) struct S3Uploads {
    store: AmazonS3,
    /// URL of the bucket.
    bucket: Url,
    region: String,
}

impl S3Uploads {
    /// A bucket that is not connected to yet.
    pub(super) fn connect(url: &Url, builder: AmazonS3Builder) -> Result<Self> {
        let region = builder.get_config_value(&AmazonS3ConfigKey::Region).unwrap_or_else(|| DEFAULT_REGION.to_owned());
        let is_virtual = builder.get_config_value(&AmazonS3ConfigKey::VirtualHostedStyleRequest).is_some_and(|value| value == "true");
        let name = url.host_str().unwrap_or_default();
        let bucket = match builder.get_config_value(&AmazonS3ConfigKey::Endpoint) {
            Some(endpoint) if is_virtual => endpoint,
            Some(endpoint) => format!("{}/{name}", endpoint.trim_end_matches('/')),
            None => format!("https://s3.{region}.amazonaws.com/{name}"),
        };
        let bucket = Url::parse(&bucket).map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(Self { store: builder.build()?, bucket, region })
    }

    /// Asks for the uploads whose key begins with a path.
    async fn list(&self, path: &Path) -> Result<String> {
        let mut url = self.bucket.clone();
        url.query_pairs_mut().append_pair("prefix", path.as_ref()).append_pair("uploads", "");
        let external = |error: Box<dyn std::error::Error + Send + Sync>| DataFusionError::External(error);
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = url.as_str().parse().map_err(|error| external(Box::new(error)))?;
        let credential = self.store.credentials().get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &self.region).authorize(&mut request, None);
        let client = ReqwestConnector::default().connect(&ClientOptions::new().with_allow_http(true))?;
        let answer = client.execute(request).await.map_err(|error| external(Box::new(error)))?;
        let status = answer.status();
        let chunks: Vec<_> = answer.into_body().bytes_stream().try_collect().await.map_err(|error| external(Box::new(error)))?;
        let text = String::from_utf8_lossy(&chunks.concat()).into_owned();
        match status.is_success() {
            true => Ok(text),
            false => Err(DataFusionError::Execution(format!("the store does not tell its unfinished uploads: {status}"))),
        }
    }
}

/// The ids of uploads to `path` in an answer, which may tell of others whose keys begin with it.
fn upload_ids(answer: &str, path: &str) -> Vec<String> {
    let uploads = answer.split("<Upload>").skip(1);
    let text = |upload: &str, name: &str| {
        let (_, rest) = upload.split_once(&format!("<{name}>"))?;
        Some(unescaped(rest.split_once(&format!("</{name}>"))?.0))
    };
    uploads.filter(|upload| text(upload, "Key").is_some_and(|key| key == path)).filter_map(|upload| text(upload, "UploadId")).collect()
}

fn unescaped(text: &str) -> String {
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#34;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
    entities.iter().fold(text.to_owned(), |text, (entity, meaning)| text.replace(entity, meaning))
}

impl fmt::Debug for S3Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Uploads").field("bucket", &self.bucket.as_str()).finish_non_exhaustive()
    }
}

#[async_trait]
impl MultipartStore for S3Uploads {
    async fn create_multipart(&self, path: &Path) -> object_store::Result<MultipartId> {
        self.store.create_multipart(path).await
    }

    async fn put_part(&self, path: &Path, id: &MultipartId, part: usize, data: PutPayload) -> object_store::Result<PartId> {
        self.store.put_part(path, id, part, data).await
    }

    async fn complete_multipart(&self, path: &Path, id: &MultipartId, parts: Vec<PartId>) -> object_store::Result<PutResult> {
        self.store.complete_multipart(path, id, parts).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> object_store::Result<()> {
        self.store.abort_multipart(path, id).await
    }
}

#[async_trait]
impl UploadStore for S3Uploads {
    async fn unfinished(&self, path: &Path) -> Result<Vec<String>> {
        Ok(upload_ids(&self.list(path).await?, path.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_an_answer() {
        let answer = "<ListMultipartUploadsResult><Upload>\n<Key>a/b&amp;c</Key><UploadId>x&amp;1</UploadId></Upload>\
                      <Upload><UploadId>y</UploadId><Key>a/b&amp;c</Key></Upload><Upload><Key>a/b&amp;c.gz</Key><UploadId>z</UploadId></Upload>";
        assert_eq!(upload_ids(answer, "a/b&c"), ["x&1", "y"]);
        assert!(upload_ids("<ListMultipartUploadsResult/>", "a").is_empty());
    }
}

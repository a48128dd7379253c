//! Where etcd is.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

/// Members of an etcd cluster, and under which key state is.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdLocation {
    /// `http://host:port` of each member.
    pub endpoints: Vec<String>,
    /// What all keys begin with, without a `/` at its end.
    pub prefix: String,
    /// Name and password, where etcd asks for them.
    pub user: Option<(String, String)>,
}

/// What is not a location of etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it has to be etcd://HOST:PORT, with several members separated by commas, and /PREFIX where schedulers of other clusters use the same etcd"
)]
pub struct LocationError;

impl FromStr for EtcdLocation {
    type Err = LocationError;

    /// `etcd://[USER:PASSWORD@]HOST:PORT[,HOST:PORT..][/PREFIX]`; the prefix is `volley` if none is given. As in every URL, `%2F` is a slash
    /// in a name or password.
    fn from_str(text: &str) -> Result<Self, LocationError> {
        let rest = text.strip_prefix("etcd://").ok_or(LocationError)?;
        let (members, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, members) = match members.rsplit_once('@') {
            Some((user, members)) => (Some(user.split_once(':').ok_or(LocationError)?), members),
            None => (None, members),
        };
        let endpoints = members.split(',').map(endpoint).collect::<Option<Vec<_>>>().ok_or(LocationError)?;
        let prefix = match prefix.trim_matches('/') {
            "" => "volley",
            prefix => prefix,
        };
        let decoded = |text| percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| LocationError);
        let user = user.map(|(name, password)| Ok((decoded(name)?, decoded(password)?))).transpose()?;
        Ok(Self { endpoints, prefix: prefix.to_owned(), user })
    }
}

fn endpoint(member: &str) -> Option<String> {
    let (host, port) = member.rsplit_once(':')?;
    (!host.is_empty() && port.parse::<u16>().is_ok()).then(|| format!("http://{member}"))
}

impl fmt::Display for EtcdLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<_> = self.endpoints.iter().map(|endpoint| endpoint.trim_start_matches("http://")).collect();
        write!(f, "etcd://{}/{}", members.join(","), self.prefix)
    }
}

impl fmt::Debug for EtcdLocation {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_prefix_are_read() {
        let location: EtcdLocation = "etcd://a:2379,b:2380/prod/east/".parse().unwrap();
        assert_eq!(location.endpoints, ["http://a:2379", "http://b:2380"]);
        assert_eq!((location.prefix.as_str(), location.user), ("prod/east", None));
        assert_eq!("etcd://a:1".parse::<EtcdLocation>().unwrap().prefix, "volley");
    }

    #[test]
    fn a_password_is_never_shown() {
        let location: EtcdLocation = "etcd://ada:se:cr@t@[::1]:2379".parse().unwrap();
        assert_eq!(location.user, Some(("ada".into(), "se:cr@t".into())));
        assert_eq!(format!("{location} {location:?}"), "etcd://[::1]:2379/volley etcd://[::1]:2379/volley");
        let encoded: EtcdLocation = "etcd://ada:a%2Fb%40c%25@a:1/p".parse().unwrap();
        assert_eq!((encoded.user, encoded.prefix.as_str()), (Some(("ada".into(), "a/b@c%".into())), "p"));
    }

    #[test]
    fn what_names_no_member_is_refused() {
        for wrong in [
            "etcd://",
            "etcd:///p",
            "etcd://host",
            "etcd://host:port",
            "http://host:1",
            "etcd://a:1,",
            "etcd://ada@a:1",
            "etcd://ada:%ff@a:1",
        ] {
            assert_eq!(wrong.parse::<EtcdLocation>(), Err(LocationError), "{wrong}");
        }
    }
}

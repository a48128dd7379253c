//! Engines by their names.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::BenchError;

/// An engine by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineChoice {
    /// `datafusion`: plain DataFusion.
    DataFusion,
    /// `volley`: the embedded cluster as it starts by default, with as many slots as threads are asked for.
    Volley,
    /// `volley-2x1`: an embedded cluster of two executors of one slot, with `volley.fit = 'never'`.
    Cluster(Shape),
    /// `processes-2x1`: the same as processes, of the `volley` that lies beside this program.
    Processes(Shape),
    /// `peer=PROGRAM`: a program that speaks the protocol of peers, as `volley-bench peer` does.
    Peer(PathBuf),
}

/// The size of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Executors.
    pub executors: NonZeroUsize,
    /// Slots of each.
    pub slots: NonZeroUsize,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.executors, self.slots)
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataFusion => f.write_str("datafusion"),
            Self::Volley => f.write_str("volley"),
            Self::Cluster(shape) => write!(f, "volley-{shape}"),
            Self::Processes(shape) => write!(f, "processes-{shape}"),
            Self::Peer(program) => write!(f, "peer={}", program.display()),
        }
    }
}

impl FromStr for Shape {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (executors, slots) = text.split_once('x').ok_or(())?;
        Ok(Self { executors: executors.parse().map_err(drop)?, slots: slots.parse().map_err(drop)? })
    }
}

impl FromStr for EngineChoice {
    type Err = BenchError;

    fn from_str(text: &str) -> Result<Self, BenchError> {
        let shape = |size: &str| {
            let wrong = || {
                format!(
                    "'{text}' is none of the engines datafusion, volley, volley-NxM and processes-NxM (such as volley-2x1), and peer=PROGRAM"
                )
            };
            size.parse().map_err(|()| BenchError::Usage(wrong()))
        };
        match text {
            "datafusion" => Ok(Self::DataFusion),
            "volley" => Ok(Self::Volley),
            _ => match (text.strip_prefix("peer="), text.strip_prefix("processes-")) {
                (Some(program), _) if !program.is_empty() => Ok(Self::Peer(program.into())),
                (_, Some(size)) => shape(size).map(Self::Processes),
                _ => shape(text.strip_prefix("volley-").unwrap_or_default()).map(Self::Cluster),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_named() {
        for name in ["datafusion", "volley", "volley-2x1", "processes-2x1", "peer=bin/duckdb"] {
            assert_eq!(name.parse::<EngineChoice>().unwrap().to_string(), name);
        }
        for name in ["spark", "volley-", "volley-0x1", "volley-2", "processes-1", "peer="] {
            assert!(name.parse::<EngineChoice>().is_err(), "{name}");
        }
    }
}

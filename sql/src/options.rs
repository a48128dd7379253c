//! Session options: `SET volley.*`, and which of the engine's own options a session may change.
//!
//! Every option is a plain value with its unit in the name and a default; components never live here. All settings, from
//! SQL, from flags or from a scheduler's task, go through [`set_option`], so that a wrong name or value is refused with the right
//! ones named wherever it comes from.

use std::fmt;
use std::num::{IntErrorKind, ParseIntError};
use std::str::FromStr;

use datafusion::common::config::{ConfigExtension, ConfigField, ConfigOptions, Visit};
use datafusion::common::extensions_options;
use datafusion::error::{DataFusionError, Result};

use crate::diagnostics::nearest;
use crate::parse_bytes;

/// An option of a few named values, as an enum that `SET` can parse.
macro_rules! named_values {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl $name {
            /// The values as `SET` takes them.
            pub const VALUES: &'static [&'static str] = &[$($text),+];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text),+ })
            }
        }

        impl FromStr for $name {
            type Err = DataFusionError;

            fn from_str(text: &str) -> Result<Self> {
                match text.to_ascii_lowercase().as_str() {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(DataFusionError::Configuration(format!("'{text}' is none of {}", quoted(Self::VALUES)))),
                }
            }
        }

        impl ConfigField for $name {
            fn visit<V: Visit>(&self, v: &mut V, key: &str, description: &'static str) {
                v.some(key, self, description)
            }

            fn set(&mut self, _: &str, value: &str) -> Result<()> {
                *self = value.parse()?;
                Ok(())
            }

            fn reset(&mut self, _: &str) -> Result<()> {
                *self = Self::default();
                Ok(())
            }
        }
    };
}

named_values!(
/// Whether a plan may be left whole, as one task on one executor.
Fit {
    /// When one executor has all the slots or the work is tiny, and the plan's state fits in its memory.
    #[default]
    Auto = "auto",
    /// Always cut: what tests of the exchanges want.
    Never = "never",
    /// Never cut.
    Always = "always",
});

named_values!(
/// When the rows of a result are shown.
Results {
    /// Task by task as attempts are sealed: no failure can take back a row that was shown.
    #[default]
    Sealed = "sealed",
    /// While they are produced: sooner, but a loss after the first row ends the job with an error.
    Eager = "eager",
});

named_values!(
/// Where clients fetch the rows of a result.
ResultEndpoints {
    /// From the scheduler, as one stream: right wherever a client is.
    #[default]
    Scheduler = "scheduler",
    /// From the executors that hold them, a stream for each task, or from the scheduler: clients have to reach executors by their addresses.
    Executors = "executors",
});

named_values!(
/// Which functions a session has, where several sets give one name different meanings.
Functions {
    /// DataFusion's own.
    #[default]
    Datafusion = "datafusion",
    /// Spark's, and DataFusion's of which Spark has none.
    Spark = "spark",
});

extensions_options! {
    /// Volley's own session options, as `SET volley.<name> = '<value>'`.
    pub struct VolleyOptions {
        /// whether a plan may be left whole on one executor: 'auto', 'never' or 'always'
        pub fit: Fit, default = Fit::Auto
        /// estimated bytes of scans up to which a plan counts as tiny for 'fit', in bytes
        pub fit_bytes: u64, default = 16 << 20
        /// least bytes that a partition of a scan or an exchange is made for; 1 makes as many partitions as allowed, in bytes
        pub min_bytes_per_partition: u64, default = 32 << 20
        /// most partitions of a stage; 0 leaves it to the planner
        pub max_partitions: usize, default = 0
        /// tasks that a large scan is cut into for each slot of the cluster; one where each of them joins with all of a build side
        pub tasks_per_slot: usize, default = 2
        /// size up to which a join's build side is sent whole to all executors, in bytes
        pub broadcast_bytes: u64, default = 64 << 20
        /// estimated size from which a sort, or a window over all rows, is one of ranges in many tasks and not in one, in bytes
        pub range_sort_bytes: u64, default = 128 << 20
        /// whether a large window over all rows of a join may be one of ranges, for which the join runs twice, and not in one task
        pub repeat_joins: bool, default = false
        /// whether inner joins may run in another order than they are written, where that makes much less of them
        pub reorder_joins: bool, default = true
        /// whether rows that a join further up has no use for are dropped where they are read, for as long as that pays
        pub runtime_filters: bool, default = true
        /// whether scans wait for the keys of a join's build side in another stage, where that costs little beside them, and leave out what has no match
        pub build_keys: bool, default = true
        /// whether stages run in another way than planned once the sizes of what they read are known: partitions are read together, in parts or in waves, joins change sides or are not made
        pub adapt: bool, default = false
        /// when rows of a result are shown: 'sealed' (never taken back) or 'eager' (while produced)
        pub results: Results, default = Results::Sealed
        /// where clients fetch rows: 'scheduler', or 'executors', which they have to reach; the tickets are given when the result is complete
        pub result_endpoints: ResultEndpoints, default = ResultEndpoints::Scheduler
        /// whether a second attempt of a task may run beside one that is slow for its stage; the first to end counts
        pub speculation: bool, default = true
        /// which functions are meant where names are shared: 'datafusion' or 'spark'
        pub functions: Functions, default = Functions::Datafusion
        /// whether results keep string and binary views; off, because some clients can't read them
        pub result_views: bool, default = false
        /// milliseconds after which a statement is stopped; 0 for no limit
        pub statement_timeout_ms: u64, default = 0
        /// milliseconds after which planning of a statement is given up
        pub planning_timeout_ms: u64, default = 60_000
        /// share of the slots that the session's jobs get against other jobs: 2 gets twice as many as 1
        pub weight: u32, default = 1
        /// queue that the session's jobs wait in
        pub queue: String, default = "default".to_string()
        /// memory that a job of the session may use on one executor, in bytes; 0 for no limit of its own
        pub memory_bytes: u64, default = 0
    }
}

impl ConfigExtension for VolleyOptions {
    const PREFIX: &'static str = "volley";
}

impl VolleyOptions {
    /// The options in a session's config; defaults where the config was not made by [`crate::session::SessionBuilder`].
    pub fn of(config: &ConfigOptions) -> Self {
        config.extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// `statement_timeout_ms`, `None` for no limit.
    pub fn statement_timeout(&self) -> Option<u64> {
        (self.statement_timeout_ms > 0).then_some(self.statement_timeout_ms)
    }

    /// What no single value can tell: limits between and of options.
    fn check(&self) -> Result<()> {
        let wrong = |name: &str, why: &str| Err(DataFusionError::Configuration(format!("'volley.{name}' {why}")));
        if self.min_bytes_per_partition == 0 {
            return wrong("min_bytes_per_partition", "must be at least 1 byte");
        }
        if self.tasks_per_slot == 0 {
            return wrong("tasks_per_slot", "must be at least 1");
        }
        if self.weight == 0 {
            return wrong("weight", "must be at least 1");
        }
        if self.planning_timeout_ms == 0 {
            return wrong("planning_timeout_ms", "must be at least 1 millisecond");
        }
        if self.queue.is_empty() {
            return wrong("queue", "must not be empty");
        }
        Ok(())
    }
}

/// Engine options that a session must not change, each with the reason that the user is told.
const FIXED: &[(&str, &str)] = &[
    ("datafusion.runtime.", "memory and caches belong to the executor and scheduler processes: use their flags"),
    ("datafusion.catalog.create_default_catalog_and_schema", "the default catalog is 'volley'"),
    ("datafusion.catalog.location", "use CREATE EXTERNAL TABLE"),
    ("datafusion.catalog.format", "use CREATE EXTERNAL TABLE"),
    ("datafusion.catalog.information_schema", "it is always on"),
    ("datafusion.optimizer.enable_physical_uncorrelated_scalar_subquery", "a distributed plan can't share its result between processes"),
    ("datafusion.optimizer.preserve_file_partitions", "it would switch join filters off"),
    ("datafusion.optimizer.enable_piecewise_merge_join", "the join that it plans can't be sent to executors"),
    ("datafusion.optimizer.enable_window_topn", "the operator that it plans can't be sent to executors"),
    ("datafusion.sql_parser.recursion_limit", "the parser's limit protects the scheduler"),
];

/// Sets one option of a session: `volley.*`, or an option of the engine that is safe to change.
pub fn set_option(config: &mut ConfigOptions, key: &str, value: &str) -> Result<()> {
    let key = key.to_ascii_lowercase();
    if let Some((_, why)) = FIXED.iter().find(|(fixed, _)| key.starts_with(fixed)) {
        return Err(DataFusionError::Configuration(format!("'{key}' can't be changed in a session: {why}")));
    }
    require_known(config, &key)?;
    if key == "datafusion.execution.target_partitions" && value.trim() == "0" {
        return Err(DataFusionError::Configuration("'datafusion.execution.target_partitions' must be at least 1".into()));
    }
    apply(config, &key, value)
}

/// As [`set_option`], for settings that a scheduler already checked: also those that a session must not change.
pub(crate) fn apply(config: &mut ConfigOptions, key: &str, value: &str) -> Result<()> {
    let previous = config.extensions.get::<VolleyOptions>().cloned();
    let bytes = match is_size(key) {
        true => Some(parse_bytes(value).map_err(|error| wrong(key, value, &error))?.to_string()),
        false => None,
    };
    config.set(key, bytes.as_deref().unwrap_or(value)).map_err(|error| wrong_value(key, value, &error))?;
    let checked = config.extensions.get::<VolleyOptions>().map_or(Ok(()), VolleyOptions::check);
    if checked.is_err()
        && let Some(previous) = previous
    {
        config.extensions.insert(previous);
    }
    checked
}

/// Sets one option back to what a new session has.
pub fn reset_option(config: &mut ConfigOptions, defaults: &ConfigOptions, key: &str) -> Result<()> {
    let key = key.to_ascii_lowercase();
    require_known(config, &key)?;
    match entries(defaults).into_iter().find(|(name, _)| *name == key) {
        Some((_, Some(value))) => set_option(config, &key, &value),
        _ => config.reset(&key),
    }
}

/// One option of a session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting {
    /// `datafusion.*` or `volley.*`.
    pub name: String,
    /// Its value; `None` where it has none.
    pub value: Option<String>,
    /// What it does, and its unit.
    pub description: &'static str,
}

/// Every option with its value and what it does, by name.
pub fn described(config: &ConfigOptions) -> Vec<Setting> {
    // `entries` lists the options of extensions too, but without their prefix.
    let own = config.entries().into_iter().filter(|entry| entry.key.starts_with("datafusion."));
    let own = own.map(|entry| Setting { name: entry.key, value: entry.value, description: entry.description });
    let extensions = config.extensions.iter().flat_map(|(prefix, options)| {
        options.entries().into_iter().map(move |entry| Setting {
            name: format!("{prefix}.{}", entry.key),
            value: entry.value,
            description: entry.description,
        })
    });
    let mut all: Vec<_> = own.chain(extensions).collect();
    all.sort();
    all
}

/// Every option with its value, by name.
pub fn entries(config: &ConfigOptions) -> Vec<(String, Option<String>)> {
    described(config).into_iter().map(|setting| (setting.name, setting.value)).collect()
}

fn require_known(config: &ConfigOptions, key: &str) -> Result<()> {
    let names: Vec<String> = entries(config).into_iter().map(|(name, _)| name).collect();
    if names.iter().any(|name| name == key) || key == "datafusion.optimizer.enable_dynamic_filter_pushdown" {
        return Ok(());
    }
    let hint = if let Some(near) = nearest(key, names.iter().map(String::as_str)) {
        format!("; did you mean '{near}'?")
    } else if key.starts_with("volley.") {
        format!("; the settings are {}", names.iter().filter(|name| name.starts_with("volley.")).cloned().collect::<Vec<_>>().join(", "))
    } else {
        "; SHOW ALL lists the settings".to_string()
    };
    Err(DataFusionError::Configuration(format!("unknown setting '{key}'{hint}")))
}

fn wrong_value(key: &str, value: &str, error: &DataFusionError) -> DataFusionError {
    match error.find_root() {
        DataFusionError::Configuration(message) => wrong(key, value, message),
        DataFusionError::External(error) => match error.downcast_ref::<ParseIntError>().map(ParseIntError::kind) {
            Some(IntErrorKind::PosOverflow) => wrong(key, value, &"too large"),
            Some(_) => wrong(key, value, &"expected a whole number, not negative"),
            None => wrong(key, value, error),
        },
        root => wrong(key, value, root),
    }
}

fn wrong(key: &str, value: &str, expected: &impl fmt::Display) -> DataFusionError {
    DataFusionError::Configuration(format!("'{key}' can't be '{value}': {expected}"))
}

/// Whether an option is a size, which may be given with a unit.
fn is_size(key: &str) -> bool {
    key.starts_with("volley.") && (key.ends_with("_bytes") || key == "volley.min_bytes_per_partition")
}

fn quoted(values: &[&str]) -> String {
    values.iter().map(|value| format!("'{value}'")).collect::<Vec<_>>().join(", ")
}

//! Session options: what can be set, what is refused and with which words.

use datafusion::config::ConfigOptions;
use volley_sql::options::{Fit, Results, VolleyOptions, entries, set_option};
use volley_sql::session::{SessionBuilder, SettingsCache, default_options, settings_diff};

use crate::support::{error, immediate, rows, session, settings};

fn set(config: &mut ConfigOptions, key: &str, value: &str) -> Result<(), String> {
    set_option(config, key, value).map_err(|error| error.strip_backtrace())
}

#[test]
fn options_are_set_by_name_and_refused_with_the_right_ones_named() {
    let mut config = default_options();
    set(&mut config, "volley.fit", "never").unwrap();
    set(&mut config, "VOLLEY.Results", "EAGER").unwrap();
    set(&mut config, "volley.min_bytes_per_partition", "1").unwrap();
    set(&mut config, "datafusion.execution.batch_size", "100").unwrap();
    let options = VolleyOptions::of(&config);
    assert_eq!((options.fit, options.results, options.min_bytes_per_partition), (Fit::Never, Results::Eager, 1));
    set(&mut config, "volley.broadcast_bytes", "16MiB").unwrap();
    assert_eq!(VolleyOptions::of(&config).broadcast_bytes, 16 << 20);

    let mut refused = |key: &str, value: &str| set(&mut config, key, value).unwrap_err();
    let shown = refused("volley.fit", "sometimes");
    assert!(shown.contains("'sometimes' is none of 'auto', 'never', 'always'"), "{shown}");
    let shown = refused("volley.fitt", "never");
    assert!(shown.contains("unknown setting 'volley.fitt'; did you mean 'volley.fit'?"), "{shown}");
    let shown = refused("volley.something", "never");
    assert!(shown.contains("unknown setting 'volley.something'; the settings are volley."), "{shown}");
    let shown = refused("volley.weight", "0");
    assert!(shown.contains("'volley.weight' must be at least 1"), "{shown}");
    let shown = refused("volley.weight", "much");
    assert!(shown.contains("'volley.weight' can't be 'much': expected a whole number, not negative"), "{shown}");
    let shown = refused("volley.weight", "99999999999");
    assert!(shown.contains("'volley.weight' can't be '99999999999': too large"), "{shown}");
    let shown = refused("volley.fit_bytes", "16 lots");
    assert!(shown.contains("'volley.fit_bytes' can't be '16 lots': expected a size such as 4GiB, 512MB or 1073741824"), "{shown}");
    let shown = refused("datafusion.execution.batchsize", "1");
    assert!(shown.contains("did you mean 'datafusion.execution.batch_size'?"), "{shown}");
    let shown = refused("datafusion.runtime.memory_limit", "1G");
    assert!(shown.contains("can't be changed in a session"), "{shown}");
    for (option, value, why) in [
        ("enable_physical_uncorrelated_scalar_subquery", "true", "can't share its result between processes"),
        ("preserve_file_partitions", "1", "it would switch join filters off"),
        ("enable_piecewise_merge_join", "true", "can't be sent to executors"),
        ("enable_window_topn", "true", "can't be sent to executors"),
    ] {
        let shown = refused(&format!("datafusion.optimizer.{option}"), value);
        assert!(shown.contains("can't be changed in a session") && shown.contains(why), "{shown}");
    }
    let shown = refused("nonsense", "1");
    assert!(shown.contains("unknown setting 'nonsense'"), "{shown}");
    assert_eq!(VolleyOptions::of(&config).weight, 1, "a refused value leaves the option as it was");
}

#[test]
fn a_session_is_rebuilt_from_its_settings() {
    let changed = settings(&[
        ("volley.fit", "never"),
        ("volley.broadcast_bytes", "7"),
        ("datafusion.execution.target_partitions", "3"),
        ("datafusion.execution.parquet.pushdown_filters", "true"),
        ("datafusion.catalog.default_schema", "other"),
    ]);
    let first = SessionBuilder::new().settings(&changed).build_state().unwrap();
    let sent = settings_diff(&first);
    let second = SessionBuilder::new().settings(&sent).build_state().unwrap();
    assert_eq!(entries(first.config_options()), entries(second.config_options()));
    for setting in &changed {
        assert!(sent.contains(setting), "{setting:?} is not sent: {sent:?}");
    }
    assert!(sent.len() <= changed.len() + 2, "more is sent than was changed: {sent:?}");
}

#[test]
fn remembered_settings_are_those_of_the_state_that_is_asked_of() {
    let cache = SettingsCache::default();
    let mut state = SessionBuilder::new().settings(&settings(&[("volley.fit", "never")])).build_state().unwrap();
    let other = SessionBuilder::new().build_state().unwrap();
    for _ in 0..2 {
        assert_eq!(cache.of(&state), settings_diff(&state));
        assert_eq!(cache.of(&other), settings_diff(&other));
        assert_ne!(cache.of(&state), cache.of(&other));
    }
    set_option(state.config_mut().options_mut(), "volley.weight", "3").unwrap();
    assert!(cache.of(&state).contains(&("volley.weight".into(), "3".into())));
}

#[test]
fn a_wrong_setting_fails_the_session() {
    let error = SessionBuilder::new().settings(&settings(&[("volley.fit", "x")])).build_state().unwrap_err();
    assert!(error.to_string().contains("'auto', 'never', 'always'"), "{error}");
}

#[tokio::test]
async fn set_show_and_reset_work_as_statements() {
    let session = session();
    immediate(&session, "SET volley.fit = 'never'").await;
    immediate(&session, "SET volley.weight TO 3").await;
    let shown = rows(&session, "SHOW volley.fit").await;
    assert!(shown.contains("never"), "{shown}");
    let shown = rows(&session, "SHOW volley").await;
    assert!(shown.contains("volley.weight") && shown.contains("volley.queue"), "{shown}");
    immediate(&session, "RESET volley.fit").await;
    immediate(&session, "SET datafusion.execution.batch_size = 17").await;
    immediate(&session, "RESET datafusion.execution.batch_size").await;
    assert_eq!(entries(session.state().config_options()).iter().find(|(name, _)| name == "volley.fit").unwrap().1.as_deref(), Some("auto"));
    assert_eq!(session.state().config().batch_size(), 8192);
    let shown = rows(&session, "SHOW VERBOSE volley.weight").await;
    assert_eq!(shown, rows(&session, "SHOW volley.weight VERBOSE").await);
    assert!(shown.contains("share of the slots"), "{shown}");
    let shown = error(&session, "SHOW volley.fits").await;
    assert!(shown.contains("there is no setting 'volley.fits'; did you mean 'volley.fit'?"), "{shown}");
    let shown = error(&session, "SET volley.results = 'now'").await;
    assert!(shown.contains("'now' is none of 'sealed', 'eager'"), "{shown}");
}

#[tokio::test]
async fn use_changes_what_names_mean() {
    let session = session();
    immediate(&session, "USE tpch.sf0_01").await;
    assert_eq!(crate::support::count(&session, "SELECT count(*) FROM region").await, 5);
    immediate(&session, "USE volley.public").await;
    let shown = error(&session, "USE tpch.sfx").await;
    assert!(shown.contains("there is no schema 'tpch.sfx'"), "{shown}");
    let shown = error(&session, "USE tpc.sf1").await;
    assert!(shown.contains("there is no catalog 'tpc'"), "{shown}");
}

//! `CREATE EXTERNAL TABLE` as text that means the same in another process.

use datafusion::sql::parser::CreateExternalTable;
use datafusion::sql::sqlparser::ast::Value;
use itertools::Itertools;
use url::Url;

/// Makes relative paths of the file system absolute, keeping patterns; a path to a directory, or to nothing yet and without an
/// extension, gets its trailing slash. URLs stay as they are.
pub(crate) fn absolute_locations(create: &mut CreateExternalTable) {
    for location in &mut create.locations {
        if Url::parse(location).is_ok() {
            continue;
        }
        // Fails only for an empty path or an unreadable working directory; then the location is refused as it stands.
        let Ok(path) = std::path::absolute(&*location) else { continue };
        let to_be_made = || !path.exists() && path.extension().is_none() && !location.contains(['*', '?', '[']);
        let directory = location.ends_with('/') || path.is_dir() || to_be_made();
        if let Some(text) = path.to_str() {
            *location = if directory && !text.ends_with('/') { format!("{text}/") } else { text.to_owned() };
        }
    }
}

const BEGINNING: &str = "CREATE EXTERNAL TABLE ";

/// Whether a text is what [`external_table_text`] makes.
pub(super) fn is_external_table_text(text: &str) -> bool {
    text.starts_with(BEGINNING)
}

/// The whole statement as text: what the parser's own `Display` leaves out is needed to make the table again.
pub(crate) fn external_table_text(create: &CreateExternalTable) -> String {
    let mut text = format!("{BEGINNING}{}", create.name);
    let columns = create.columns.iter().map(ToString::to_string).chain(create.constraints.iter().map(ToString::to_string)).join(", ");
    if !columns.is_empty() {
        text.push_str(&format!(" ({columns})"));
    }
    text.push_str(&format!(" STORED AS {}", create.file_type));
    if !create.table_partition_cols.is_empty() {
        text.push_str(&format!(" PARTITIONED BY ({})", create.table_partition_cols.join(", ")));
    }
    for order in &create.order_exprs {
        text.push_str(&format!(" WITH ORDER ({})", order.iter().join(", ")));
    }
    if !create.options.is_empty() {
        let options = create.options.iter().map(|(key, value)| format!("{} {value}", quoted(key))).join(", ");
        text.push_str(&format!(" OPTIONS ({options})"));
    }
    match create.locations.as_slice() {
        [location] => text.push_str(&format!(" LOCATION {}", quoted(location))),
        locations => text.push_str(&format!(" LOCATION ({})", locations.iter().map(|location| quoted(location)).join(", "))),
    }
    text
}

/// A string literal.
fn quoted(text: &str) -> String {
    Value::SingleQuotedString(text.to_owned()).to_string()
}

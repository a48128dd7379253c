//! The table of the suite `wide`: visits of web sites, made by a query.
//!
//! Most columns are drawn from a number that mixes the row's: some evenly, some so that few values have most rows, as sites, users and phrases
//! do. No row depends on another, so files can be made in any order.

use std::fmt::Write;

/// Rows at scale 1.
pub(crate) const ROWS_AT_SCALE_1: f64 = 1e6;

/// Bytes of a row, about.
pub(crate) const ROW_BYTES: usize = 700;

/// Columns with a meaning: their name, and their value of `m`, which mixes the row's number, and `u`, in [0, 1).
const COLUMNS: &[(&str, &str)] = &[
    ("visit_id", "m * 1048573 + value % 1048573"),
    ("at", "to_timestamp_seconds(1719792000 + m % 2678400)"),
    ("day", "CAST(to_timestamp_seconds(1719792000 + m % 2678400) AS DATE)"),
    ("site_id", "CAST(pow(u, 12) * 5000 AS INT)"),
    ("user_id", "CAST(pow((m / 7 % 1000003) / 1000003.0, 3) * 200000 AS BIGINT)"),
    ("region", "CAST(pow((m / 11 % 10007) / 10007.0, 5) * 2000 AS INT)"),
    ("address", "CAST(m / 3 % 900001 * 2011 AS INT)"),
    (
        "url",
        "concat('https://', CASE CAST(m / 13 % 5 AS INT) WHEN 0 THEN 'www.shop.' WHEN 1 THEN 'www.news.' WHEN 2 THEN 'maps.' ELSE 'www.' END, \
         'site', CAST(pow(u, 12) * 5000 AS INT), '.example/', CASE WHEN m % 3 = 0 THEN 'search?q=' ELSE 'page/' END, \
         CAST(pow((m / 17 % 100003) / 100003.0, 4) * 50000 AS INT))",
    ),
    (
        "referer",
        "CASE WHEN m / 19 % 5 < 2 THEN '' ELSE concat('http://www.host', CAST(pow((m / 23 % 10007) / 10007.0, 6) * 3000 AS INT), \
         '.example/from/', m / 29 % 500) END",
    ),
    ("title", "concat('Page ', CAST(pow((m / 17 % 100003) / 100003.0, 4) * 50000 AS INT), ' of site ', CAST(pow(u, 12) * 5000 AS INT))"),
    ("phrase", "CASE WHEN m / 31 % 8 <> 0 THEN '' ELSE concat('what is ', CAST(pow((m / 37 % 100003) / 100003.0, 5) * 90000 AS INT)) END"),
    ("engine", "CAST(CASE WHEN m / 31 % 8 <> 0 THEN 0 ELSE m / 41 % 30 END AS SMALLINT)"),
    ("campaign", "CAST(CASE WHEN m / 43 % 40 <> 0 THEN 0 ELSE m / 47 % 60 END AS SMALLINT)"),
    ("model", "CASE WHEN m / 53 % 6 <> 0 THEN '' ELSE concat('model ', CAST(pow((m / 59 % 1009) / 1009.0, 3) * 150 AS INT)) END"),
    ("device", "CAST(m / 61 % 90 AS SMALLINT)"),
    ("width", "CAST(320 + m / 67 % 25 * 80 AS SMALLINT)"),
    ("height", "CAST(240 + m / 71 % 30 * 60 AS SMALLINT)"),
    ("refreshed", "CAST(CASE WHEN m / 73 % 9 = 0 THEN 1 ELSE 0 END AS SMALLINT)"),
    ("link", "CAST(CASE WHEN m / 79 % 4 = 0 THEN 1 ELSE 0 END AS SMALLINT)"),
    ("download", "CAST(CASE WHEN m / 83 % 200 = 0 THEN 1 ELSE 0 END AS SMALLINT)"),
    ("source", "CAST(m / 89 % 10 - 1 AS SMALLINT)"),
    ("url_hash", "CAST(pow((m / 17 % 100003) / 100003.0, 4) * 50000 AS BIGINT) * 2305843009213"),
    ("referer_hash", "CASE WHEN m / 19 % 5 < 2 THEN 0 ELSE m / 23 % 10007 * 1152921504606 END"),
    ("seconds", "CAST(m / 97 % 1800 AS INT)"),
];

/// Columns that few queries read: their number, name and value, in which `{n}` is the column's number.
const MORE: &[(usize, &str, &str)] = &[
    (30, "measure", "CAST(m / {n} % (100 * {n}) AS INT)"),
    (20, "kind", "CAST(m / {n} % {n} AS SMALLINT)"),
    (15, "stamp", "m * {n} % 4000000007"),
    (16, "label", "concat('label ', m / {n} % (3 * {n}))"),
];

/// The query that makes rows `first` to `last`, which are counted from 0.
pub(crate) fn rows(first: u64, last: u64) -> String {
    let mut columns: Vec<String> = COLUMNS.iter().map(|(name, value)| format!("{value} AS {name}")).collect();
    for (count, name, value) in MORE {
        columns.extend((1..=*count).map(|number| {
            let value = value.replace("{n}", &(number + 1).to_string());
            format!("{value} AS {name}_{number:02}")
        }));
    }
    let mut query = String::from("SELECT ");
    // Writing to a string does not fail.
    let _ = write!(
        query,
        "{} FROM (SELECT value, m, (m / 5 % 1000003) / 1000003.0 AS u FROM \
         (SELECT value, (value + 1) * 2654435761 % 4294967291 AS m FROM generate_series({first}, {last})) AS mixed) AS drawn",
        columns.join(", ")
    );
    query
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn rows_are_wide_and_the_same_in_any_part() {
        let session = SessionContext::new();
        let of = async |first, last| session.sql(&rows(first, last)).await.unwrap().collect().await.unwrap();
        let (all, end) = (of(0, 99).await, of(90, 99).await);
        assert_eq!(all[0].num_columns(), 105);
        assert_eq!(all[0].slice(90, 10), end[0]);
    }
}

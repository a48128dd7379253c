//! The suites: their tables and query texts.

use std::fmt;
use std::str::FromStr;

/// A benchmark suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Suite {
    /// TPC-H: 8 tables, 22 queries.
    Tpch,
    /// TPC-DS: 24 tables, 99 queries.
    Tpcds,
    /// Visits of web sites: one table of 105 columns and a million rows at scale 1, 43 queries.
    Wide,
}

/// A query of a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// The suite.
    pub suite: Suite,
    /// Its number there, from 1.
    pub number: usize,
    text: &'static str,
}

const TPCH_TABLES: [&str; 8] = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];

const TPCDS_TABLES: [&str; 24] = [
    "call_center",
    "catalog_page",
    "catalog_returns",
    "catalog_sales",
    "customer",
    "customer_address",
    "customer_demographics",
    "date_dim",
    "household_demographics",
    "income_band",
    "inventory",
    "item",
    "promotion",
    "reason",
    "ship_mode",
    "store",
    "store_returns",
    "store_sales",
    "time_dim",
    "warehouse",
    "web_page",
    "web_returns",
    "web_sales",
    "web_site",
];

const WIDE_TABLES: [&str; 1] = ["visits"];

/// The texts of a suite's queries, in the order of their numbers.
macro_rules! texts {
    ($suite:literal: $($number:literal)*) => {
        &[$(include_str!(concat!("../queries/", $suite, "/q", $number, ".sql"))),*]
    };
}

const TPCH: &[&str] = texts!("tpch":
    "01" "02" "03" "04" "05" "06" "07" "08" "09" "10" "11" "12" "13" "14" "15" "16" "17" "18" "19" "20" "21" "22");

const TPCDS: &[&str] = texts!("tpcds":
    "01" "02" "03" "04" "05" "06" "07" "08" "09" "10" "11" "12" "13" "14" "15" "16" "17" "18" "19" "20"
    "21" "22" "23" "24" "25" "26" "27" "28" "29" "30" "31" "32" "33" "34" "35" "36" "37" "38" "39" "40"
    "41" "42" "43" "44" "45" "46" "47" "48" "49" "50" "51" "52" "53" "54" "55" "56" "57" "58" "59" "60"
    "61" "62" "63" "64" "65" "66" "67" "68" "69" "70" "71" "72" "73" "74" "75" "76" "77" "78" "79" "80"
    "81" "82" "83" "84" "85" "86" "87" "88" "89" "90" "91" "92" "93" "94" "95" "96" "97" "98" "99");

const WIDE: &[&str] = texts!("wide":
    "01" "02" "03" "04" "05" "06" "07" "08" "09" "10" "11" "12" "13" "14" "15" "16" "17" "18" "19" "20" "21" "22"
    "23" "24" "25" "26" "27" "28" "29" "30" "31" "32" "33" "34" "35" "36" "37" "38" "39" "40" "41" "42" "43");

impl Suite {
    /// Names of the tables, sorted.
    pub fn tables(self) -> &'static [&'static str] {
        match self {
            Self::Tpch => &TPCH_TABLES,
            Self::Tpcds => &TPCDS_TABLES,
            Self::Wide => &WIDE_TABLES,
        }
    }

    /// All queries, by number.
    pub fn queries(self) -> impl ExactSizeIterator<Item = Query> {
        let texts = match self {
            Self::Tpch => TPCH,
            Self::Tpcds => TPCDS,
            Self::Wide => WIDE,
        };
        texts.iter().enumerate().map(move |(index, text)| Query { suite: self, number: index + 1, text })
    }

    /// Query `number`, from 1.
    pub fn query(self, number: usize) -> Option<Query> {
        self.queries().nth(number.checked_sub(1)?)
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tpch => "tpch",
            Self::Tpcds => "tpcds",
            Self::Wide => "wide",
        })
    }
}

impl Query {
    /// The text at a scale factor, without the closing semicolon.
    ///
    /// The one parameter of the suites that depends on the scale is the fraction of TPC-H query 11: 0.0001 / scale.
    pub fn sql(&self, scale: f64) -> String {
        let text = self.text.trim_end().trim_end_matches(';');
        if (self.suite, self.number) == (Suite::Tpch, 11) && scale > 0.0 {
            return text.replace("0.0001000000", &format!("{:.10}", 0.0001 / scale));
        }
        text.to_owned()
    }
}

impl fmt::Display for Query {
    /// `q7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "q{}", self.number)
    }
}

/// A choice of queries: `1,5-9`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection(Vec<(usize, usize)>);

impl Selection {
    /// The chosen queries of a suite, by number, or what is wrong with the choice.
    pub fn of(&self, suite: Suite) -> Result<Vec<Query>, String> {
        let count = suite.queries().len();
        match self.0.iter().find(|(_, last)| *last > count) {
            Some((_, last)) => Err(format!("{suite} has no query {last}: its queries are 1-{count}")),
            None => {
                Ok(suite.queries().filter(|query| self.0.iter().any(|(first, last)| (*first..=*last).contains(&query.number))).collect())
            }
        }
    }
}

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |part: &str| format!("'{part}' is not a choice of queries such as 1,5-9");
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().trim_start_matches('q').parse::<usize>().map_err(|_| wrong(part));
            let (first, last) = (number(first)?, number(last)?);
            if first == 0 || first > last { Err(wrong(part)) } else { Ok((first, last)) }
        };
        text.split(',').map(range).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_suites_are_whole() {
        assert_eq!(Suite::Tpch.queries().len(), 22);
        assert_eq!(Suite::Tpcds.queries().len(), 99);
        assert!(Suite::Tpch.query(0).is_none());
        assert!(Suite::Tpch.query(23).is_none());
        for query in Suite::Tpch.queries().chain(Suite::Tpcds.queries()) {
            let sql = query.sql(1.0);
            assert!(!sql.contains(';') && !sql.is_empty(), "{} {query}", query.suite);
        }
    }

    #[test]
    fn the_fraction_of_query_11_follows_the_scale() {
        let query = Suite::Tpch.query(11).unwrap();
        assert!(query.sql(1.0).contains("* 0.0001000000"));
        assert!(query.sql(10.0).contains("* 0.0000100000"));
        assert!(query.sql(0.1).contains("* 0.0010000000"));
    }

    #[test]
    fn queries_are_chosen_by_number_and_range() {
        let chosen = |text: &str| text.parse::<Selection>().and_then(|selection| selection.of(Suite::Tpch));
        let numbers: Vec<_> = chosen("1,5-7,q9").unwrap().iter().map(|query| query.number).collect();
        assert_eq!(numbers, [1, 5, 6, 7, 9]);
        assert_eq!(chosen("20-23").unwrap_err(), "tpch has no query 23: its queries are 1-22");
        assert_eq!(chosen("7-5").unwrap_err(), "'7-5' is not a choice of queries such as 1,5-9");
        assert_eq!(chosen("x").unwrap_err(), "'x' is not a choice of queries such as 1,5-9");
    }
}

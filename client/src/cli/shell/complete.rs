//! What the word at the cursor may become.

use std::collections::BTreeSet;

use super::keywords::KEYWORDS;
use super::names::{Known, Table};
use super::tokens::{Kind, Token, tokens};

/// What may stand at the cursor.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Completion {
    /// Where the word starts that is replaced.
    pub(super) start: usize,
    pub(super) words: Vec<String>,
    /// Whether it is a path, which others know how to complete.
    pub(super) is_path: bool,
}

/// Keywords after which a table is named.
const BEFORE_TABLE: [&str; 8] = ["FROM", "JOIN", "INTO", "TABLE", "UPDATE", "DESCRIBE", "USING", "VIEW"];
/// Keywords after which one of the session's options is named.
const BEFORE_SETTING: [&str; 3] = ["SET", "RESET", "SHOW"];

/// Completes SQL at the end of `before`; `after` is the rest of the text, which may name more tables.
pub(super) fn complete(before: &str, after: &str, known: &Known) -> Completion {
    let all = tokens(before);
    let (word, rest) = match all.last() {
        Some(last) if matches!(last.kind, Kind::Name | Kind::Keyword) => (last.text, &all[..all.len() - 1]),
        Some(last) if last.kind == Kind::Text && is_open(last.text) => {
            return Completion { start: before.len(), words: vec![], is_path: true };
        }
        Some(last) if last.kind == Kind::Comment && !last.text.ends_with('\n') => return Completion::default(),
        _ => ("", &all[..]),
    };
    // A statement before this one says nothing about it.
    let rest = rest.rsplit(|token| token.text == ";").next().unwrap_or_default();
    let (path, rest) = qualifiers(rest);
    let start = before.len() - word.len();
    let place = Place { word, path: &path, previous: rest.iter().rev().find(|token| token.kind != Kind::Blank), known };
    let statement: Vec<Token<'_>> = rest.to_vec();
    let after = tokens(after);
    let mentioned = mentioned(&[statement.as_slice(), after.as_slice()].concat(), known);
    let words = place.words(&mentioned);
    Completion { start, words: words.into_iter().collect(), is_path: false }
}

/// Whether a text in quotes lacks its end.
fn is_open(text: &str) -> bool {
    text.starts_with('\'') && (text.len() == 1 || !text.ends_with('\''))
}

/// The names before the word that it belongs to, as in `tpch.sf1.|`, and what lies before them.
fn qualifiers<'t, 'a>(mut rest: &'t [Token<'a>]) -> (Vec<String>, &'t [Token<'a>]) {
    let mut path = vec![];
    while let [before @ .., name, dot] = rest
        && dot.text == "."
        && matches!(name.kind, Kind::Name | Kind::Keyword)
    {
        path.insert(0, name.name());
        rest = before;
    }
    (path, rest)
}

/// A table of a statement, and what it is called there.
#[derive(Debug)]
struct Mentioned<'a> {
    alias: String,
    table: &'a Table,
}

/// The tables that a statement names after FROM, JOIN and the like.
fn mentioned<'a>(statement: &[Token<'_>], known: &'a Known) -> Vec<Mentioned<'a>> {
    let words: Vec<&Token<'_>> = statement.iter().filter(|token| !matches!(token.kind, Kind::Blank | Kind::Comment)).collect();
    let mut found = vec![];
    let mut at = 0;
    while at < words.len() {
        let follows = at > 0 && (BEFORE_TABLE.iter().any(|keyword| words[at - 1].is(keyword)) || words[at - 1].text == ",");
        if !follows || words[at].kind != Kind::Name {
            at += 1;
            continue;
        }
        let mut path = vec![words[at].name()];
        at += 1;
        while at + 1 < words.len() && words[at].text == "." && matches!(words[at + 1].kind, Kind::Name | Kind::Keyword) {
            path.push(words[at + 1].name());
            at += 2;
        }
        at += usize::from(words.get(at).is_some_and(|word| word.is("AS")));
        let alias = words.get(at).filter(|word| word.kind == Kind::Name).map(|word| word.name());
        if let Some(table) = known.find(&path) {
            found.push(Mentioned { alias: alias.unwrap_or_else(|| table.name.clone()), table });
        }
    }
    found
}

impl Known {
    /// The table of a name of one, two or three parts.
    fn find(&self, path: &[String]) -> Option<&Table> {
        let (catalog, schema, name) = match path {
            [name] => (&self.catalog, &self.schema, name),
            [schema, name] => (&self.catalog, schema, name),
            [catalog, schema, name] => (catalog, schema, name),
            _ => return None,
        };
        self.tables.iter().find(|table| (&table.catalog, &table.schema, &table.name) == (catalog, schema, name))
    }
}

/// Where in a statement the word stands.
struct Place<'a> {
    word: &'a str,
    path: &'a [String],
    previous: Option<&'a Token<'a>>,
    known: &'a Known,
}

impl Place<'_> {
    fn words(&self, mentioned: &[Mentioned<'_>]) -> BTreeSet<String> {
        let mut words = BTreeSet::new();
        let before = |keywords: &[&str]| self.previous.is_some_and(|previous| keywords.iter().any(|keyword| previous.is(keyword)));
        if before(&BEFORE_SETTING) {
            return self.settings();
        }
        if !self.path.is_empty() {
            self.add_columns(&mut words, mentioned);
            self.add_tables(&mut words);
            return words;
        }
        if before(&BEFORE_TABLE) {
            self.add_tables(&mut words);
            let readers = self.known.functions.iter().filter(|name| name.starts_with("read_") && !self.word.is_empty());
            words.extend(readers.map(|name| format!("{name}(")).filter(|name| self.fits(name)));
            if !words.is_empty() {
                return words;
            }
        }
        self.add_columns(&mut words, mentioned);
        mentioned.iter().for_each(|table| self.add(&mut words, &table.alias));
        // With nothing to go by, all functions and keywords would help nobody.
        if !self.word.is_empty() && !self.word.starts_with('"') {
            let functions = self.known.functions.iter().filter(|name| is_plain(name)).map(|name| format!("{name}("));
            words.extend(functions.filter(|name| self.fits(name)));
            self.add_keywords(&mut words);
        }
        words
    }

    fn fits(&self, name: &str) -> bool {
        let word = self.word.trim_start_matches('"');
        name.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
    }

    fn add(&self, words: &mut BTreeSet<String>, name: &str) {
        if self.fits(name) {
            words.insert(quoted(name));
        }
    }

    fn add_keywords(&self, words: &mut BTreeSet<String>) {
        // As the word was begun.
        let is_lower = self.word.chars().all(|c| !c.is_ascii_uppercase());
        let fitting = KEYWORDS.iter().filter(|keyword| self.fits(keyword));
        words.extend(fitting.map(|keyword| if is_lower { keyword.to_ascii_lowercase() } else { (*keyword).to_owned() }));
    }

    fn add_columns(&self, words: &mut BTreeSet<String>, mentioned: &[Mentioned<'_>]) {
        let is_meant = |table: &&Mentioned<'_>| match self.path {
            [] => true,
            [name] => *name == table.alias || *name == table.table.name,
            path => self.known.find(path).is_some_and(|found| found == table.table),
        };
        let columns = mentioned.iter().filter(is_meant).flat_map(|table| &table.table.columns);
        columns.for_each(|column| self.add(words, column));
    }

    /// Tables, and the schemas and catalogs that lead to them.
    fn add_tables(&self, words: &mut BTreeSet<String>) {
        let known = self.known;
        for table in &known.tables {
            match self.path {
                [] => {
                    if (&table.catalog, &table.schema) == (&known.catalog, &known.schema) {
                        self.add(words, &table.name);
                    }
                    if table.catalog == known.catalog {
                        self.add(words, &table.schema);
                    }
                    self.add(words, &table.catalog);
                }
                [one] => {
                    if *one == table.catalog {
                        self.add(words, &table.schema);
                    }
                    if (&table.catalog, &table.schema) == (&known.catalog, one) {
                        self.add(words, &table.name);
                    }
                }
                [catalog, schema] if (catalog, schema) == (&table.catalog, &table.schema) => self.add(words, &table.name),
                _ => {}
            }
        }
    }

    /// The next part of the settings that begin like this.
    fn settings(&self) -> BTreeSet<String> {
        let lead: String = self.path.iter().map(|part| format!("{part}.")).collect();
        let rests = self.known.settings.iter().filter_map(|name| name.strip_prefix(&lead)).filter(|rest| self.fits(rest));
        rests.map(str::to_owned).chain(self.words_of_statements()).collect()
    }

    /// What else follows on SHOW.
    fn words_of_statements(&self) -> Vec<String> {
        let is_show = self.path.is_empty() && self.previous.is_some_and(|previous| previous.is("SHOW"));
        let words = ["ALL", "COLUMNS", "CREATE", "FUNCTIONS", "TABLES"].into_iter().filter(|word| is_show && self.fits(word));
        let is_lower = self.word.chars().all(|c| !c.is_ascii_uppercase());
        words.map(|word| if is_lower { word.to_ascii_lowercase() } else { word.to_owned() }).collect()
    }
}

/// Whether a name needs no quotes.
fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// A name as it is written in a statement.
pub(super) fn quoted(name: &str) -> String {
    if is_plain(name) { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let table = |catalog: &str, schema: &str, name: &str, columns: &[&str]| Table {
            catalog: catalog.into(),
            schema: schema.into(),
            name: name.into(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        };
        Known {
            tables: vec![
                table("tpch", "sf1", "lineitem", &["l_orderkey", "l_quantity"]),
                table("tpch", "sf1", "orders", &["o_orderkey", "o_custkey"]),
                table("tpch", "sf10", "orders", &["o_orderkey"]),
                table("volley", "public", "trips", &["id", "Distance km", "driver"]),
                table("volley", "public", "tolls", &["id", "amount"]),
                table("volley", "staging", "raw", &["line"]),
            ],
            functions: ["sum", "substr", "current_date"].map(str::to_owned).into(),
            settings: ["datafusion.catalog.format", "volley.fit", "volley.fit_bytes", "volley.queue"].map(str::to_owned).into(),
            catalog: "volley".into(),
            schema: "public".into(),
        }
    }

    /// The words for the place that is marked.
    fn words(text: &str) -> Vec<String> {
        let (before, after) = text.split_once('|').unwrap();
        complete(before, after, &known()).words
    }

    #[test]
    fn tables_follow_on_from() {
        assert_eq!(words("SELECT * FROM t|"), ["tolls", "tpch", "trips"]);
        assert_eq!(words("SELECT * FROM |"), ["public", "staging", "tolls", "tpch", "trips", "volley"]);
        assert_eq!(words("select * from tpch.|"), ["sf1", "sf10"]);
        assert_eq!(words("SELECT * FROM tpch.sf1.|"), ["lineitem", "orders"]);
        assert_eq!(words("SELECT * FROM tpch.sf1.l|"), ["lineitem"]);
        assert_eq!(words("SELECT * FROM staging.|"), ["raw"]);
        assert_eq!(words("INSERT INTO tr|"), ["trips"]);
    }

    #[test]
    fn columns_are_those_of_the_tables_that_are_named() {
        assert_eq!(words("SELECT l_| FROM tpch.sf1.lineitem"), ["l_orderkey", "l_quantity"]);
        assert_eq!(words("SELECT | FROM trips"), ["\"Distance km\"", "driver", "id", "trips"]);
        assert_eq!(words("SELECT dis| FROM trips"), ["\"Distance km\"", "distinct"]);
        assert_eq!(words("SELECT \"Dis| FROM trips"), ["\"Distance km\""]);
        assert_eq!(words("SELECT 1 FROM trips; SELECT o_| FROM tpch.sf1.orders"), ["o_custkey", "o_orderkey"]);
        assert_eq!(
            words("SELECT * FROM tpch.sf1.orders o JOIN tpch.sf1.lineitem AS l ON o.o_orderkey = l.|"),
            ["l_orderkey", "l_quantity"]
        );
        assert_eq!(words("SELECT * FROM tpch.sf1.orders o, tpch.sf1.lineitem WHERE o.|"), ["o_custkey", "o_orderkey"]);
        assert_eq!(words("SELECT * FROM trips WHERE trips.d|"), ["\"Distance km\"", "driver"]);
    }

    #[test]
    fn keywords_are_written_as_they_were_begun() {
        assert_eq!(words("SEL|"), ["SELECT"]);
        assert_eq!(words("sel|"), ["select"]);
        assert_eq!(words("SELECT su|"), ["substr(", "sum("]);
        assert_eq!(words("SELECT SUBS|"), ["substr("]);
        assert_eq!(words("|"), Vec::<String>::new());
    }

    #[test]
    fn settings_follow_on_set() {
        assert_eq!(words("SET volley.fi|"), ["fit", "fit_bytes"]);
        assert_eq!(words("SET vol|"), ["volley.fit", "volley.fit_bytes", "volley.queue"]);
        assert_eq!(words("SHOW t|"), ["tables"]);
    }

    #[test]
    fn texts_are_paths_and_comments_are_left_alone() {
        let at = |before: &str| complete(before, "", &known());
        assert!(at("CREATE EXTERNAL TABLE t LOCATION '/da").is_path);
        assert!(!at("SELECT 'a' ").is_path);
        assert_eq!(at("-- FROM t"), Completion::default());
    }
}

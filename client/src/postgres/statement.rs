//! The text of a message as statements: where each begins, what it does, how its completion is told.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};

/// A word, a sign or a value, and where it stands in its statement, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lexeme {
    pub(super) token: Token,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// One statement of a text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Statement {
    /// Without its semicolon.
    pub(super) text: String,
    /// Characters of the whole text that come before it.
    pub(super) before: usize,
    /// None where the text can't be told into words: the scheduler says why.
    pub(super) lexemes: Vec<Lexeme>,
}

/// The statements of a text, empty ones left out.
pub(super) fn split(text: &str) -> Vec<Statement> {
    // The scheduler's own dialect.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location() else {
        return vec![Statement { text: text.to_owned(), before: 0, lexemes: vec![] }];
    };
    let mut statements = vec![];
    let mut lexemes: Vec<Lexeme> = vec![];
    let mut walk = Walk { text, at: Location::new(1, 1), offset: 0 };
    for token in tokens {
        let (start, end) = (walk.to(token.span.start), walk.to(token.span.end));
        match token.token {
            Token::Whitespace(_) => {}
            Token::EOF | Token::SemiColon => {
                statements.extend(cut(text, std::mem::take(&mut lexemes)));
            }
            token => lexemes.push(Lexeme { token, start, end }),
        }
    }
    statements.extend(cut(text, lexemes));
    statements
}

fn cut(text: &str, mut lexemes: Vec<Lexeme>) -> Option<Statement> {
    let (start, end) = (lexemes.first()?.start, lexemes.last()?.end);
    for lexeme in &mut lexemes {
        lexeme.start -= start;
        lexeme.end -= start;
    }
    let before = text.get(..start)?.chars().count();
    Some(Statement { text: text.get(start..end)?.to_owned(), before, lexemes })
}

/// Turns lines and columns into byte offsets, by one walk over the text.
struct Walk<'a> {
    text: &'a str,
    at: Location,
    offset: usize,
}

impl Walk<'_> {
    fn to(&mut self, place: Location) -> usize {
        for c in self.text[self.offset..].chars() {
            if (self.at.line, self.at.column) >= (place.line, place.column) {
                break;
            }
            self.offset += c.len_utf8();
            self.at = if c == '\n' { Location::new(self.at.line + 1, 1) } else { Location::new(self.at.line, self.at.column + 1) };
        }
        self.offset
    }
}

impl Statement {
    /// The word at a place, in capitals; empty where there is none.
    pub(super) fn word(&self, index: usize) -> String {
        match self.lexemes.get(index).map(|lexeme| &lexeme.token) {
            Some(Token::Word(word)) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
            _ => String::new(),
        }
    }

    /// What it does: `SELECT`, `INSERT`, ...; behind the common tables of a `WITH`.
    pub(super) fn verb(&self) -> String {
        let first = self.word(0);
        if first != "WITH" {
            return match self.lexemes.first().map(|lexeme| &lexeme.token) {
                Some(Token::LParen) => "SELECT".into(),
                _ => first,
            };
        }
        let mut depth = 0_usize;
        for (index, lexeme) in self.lexemes.iter().enumerate().skip(1) {
            match &lexeme.token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                Token::Word(_) if depth == 0 => {
                    let word = self.word(index);
                    if matches!(word.as_str(), "SELECT" | "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "VALUES" | "TABLE") {
                        return word;
                    }
                }
                _ => {}
            }
        }
        first
    }

    /// Whether all that it does is to give rows.
    pub(super) fn is_query(&self) -> bool {
        matches!(self.verb().as_str(), "SELECT" | "VALUES" | "TABLE")
    }

    /// Whether it can change files or tables.
    pub(super) fn is_write(&self) -> bool {
        matches!(
            self.verb().as_str(),
            "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "COPY" | "TRUNCATE" | "CREATE" | "DROP" | "ALTER" | "OPTIMIZE" | "VACUUM"
        )
    }

    /// Whether it has this word, anywhere.
    pub(super) fn has_word(&self, word: &str) -> bool {
        (0..self.lexemes.len()).any(|index| self.word(index) == word)
    }

    /// How its completion is told, with the rows that it gave or wrote.
    pub(super) fn tag(&self, rows: Option<u64>) -> String {
        let counted = |verb: &str| match rows {
            Some(rows) => format!("{verb} {rows}"),
            None => verb.to_owned(),
        };
        let verb = self.verb();
        match verb.as_str() {
            "SELECT" | "VALUES" | "TABLE" | "WITH" | "" => counted("SELECT"),
            "INSERT" => format!("INSERT 0 {}", rows.unwrap_or(0)),
            "UPDATE" | "DELETE" | "MERGE" | "COPY" | "FETCH" => counted(&verb),
            "TRUNCATE" => "TRUNCATE TABLE".into(),
            "CREATE" if rows.is_some() && self.makes_from_query() => counted("SELECT"),
            "CREATE" | "DROP" | "ALTER" => format!("{verb} {}", self.kind_of_object()),
            _ => verb,
        }
    }

    fn makes_from_query(&self) -> bool {
        self.kind_of_object() == "TABLE" && self.has_word("AS")
    }

    /// `TABLE` of `CREATE OR REPLACE EXTERNAL TABLE`.
    fn kind_of_object(&self) -> String {
        let kinds = ["TABLE", "VIEW", "SCHEMA", "DATABASE", "FUNCTION", "INDEX", "SEQUENCE", "TYPE", "ROLE", "USER"];
        let words = (1..self.lexemes.len().min(7)).map(|index| self.word(index));
        words.into_iter().find(|word| kinds.contains(&word.as_str())).unwrap_or_else(|| self.word(1))
    }

    /// How many parameters it takes: the greatest `$n`.
    pub(super) fn parameters(&self) -> usize {
        self.lexemes.iter().filter_map(number).max().unwrap_or(0)
    }

    /// The type that a parameter is cast to where it stands: `$1::bigint[]`, `CAST($1 AS DOUBLE PRECISION)`; in capitals.
    pub(super) fn cast_of(&self, parameter: usize) -> Option<String> {
        (0..self.lexemes.len()).filter(|index| number(&self.lexemes[*index]) == Some(parameter)).find_map(|index| {
            let is_sign = |place: usize, sign: Token| self.lexemes.get(place).is_some_and(|lexeme| lexeme.token == sign);
            let by_sign = is_sign(index + 1, Token::DoubleColon);
            let by_words =
                index >= 2 && is_sign(index - 1, Token::LParen) && self.word(index - 2) == "CAST" && self.word(index + 1) == "AS";
            (by_sign || by_words).then(|| self.type_at(index + 2)).flatten()
        })
    }

    /// The name of the type that begins at a place, without its schema, precision and the like.
    fn type_at(&self, mut at: usize) -> Option<String> {
        let token = |at: usize| self.lexemes.get(at).map(|lexeme| &lexeme.token);
        if token(at + 1) == Some(&Token::Period) {
            at += 2;
        }
        let mut name = Some(self.word(at)).filter(|word| !word.is_empty())?;
        at += 1;
        while matches!(self.word(at).as_str(), "PRECISION" | "VARYING" | "WITH" | "WITHOUT" | "TIME" | "ZONE") {
            name = format!("{name} {}", self.word(at));
            at += 1;
        }
        if token(at) == Some(&Token::LParen) {
            at += 1 + self.lexemes[at..].iter().position(|lexeme| lexeme.token == Token::RParen)?;
        }
        let is_array = token(at) == Some(&Token::LBracket) && token(at + 1) == Some(&Token::RBracket);
        Some(if is_array { format!("{name}[]") } else { name })
    }

    /// The text with each parameter for which `cast` gives a type cast to it.
    pub(super) fn with_casts(&self, cast: impl Fn(usize) -> Option<String>) -> String {
        let mut text = String::with_capacity(self.text.len());
        let mut from = 0;
        for lexeme in &self.lexemes {
            let Some(number) = number(lexeme) else { continue };
            let Some(kind) = cast(number) else { continue };
            text.push_str(&self.text[from..lexeme.start]);
            text.push_str(&format!("CAST(${number} AS {kind})"));
            from = lexeme.end;
        }
        text.push_str(&self.text[from..]);
        text
    }
}

fn number(lexeme: &Lexeme) -> Option<usize> {
    match &lexeme.token {
        Token::Placeholder(name) => name.strip_prefix('$')?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Statement {
        split(text).pop().unwrap()
    }

    #[test]
    fn statements_are_split_where_semicolons_separate_them() {
        let texts = |text| split(text).into_iter().map(|statement| (statement.text, statement.before)).collect::<Vec<_>>();
        assert_eq!(texts(" ; ;"), []);
        assert_eq!(texts("-- nothing"), []);
        assert_eq!(
            texts("SELECT 'ä;' ; -- not; this\n SELECT \"b;\" /* ; */ ;"),
            [("SELECT 'ä;'".to_owned(), 0), ("SELECT \"b;\"".to_owned(), 28)]
        );
        assert_eq!(texts("SELECT 'open"), [("SELECT 'open".to_owned(), 0)]);
    }

    #[test]
    fn completion_is_told_as_in_postgres() {
        for (text, rows, tag) in [
            ("select 1", Some(1), "SELECT 1"),
            ("(select 1) union (select 2)", Some(2), "SELECT 2"),
            ("WITH x AS (SELECT 1 AS insert_) SELECT * FROM x", Some(1), "SELECT 1"),
            ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", Some(3), "INSERT 0 3"),
            ("insert into t values (1)", Some(1), "INSERT 0 1"),
            ("DELETE FROM t", Some(0), "DELETE 0"),
            ("CREATE TABLE t (a INT)", Some(0), "CREATE TABLE"),
            ("CREATE TABLE t AS SELECT 1", Some(1), "SELECT 1"),
            ("CREATE OR REPLACE VIEW v AS SELECT 1", None, "CREATE VIEW"),
            ("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'x'", None, "CREATE TABLE"),
            ("DROP TABLE IF EXISTS t", None, "DROP TABLE"),
            ("EXPLAIN SELECT 1", Some(2), "EXPLAIN"),
            ("TRUNCATE t", Some(5), "TRUNCATE TABLE"),
        ] {
            assert_eq!(one(text).tag(rows), tag, "{text}");
        }
    }

    #[test]
    fn parameters_are_found_and_cast() {
        let statement = one("SELECT $1, '$9', $2 -- $7\n+ $1");
        assert_eq!(statement.parameters(), 2);
        let cast = statement.with_casts(|number| (number == 1).then(|| "BIGINT".to_owned()));
        assert_eq!(cast, "SELECT CAST($1 AS BIGINT), '$9', $2 -- $7\n+ CAST($1 AS BIGINT)");
        let statement =
            one("SELECT $1::pg_catalog.int8[], cast($2 as double precision), $3::decimal(20, 4)[], $4, $5::timestamp without time zone");
        let casts: Vec<_> = (1..=5).map(|number| statement.cast_of(number).unwrap_or_default()).collect();
        assert_eq!(casts, ["INT8[]", "DOUBLE PRECISION", "DECIMAL[]", "", "TIMESTAMP WITHOUT TIME ZONE"]);
    }
}

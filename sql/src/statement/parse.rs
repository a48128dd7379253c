//! Text to syntax trees, with limits and places.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParser, DFParserBuilder, Statement as Ast};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::parameters;
use crate::diagnostics::{Place, SqlError};
use crate::session::PARSER_RECURSION_LIMIT;

/// The longest text that is parsed.
pub const MAX_STATEMENT_BYTES: usize = 16 << 20;

static DIALECT: GenericDialect = GenericDialect {};

/// One statement of a text, with `?` already numbered.
#[derive(Debug, Clone)]
pub struct ParsedStatement {
    /// The whole text, in which errors show their place.
    script: Arc<str>,
    text: String,
    ast: Ast,
    parameters: usize,
}

impl ParsedStatement {
    /// The statement alone, without a semicolon.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text that it was parsed from.
    pub fn script(&self) -> &str {
        &self.script
    }

    /// How many parameters it takes.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    pub(super) fn ast(&self) -> &Ast {
        &self.ast
    }

    /// An error of the engine about this statement.
    pub(super) fn error(&self, error: &DataFusionError) -> SqlError {
        SqlError::of(error, &self.script)
    }
}

/// The statements of a text, which semicolons separate.
pub fn parse(sql: &str) -> Result<Vec<ParsedStatement>, SqlError> {
    if sql.len() > MAX_STATEMENT_BYTES {
        let (bytes, limit) = (sql.len(), MAX_STATEMENT_BYTES);
        return Err(SqlError::new(format!("the statement has {bytes} bytes; the limit is {limit}")));
    }
    let script: Arc<str> = sql.into();
    let tokens = tokens(sql)?;
    let lines = Lines::new(sql);
    let builder = DFParserBuilder::new(tokens).with_dialect(&DIALECT).with_recursion_limit(PARSER_RECURSION_LIMIT);
    let mut parser = builder.build().map_err(|error| parse_error(&error, sql))?;
    let mut statements = vec![];
    loop {
        while parser.parser.consume_token(&Token::SemiColon) {}
        let start = match next_token(&parser) {
            (Token::EOF, _) => return Ok(statements),
            (_, start) => start,
        };
        let mut ast = parser.parse_statement().map_err(|error| parse_error(&error, sql))?;
        let end = match next_token(&parser) {
            (Token::EOF, _) => sql.len(),
            (Token::SemiColon, end) => lines.offset(end),
            (token, at) => {
                let place = Place { line: at.line, column: at.column, width: token.to_string().chars().count().max(1) as u64 };
                return Err(SqlError::new(format!("syntax error: expected end of statement, found {token}")).at(Some(place), sql));
            }
        };
        let parameters = parameters::number(&mut ast)?;
        let text = sql.get(lines.offset(start)..end).unwrap_or_default().trim().to_owned();
        statements.push(ParsedStatement { script: Arc::clone(&script), text, ast, parameters });
    }
}

/// The one statement of a text.
pub fn parse_one(sql: &str) -> Result<ParsedStatement, SqlError> {
    let mut statements = parse(sql)?;
    match (statements.pop(), statements.len()) {
        (Some(statement), 0) => Ok(statement),
        (Some(_), more) => Err(SqlError::new(format!("expected one statement, found {}: send them one by one", more + 1))),
        (None, _) => Err(SqlError::new("the text holds no statement")),
    }
}

fn next_token(parser: &DFParser<'_>) -> (Token, Location) {
    let token = parser.parser.peek_token_ref();
    (token.token.clone(), token.span.start)
}

fn tokens(sql: &str) -> Result<Vec<TokenWithSpan>, SqlError> {
    let dialect: &dyn Dialect = &DIALECT;
    let tokenizer = Tokenizer::new(dialect, sql).tokenize_with_location();
    let mut tokens = tokenizer.map_err(|error| parse_error(&DataFusionError::SQL(Box::new(ParserError::from(error)), None), sql))?;
    name_explain_formats(&mut tokens);
    Ok(tokens)
}

/// The parser knows explain formats by DataFusion's names: after `EXPLAIN`, `FORMAT JSON` and `FORMAT TEXT` become those.
fn name_explain_formats(tokens: &mut [TokenWithSpan]) {
    let words: Vec<usize> = (0..tokens.len()).filter(|index| !matches!(tokens[*index].token, Token::Whitespace(_))).collect();
    for explain in 0..words.len() {
        let begins = explain == 0 || tokens[words[explain - 1]].token == Token::SemiColon;
        if !begins || !is_word(&tokens[words[explain]].token, "explain") {
            continue;
        }
        let header = &words[explain..words.len().min(explain + MOST_EXPLAIN_TOKENS)];
        if let Some(pair) = header.windows(2).find(|pair| is_word(&tokens[pair[0]].token, "format")) {
            name_explain_format(&mut tokens[pair[1]].token);
        }
    }
}

/// Within how many tokens of `EXPLAIN` its format is looked for.
const MOST_EXPLAIN_TOKENS: usize = 12;

fn name_explain_format(format: &mut Token) {
    let name = match format {
        Token::Word(word) => word.value.to_ascii_lowercase(),
        Token::SingleQuotedString(text) => text.to_ascii_lowercase(),
        _ => return,
    };
    match name.as_str() {
        "json" => *format = Token::SingleQuotedString("pgjson".into()),
        "text" => *format = Token::SingleQuotedString("indent".into()),
        _ => {}
    }
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(found) if found.value.eq_ignore_ascii_case(word))
}

fn parse_error(error: &DataFusionError, sql: &str) -> SqlError {
    if let DataFusionError::SQL(parser, _) = error.find_root()
        && matches!(**parser, ParserError::RecursionLimitExceeded)
    {
        return SqlError::new(format!("the statement is nested more than {PARSER_RECURSION_LIMIT} levels deep"));
    }
    SqlError::of(error, sql)
}

/// Where the lines of a text begin, to turn the tokenizer's line and column into a byte offset.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    fn offset(&self, at: Location) -> usize {
        let Some(start) = self.starts.get(at.line.saturating_sub(1) as usize) else {
            return self.text.len();
        };
        let column = at.column.saturating_sub(1) as usize;
        self.text[*start..].char_indices().nth(column).map_or(self.text.len(), |(offset, _)| start + offset)
    }
}

//! Text to syntax trees, with limits and places.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParser, DFParserBuilder, Statement as Ast};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::{limits, parameters, sample};
use crate::catalog::name_calls;
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
    parse_tokens(sql, tokens(sql)?)
}

/// The one statement of a text.
pub fn parse_one(sql: &str) -> Result<ParsedStatement, SqlError> {
    let tokens = tokens(sql)?;
    let count = limits::statements(&tokens);
    if count > 1 {
        return Err(SqlError::new(format!("expected one statement, found {count}: send them one by one")));
    }
    parse_tokens(sql, tokens)?.pop().ok_or_else(|| SqlError::new("the text holds no statement"))
}

fn parse_tokens(sql: &str, tokens: Vec<TokenWithSpan>) -> Result<Vec<ParsedStatement>, SqlError> {
    let script: Arc<str> = sql.into();
    let mut offsets = Offsets::new(sql);
    let builder = DFParserBuilder::new(tokens).with_dialect(&DIALECT).with_recursion_limit(PARSER_RECURSION_LIMIT);
    let mut parser = builder.build().map_err(|error| parse_error(&error, sql))?;
    let mut statements = vec![];
    loop {
        while parser.parser.consume_token(&Token::SemiColon) {}
        let start = match next_token(&parser) {
            (Token::EOF, _) => return Ok(statements),
            (_, start) => offsets.of(start),
        };
        let mut ast = parser.parse_statement().map_err(|error| parse_error(&error, sql))?;
        let end = match next_token(&parser) {
            (Token::EOF, _) => sql.len(),
            (Token::SemiColon, end) => offsets.of(end),
            (token, at) => {
                let place = Place { line: at.line, column: at.column, width: token.to_string().chars().count().max(1) as u64 };
                return Err(SqlError::new(format!("syntax error: expected end of statement, found {token}")).at(Some(place), sql));
            }
        };
        sample::draw(&mut ast)?;
        name_calls(&mut ast)?;
        let parameters = parameters::number(&mut ast)?;
        let text = sql.get(start..end).unwrap_or_default().trim().to_owned();
        statements.push(ParsedStatement { script: Arc::clone(&script), text, ast, parameters });
    }
}

fn next_token(parser: &DFParser<'_>) -> (Token, Location) {
    let token = parser.parser.peek_token_ref();
    (token.token.clone(), token.span.start)
}

/// The tokens of a text that is not too long, and does not hold more than can be parsed and planned.
fn tokens(sql: &str) -> Result<Vec<TokenWithSpan>, SqlError> {
    if sql.len() > MAX_STATEMENT_BYTES {
        let (bytes, limit) = (sql.len(), MAX_STATEMENT_BYTES);
        return Err(SqlError::new(format!("the statement has {bytes} bytes; the limit is {limit}")));
    }
    let dialect: &dyn Dialect = &DIALECT;
    let tokenizer = Tokenizer::new(dialect, sql).tokenize_with_location();
    let mut tokens = tokenizer.map_err(|error| parse_error(&DataFusionError::SQL(Box::new(ParserError::from(error)), None), sql))?;
    limits::check(&tokens, sql)?;
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

/// Turns the tokenizer's lines and columns into byte offsets, by one walk over the text: places are asked for in their order.
struct Offsets<'a> {
    text: &'a str,
    at: Location,
    offset: usize,
}

impl<'a> Offsets<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: Location::new(1, 1), offset: 0 }
    }

    fn of(&mut self, place: Location) -> usize {
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

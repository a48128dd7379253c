//! Limits on a text, checked on its tokens: before anything recurses over what they stand for.
//!
//! The parser limits how deep parentheses nest, and nothing else. Chains such as `1 + 1 + ...` become trees as deep as they are long, and
//! types, joins and set operations nest as well. The tokens tell all of this without a tree.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use crate::diagnostics::{Place, SqlError};
use crate::session::PARSER_RECURSION_LIMIT;

/// Most operands of a chain of operators. Three times as many still fit on the stack of a thread that plans or runs, but the time that
/// DataFusion takes to plan grows with the square of the length.
const MOST_TERMS: usize = 6_000;
/// Most levels of a type such as `ARRAY<ARRAY<INT>>`: as many fit into a plan that is sent to executors.
const MOST_TYPE_LEVELS: usize = 20;
/// Most set operations of a statement, most joins and most common tables.
const MOST_PARTS: usize = 1_000;

/// Refuses tokens that are too much for the parser or for what comes after it.
pub(super) fn check(tokens: &[TokenWithSpan], sql: &str) -> Result<(), SqlError> {
    let mut counter = Counter::new();
    let checked = tokens.iter().filter(|token| !is_blank(token)).try_for_each(|token| counter.count(token));
    let checked = checked.and_then(|()| counter.end_statement());
    checked.map_err(|TooMuch { message, at }| SqlError::new(message).at(Some(Place { line: at.line, column: at.column, width: 1 }), sql))
}

/// How many statements the tokens hold.
pub(super) fn statements(tokens: &[TokenWithSpan]) -> usize {
    let tokens = tokens.iter().filter(|token| !is_blank(token));
    let mut count = 0;
    let mut within = false;
    for token in tokens {
        let ends = matches!(token.token, Token::SemiColon | Token::EOF);
        count += usize::from(!within && !ends);
        within = !ends;
    }
    count
}

fn is_blank(token: &TokenWithSpan) -> bool {
    matches!(token.token, Token::Whitespace(_))
}

struct TooMuch {
    message: String,
    at: Location,
}

/// What a level of expressions is inside of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Statement,
    Parentheses,
    Brackets,
    Braces,
    Case,
}

/// One level of expressions, and the expression in it that is being read.
struct Level {
    kind: Kind,
    start: Option<Location>,
    /// Operators since the start, since the last OR, and since the last AND. Each is below those before it in the tree.
    operators: [usize; 3],
    /// The most operators that were below one another.
    deepest: usize,
    /// Open `<` of a type.
    angles: usize,
    /// Pairs of brackets one after the other.
    brackets: usize,
    /// Whether commas join tables.
    in_from: bool,
}

impl Level {
    fn new(kind: Kind) -> Self {
        Self { kind, start: None, operators: [0; 3], deepest: 0, angles: 0, brackets: 0, in_from: false }
    }

    fn add_operator(&mut self, class: usize) {
        self.operators[class] += 1;
        self.operators[class + 1..].fill(0);
        self.deepest = self.deepest.max(self.operators.iter().sum());
    }

    fn end_expression(&mut self) -> Result<(), TooMuch> {
        let terms = self.deepest + 1;
        let start = self.start.take();
        (self.operators, self.deepest, self.brackets) = ([0; 3], 0, 0);
        match start {
            Some(at) if terms > MOST_TERMS => {
                Err(TooMuch { message: format!("an expression of {} terms; the limit is {}", grouped(terms), grouped(MOST_TERMS)), at })
            }
            _ => Ok(()),
        }
    }
}

const OR: usize = 0;
const AND: usize = 1;
const OTHER: usize = 2;

/// Set operations, joins or common tables of a statement.
struct Parts {
    what: &'static str,
    count: usize,
}

impl Parts {
    fn new(what: &'static str) -> Self {
        Self { what, count: 0 }
    }

    fn add(&mut self, at: Location) -> Result<(), TooMuch> {
        self.count += 1;
        if self.count <= MOST_PARTS {
            return Ok(());
        }
        Err(TooMuch { message: format!("a statement of more than {} {}", grouped(MOST_PARTS), self.what), at })
    }
}

/// What was before a token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing: a statement begins.
    Nothing,
    /// An operator, or something else that an operand follows; so that a word is a name whatever it means elsewhere.
    Operator,
    /// The word that types with `<` begin with.
    TypeName,
    /// `AS`, with or without `MATERIALIZED`.
    As,
    /// `]`.
    Bracket,
    /// Something else.
    Operand,
}

/// Whether the statement proper has begun.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Header {
    /// It has.
    None,
    /// `EXPLAIN` and perhaps some of its options are read.
    Explain,
    /// The same, and the last of them is `FORMAT`.
    Format,
}

/// Counts the tokens of a text.
struct Counter {
    levels: Vec<Level>,
    before: Before,
    header: Header,
    set_operations: Parts,
    joins: Parts,
    common_tables: Parts,
}

impl Counter {
    fn new() -> Self {
        Self {
            levels: vec![Level::new(Kind::Statement)],
            before: Before::Nothing,
            header: Header::None,
            set_operations: Parts::new("set operations"),
            joins: Parts::new("joins"),
            common_tables: Parts::new("common tables"),
        }
    }

    fn end_statement(&mut self) -> Result<(), TooMuch> {
        while let Some(mut level) = self.levels.pop() {
            level.end_expression()?;
        }
        *self = Self::new();
        Ok(())
    }

    fn level(&mut self) -> &mut Level {
        if self.levels.is_empty() {
            self.levels.push(Level::new(Kind::Statement));
        }
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    fn count(&mut self, token: &TokenWithSpan) -> Result<(), TooMuch> {
        let at = token.span.start;
        self.level().start.get_or_insert(at);
        self.before = match &token.token {
            Token::SemiColon | Token::EOF => return self.end_statement(),
            Token::Comma => self.comma(at)?,
            Token::LParen => self.open_parentheses(at)?,
            Token::LBracket => self.open_bracket(at)?,
            Token::LBrace => self.open(Kind::Braces, at)?,
            Token::RParen => self.close(Kind::Parentheses)?,
            Token::RBracket => {
                self.close(Kind::Brackets)?;
                Before::Bracket
            }
            Token::RBrace => self.close(Kind::Braces)?,
            Token::Lt if self.before == Before::TypeName => self.open_type(at)?,
            Token::Gt | Token::ShiftRight if self.level().angles > 0 => {
                let closed = if token.token == Token::Gt { 1 } else { 2 };
                self.level().angles = self.level().angles.saturating_sub(closed);
                Before::Operand
            }
            Token::VerticalBarRightAngleBracket => {
                self.set_operations.add(at)?;
                self.operator(OTHER)
            }
            Token::Word(word) => self.word(word.keyword, at)?,
            other if is_operand(other) => {
                if self.header == Header::Format {
                    self.header = Header::Explain;
                }
                Before::Operand
            }
            _ => self.operator(OTHER),
        };
        Ok(())
    }

    fn operator(&mut self, class: usize) -> Before {
        let level = self.level();
        level.add_operator(class);
        if class != OTHER {
            level.angles = 0;
        }
        Before::Operator
    }

    fn comma(&mut self, at: Location) -> Result<Before, TooMuch> {
        self.level().end_expression()?;
        if self.level().in_from {
            self.joins.add(at)?;
        }
        Ok(Before::Operator)
    }

    fn open(&mut self, kind: Kind, at: Location) -> Result<Before, TooMuch> {
        self.levels.push(Level::new(kind));
        // As the parser counts, which does not count everywhere. CASE is limited by the parser alone.
        if self.levels.len() > PARSER_RECURSION_LIMIT && kind != Kind::Case {
            return Err(TooMuch { message: format!("the statement is nested more than {PARSER_RECURSION_LIMIT} levels deep"), at });
        }
        Ok(Before::Operator)
    }

    fn open_parentheses(&mut self, at: Location) -> Result<Before, TooMuch> {
        if self.before == Before::As {
            self.common_tables.add(at)?;
        }
        self.open(Kind::Parentheses, at)
    }

    fn open_bracket(&mut self, at: Location) -> Result<Before, TooMuch> {
        let again = self.before == Before::Bracket;
        let level = self.level();
        level.brackets = if again { level.brackets + 1 } else { 1 };
        if level.brackets > MOST_TYPE_LEVELS {
            return Err(too_deep_type(at));
        }
        self.operator(OTHER);
        self.open(Kind::Brackets, at)
    }

    fn open_type(&mut self, at: Location) -> Result<Before, TooMuch> {
        self.level().angles += 1;
        if self.level().angles > MOST_TYPE_LEVELS { Err(too_deep_type(at)) } else { Ok(Before::Operand) }
    }

    fn close(&mut self, kind: Kind) -> Result<Before, TooMuch> {
        // One that nothing opened is left to the parser.
        if let Some(opened) = self.levels.iter().rposition(|level| level.kind == kind) {
            for mut level in self.levels.drain(opened..) {
                level.end_expression()?;
            }
        }
        Ok(Before::Operand)
    }

    fn clause(&mut self, in_from: bool) -> Result<Before, TooMuch> {
        let level = self.level();
        level.end_expression()?;
        level.angles = 0;
        level.in_from = in_from;
        Ok(Before::Operator)
    }

    fn word(&mut self, keyword: Keyword, at: Location) -> Result<Before, TooMuch> {
        self.header = match (self.header, keyword) {
            (Header::None, Keyword::EXPLAIN) if self.before == Before::Nothing => Header::Explain,
            (Header::Explain, Keyword::EXPLAIN) => return Err(TooMuch { message: "an EXPLAIN can't be explained".into(), at }),
            (Header::Explain, Keyword::FORMAT) => Header::Format,
            (Header::Explain, Keyword::ANALYZE | Keyword::VERBOSE) | (Header::Format, _) => Header::Explain,
            (header, _) if self.levels.len() > 1 => header,
            _ => Header::None,
        };
        // In the tree of an expression a word after an operator is its operand, whatever it means elsewhere.
        let operand = self.before == Before::Operator && self.level().deepest > 0;
        match keyword {
            Keyword::CASE => self.open(Kind::Case, at),
            Keyword::ARRAY | Keyword::STRUCT | Keyword::MAP => Ok(Before::TypeName),
            Keyword::NOT | Keyword::MATERIALIZED if self.before == Before::As => Ok(Before::As),
            // Before an operand, or within an operator such as NOT LIKE; DISTINCT is within IS DISTINCT FROM.
            Keyword::NOT => Ok(if self.before == Before::Operator { Before::Operator } else { Before::Operand }),
            Keyword::DISTINCT if operand => Ok(Before::Operator),
            _ if operand => Ok(Before::Operand),
            Keyword::END if self.level().kind == Kind::Case => self.close(Kind::Case),
            Keyword::WHEN | Keyword::THEN | Keyword::ELSE if self.level().kind == Kind::Case => {
                self.level().end_expression()?;
                Ok(Before::Operator)
            }
            _ => self.keyword(keyword, at),
        }
    }

    fn keyword(&mut self, keyword: Keyword, at: Location) -> Result<Before, TooMuch> {
        use Keyword as K;
        match keyword {
            K::OR | K::XOR => Ok(self.operator(OR)),
            K::AND => Ok(self.operator(AND)),
            K::IS | K::LIKE | K::ILIKE | K::SIMILAR | K::RLIKE | K::REGEXP | K::BETWEEN | K::IN | K::COLLATE | K::AT | K::DIV => {
                Ok(self.operator(OTHER))
            }
            K::UNION | K::EXCEPT | K::INTERSECT | K::MINUS => {
                self.set_operations.add(at)?;
                self.clause(false)
            }
            K::JOIN | K::APPLY => {
                self.joins.add(at)?;
                self.level().end_expression()?;
                Ok(Before::Operator)
            }
            K::FROM => self.clause(true),
            K::SELECT | K::WHERE | K::BY | K::HAVING | K::QUALIFY | K::LIMIT | K::OFFSET | K::VALUES => self.clause(false),
            K::ON | K::USING => {
                self.level().end_expression()?;
                Ok(Before::Operator)
            }
            K::AS => Ok(Before::As),
            _ => Ok(Before::Operand),
        }
    }
}

/// Whether a token stands for a value or names one, or is part of a name.
fn is_operand(token: &Token) -> bool {
    matches!(
        token,
        Token::Number(..)
            | Token::Char(_)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::Placeholder(_)
            | Token::Period
            | Token::Colon
    )
}

fn too_deep_type(at: Location) -> TooMuch {
    TooMuch { message: format!("a type of more than {MOST_TYPE_LEVELS} levels"), at }
}

/// A number with commas between thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests;

//! Text at the prompt in pieces, for its colours and for what may follow.

use super::keywords::is_keyword;
use crate::cli::script::{Inside, Scanner};

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Keyword,
    /// A name that is no keyword, or one in quotes.
    Name,
    Number,
    /// A text in quotes, closed or not.
    Text,
    Comment,
    /// A line for the shell itself.
    Command,
    Symbol,
    Blank,
}

/// A piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) start: usize,
}

impl Token<'_> {
    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    pub(super) fn is(&self, keyword: &str) -> bool {
        self.kind == Kind::Keyword && self.text.eq_ignore_ascii_case(keyword)
    }

    /// The name without its quotes.
    pub(super) fn name(&self) -> String {
        match self.text.chars().next() {
            Some(quote @ ('"' | '`')) => {
                let inner = &self.text[1..];
                inner.strip_suffix(quote).unwrap_or(inner).replace(&format!("{quote}{quote}"), &quote.to_string())
            }
            // Names without quotes are those in lower case.
            _ => self.text.to_lowercase(),
        }
    }
}

/// All pieces of a text, in order and without a gap.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    if let Some(start) = text.find(|c: char| !c.is_whitespace())
        && is_command(&text[start..])
    {
        let blank = Token { kind: Kind::Blank, text: &text[..start], start: 0 };
        return vec![blank, Token { kind: Kind::Command, text: &text[start..], start }];
    }
    let mut scanner = Scanner::new(text);
    let mut found = vec![];
    while scanner.at < text.len() {
        let start = scanner.at;
        let kind = next(&mut scanner, text);
        found.push(Token { kind, text: &text[start..scanner.at], start });
    }
    found
}

/// Whether a line is for the shell: `\d`, `.tables`.
pub(super) fn is_command(line: &str) -> bool {
    line.starts_with('\\') || line.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()))
}

fn next(scanner: &mut Scanner<'_>, text: &str) -> Kind {
    let start = scanner.at;
    let rest = &text[start..];
    let length = |is_part: fn(char) -> bool| rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
    match rest.chars().next() {
        Some(c) if c.is_whitespace() => {
            scanner.at += length(char::is_whitespace);
            return Kind::Blank;
        }
        Some(c) if c.is_alphabetic() || c == '_' => {
            scanner.at += length(|c| c.is_alphanumeric() || c == '_');
            return if is_keyword(&text[start..scanner.at]) { Kind::Keyword } else { Kind::Name };
        }
        Some(c) if c.is_ascii_digit() => {
            scanner.at += length(|c| c.is_alphanumeric() || c == '.' || c == '_');
            return Kind::Number;
        }
        Some(c) if !c.is_ascii() => {
            scanner.at += c.len_utf8();
            return Kind::Symbol;
        }
        _ => {}
    }
    // Quotes and comments up to their end, other marks by themselves.
    if scanner.next().is_none() || scanner.inside == Inside::Nothing {
        return Kind::Symbol;
    }
    let kind = match scanner.inside {
        Inside::LineComment | Inside::BlockComment(_) => Kind::Comment,
        Inside::Quotes(b'"' | b'`') => Kind::Name,
        _ => Kind::Text,
    };
    let quote = match scanner.inside {
        Inside::Quotes(quote) => Some(quote),
        _ => None,
    };
    loop {
        while scanner.inside != Inside::Nothing && scanner.next().is_some() {}
        // A doubled quote stands for one and goes on.
        if quote.is_none() || text.as_bytes().get(scanner.at).copied() != quote {
            return kind;
        }
        scanner.next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(Kind, &str)> {
        let tokens = tokens(text);
        assert_eq!(tokens.iter().map(|token| token.text).collect::<String>(), text, "without a gap");
        tokens.iter().filter(|token| token.kind != Kind::Blank).map(|token| (token.kind, token.text)).collect()
    }

    #[test]
    fn text_is_cut_into_pieces() {
        use Kind::{Command, Comment, Keyword, Name, Number, Symbol, Text};
        let select =
            [(Keyword, "SELECT"), (Name, "a_1"), (Symbol, "."), (Name, "\"B c\""), (Symbol, ","), (Number, "1.5e3"), (Symbol, ";")];
        assert_eq!(kinds("SELECT a_1.\"B c\", 1.5e3;"), select);
        assert_eq!(
            kinds("'it''s' -- why\n/* a /* b */ */ é"),
            [(Text, "'it''s'"), (Comment, "-- why\n"), (Comment, "/* a /* b */ */"), (Name, "é")]
        );
        assert_eq!(kinds("'open"), [(Text, "'open")]);
        assert_eq!(kinds("$$a;b$$ \"open"), [(Text, "$$a;b$$"), (Name, "\"open")]);
        assert_eq!(kinds(" \\d t"), [(Command, "\\d t")]);
        assert_eq!(kinds("€ .5"), [(Symbol, "€"), (Symbol, "."), (Number, "5")]);
        assert!(kinds("").is_empty());
    }

    #[test]
    fn names_lose_their_quotes() {
        let name = |text| tokens(text)[0].name();
        assert_eq!([name("Abc"), name("\"A\"\"b\""), name("`x"), name("\"A")], ["abc", "A\"b", "x", "A"]);
    }
}

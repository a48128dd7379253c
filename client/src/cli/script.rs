//! Where one statement of a script ends and the next begins.
//!
//! The text is not parsed: a semicolon ends a statement unless it stands in a quoted text or name, or in a comment. What lies
//! between is sent as it was written, so that places in error messages are places in the user's text.

/// What the text before a place is inside of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Inside {
    Nothing,
    Quotes(u8),
    DollarQuotes(String),
    LineComment,
    /// How deep comments are nested.
    BlockComment(usize),
}

/// Walks over SQL text byte by byte. All that matters is ASCII, so that bytes of other characters pass as text.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
    inside: Inside,
}

/// What the scanner has seen.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// Part of a statement.
    Text,
    /// Blanks or a comment.
    Nothing,
    /// The semicolon that ends a statement.
    End,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0, inside: Inside::Nothing }
    }

    fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    /// Takes the next byte or mark.
    fn next(&mut self) -> Option<Seen> {
        let rest = self.rest();
        let first = *rest.first()?;
        let (length, seen) = match &mut self.inside {
            Inside::Nothing => return Some(self.next_outside(first)),
            Inside::Quotes(quote) => {
                if first == *quote {
                    self.inside = Inside::Nothing;
                }
                (1, Seen::Text)
            }
            Inside::DollarQuotes(tag) if rest.starts_with(tag.as_bytes()) => {
                let length = tag.len();
                self.inside = Inside::Nothing;
                (length, Seen::Text)
            }
            Inside::DollarQuotes(_) => (1, Seen::Text),
            Inside::LineComment => {
                if first == b'\n' {
                    self.inside = Inside::Nothing;
                }
                (1, Seen::Nothing)
            }
            Inside::BlockComment(depth) => {
                let length = match rest {
                    [b'*', b'/', ..] => {
                        *depth -= 1;
                        2
                    }
                    [b'/', b'*', ..] => {
                        *depth += 1;
                        2
                    }
                    _ => 1,
                };
                if *depth == 0 {
                    self.inside = Inside::Nothing;
                }
                (length, Seen::Nothing)
            }
        };
        self.at += length;
        Some(seen)
    }

    fn next_outside(&mut self, first: u8) -> Seen {
        let rest = self.rest();
        let (length, inside, seen) = match rest {
            [b'-', b'-', ..] => (2, Inside::LineComment, Seen::Nothing),
            [b'/', b'*', ..] => (2, Inside::BlockComment(1), Seen::Nothing),
            [quote @ (b'\'' | b'"' | b'`'), ..] => (1, Inside::Quotes(*quote), Seen::Text),
            [b';', ..] => (1, Inside::Nothing, Seen::End),
            [b'$', ..] => match dollar_tag(&self.text[self.at..]) {
                Some(tag) => (tag.len(), Inside::DollarQuotes(tag.to_owned()), Seen::Text),
                None => (1, Inside::Nothing, Seen::Text),
            },
            _ if first.is_ascii_whitespace() => (1, Inside::Nothing, Seen::Nothing),
            _ => (1, Inside::Nothing, Seen::Text),
        };
        self.at += length;
        self.inside = inside;
        seen
    }
}

/// `$$` or `$tag$` at the start of a text; not `$1`, which is a parameter.
fn dollar_tag(text: &str) -> Option<&str> {
    let end = text[1..].find('$')? + 1;
    let name = &text[1..end];
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !name.starts_with(|c: char| c.is_ascii_digit());
    is_name.then(|| &text[..=end])
}

/// The statements of a script, trimmed and without their semicolons; those of blanks and comments alone are left out.
pub(crate) fn statements(text: &str) -> Vec<&str> {
    let mut scanner = Scanner::new(text);
    let mut found = Vec::new();
    let (mut start, mut has_text) = (0, false);
    while let Some(seen) = scanner.next() {
        match seen {
            Seen::Text => has_text = true,
            Seen::Nothing => {}
            Seen::End => {
                if has_text {
                    found.push(text[start..scanner.at - 1].trim());
                }
                (start, has_text) = (scanner.at, false);
            }
        }
    }
    if has_text {
        found.push(text[start..].trim());
    }
    found
}

/// Whether what was typed so far may be run: it ends in a semicolon, is a command of the shell, or is blank.
pub(crate) fn is_complete(text: &str) -> bool {
    if text.trim_start().starts_with('\\') {
        return true;
    }
    let mut scanner = Scanner::new(text);
    let mut complete = true;
    while let Some(seen) = scanner.next() {
        match seen {
            Seen::Text => complete = false,
            Seen::Nothing => {}
            Seen::End => complete = true,
        }
    }
    complete && !matches!(scanner.inside, Inside::BlockComment(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_split_at_semicolons() {
        assert_eq!(statements("SELECT 1; SELECT 2"), ["SELECT 1", "SELECT 2"]);
        assert_eq!(statements(" ;; SELECT 1 ;\n"), ["SELECT 1"]);
        assert_eq!(statements(""), Vec::<&str>::new());
    }

    #[test]
    fn semicolons_in_quotes_and_comments_end_nothing() {
        for one in [
            "SELECT 'a;b'",
            "SELECT 'it''s;'",
            "SELECT \"a;b\" FROM `c;d`",
            "SELECT 1 -- a; b\n + 2",
            "SELECT 1 /* a; /* b; */ c; */ + 2",
            "SELECT $$a;b$$",
            "SELECT $x$a;$$;b$x$",
            "SELECT $1, $2",
            "SELECT 'ä;ö'",
        ] {
            assert_eq!(statements(&format!("{one};{one}")), [one, one]);
            assert_eq!(statements(one), [one]);
        }
    }

    #[test]
    fn comments_alone_are_no_statement() {
        assert_eq!(statements("-- nothing\n; /* nothing */ ;"), Vec::<&str>::new());
        assert_eq!(statements("-- why\nSELECT 1;"), ["-- why\nSELECT 1"]);
    }

    #[test]
    fn a_statement_is_complete_at_its_semicolon() {
        for complete in ["", "  ", "SELECT 1;", "SELECT 1; -- done", "\\d t", "SELECT ';' ;"] {
            assert!(is_complete(complete), "{complete}");
        }
        for open in ["SELECT 1", "SELECT ';", "SELECT 1; SELECT 2", "/* ;", "SELECT 1 -- ;"] {
            assert!(!is_complete(open), "{open}");
        }
    }
}

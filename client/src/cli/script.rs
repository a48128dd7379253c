//! Where one statement of a script ends and the next begins, and which lines are commands of the shell.
//!
//! The text is not parsed: a semicolon ends a statement unless it stands in a quoted text or name, or in a comment. What lies
//! between is sent as it was written, so that places in error messages are places in the user's text.

/// What the text before a place is inside of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Inside {
    Nothing,
    Quotes(u8),
    DollarQuotes(String),
    LineComment,
    /// How deep comments are nested.
    BlockComment(usize),
}

/// Walks over SQL text byte by byte. All that matters is ASCII, so that bytes of other characters pass as text.
pub(super) struct Scanner<'a> {
    text: &'a str,
    pub(super) at: usize,
    pub(super) inside: Inside,
}

/// What the scanner has seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Part of a statement.
    Text,
    /// Blanks or a comment.
    Nothing,
    /// The semicolon that ends a statement.
    End,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, inside: Inside::Nothing }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    /// Takes the line that it is at the start of, if that is a command of the shell: `\d`, `.tables`. No statement begins like that.
    fn command(&mut self) -> Option<&'a str> {
        let is_command = match self.rest() {
            [b'\\', ..] => true,
            [b'.', next, ..] => next.is_ascii_alphabetic(),
            _ => false,
        };
        if !is_command || self.inside != Inside::Nothing {
            return None;
        }
        let line = self.text[self.at..].lines().next().unwrap_or_default();
        self.at += line.len();
        Some(line.trim_end())
    }

    /// Takes the next byte or mark.
    pub(super) fn next(&mut self) -> Option<Seen> {
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

/// A statement of a script, and where it begins: lines and characters before it, the latter in its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Statement<'a> {
    pub(crate) text: &'a str,
    lines: usize,
    columns: usize,
}

/// A part of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    Statement(Statement<'a>),
    /// A line for the shell itself.
    Command(&'a str),
}

/// The statements of a script, trimmed and without their semicolons, and the commands between them; blanks and comments alone are left out.
pub(crate) fn items(text: &str) -> Vec<Item<'_>> {
    let mut scanner = Scanner::new(text);
    let mut places = Places { text, at: 0, lines: 0, columns: 0 };
    let mut found = Vec::new();
    let (mut start, mut has_text) = (0, false);
    loop {
        if !has_text && let Some(command) = scanner.command() {
            found.push(Item::Command(command));
            start = scanner.at;
        }
        match scanner.next() {
            Some(Seen::Text) => has_text = true,
            Some(Seen::Nothing) => {}
            Some(Seen::End) => {
                if has_text {
                    found.push(Item::Statement(places.statement(start, scanner.at - 1)));
                }
                (start, has_text) = (scanner.at, false);
            }
            None => break,
        }
    }
    if has_text {
        found.push(Item::Statement(places.statement(start, text.len())));
    }
    found
}

/// Counts the lines of a text, once for all of its statements.
struct Places<'a> {
    text: &'a str,
    at: usize,
    lines: usize,
    columns: usize,
}

impl<'a> Places<'a> {
    fn statement(&mut self, start: usize, end: usize) -> Statement<'a> {
        let untrimmed = &self.text[start..end];
        let start = start + (untrimmed.len() - untrimmed.trim_start().len());
        for c in self.text[self.at..start].chars() {
            (self.lines, self.columns) = if c == '\n' { (self.lines + 1, 0) } else { (self.lines, self.columns + 1) };
        }
        self.at = start;
        Statement { text: untrimmed.trim(), lines: self.lines, columns: self.columns }
    }
}

impl Statement<'_> {
    /// A message about this statement, with the place in the whole script and the script's name in place of the place in the statement.
    pub(crate) fn relocate(&self, message: &str, script: Option<&str>) -> String {
        let of = script.map(|name| format!(" of {name}")).unwrap_or_default();
        let Some(Located { before, line, column, shown }) = Located::find(message) else {
            return if self.lines == 0 && script.is_none() {
                message.to_owned()
            } else {
                format!("{message} (the statement at line {}{of})", self.lines + 1)
            };
        };
        let column = if line == 1 { column + self.columns } else { column };
        let line = line + self.lines;
        let margin = " ".repeat(line.to_string().len());
        let [source, carets] = shown;
        format!("{before} (line {line}, column {column}{of})\n{margin} |\n{line} | {source}\n{margin} | {carets}")
    }
}

/// A message that ends in a place: `... (line 2, column 5)`, an empty line, the source line and carets below it, all behind a margin.
struct Located<'a> {
    before: &'a str,
    line: usize,
    column: usize,
    shown: [&'a str; 2],
}

impl<'a> Located<'a> {
    fn find(message: &'a str) -> Option<Self> {
        let (message, carets) = message.rsplit_once("\n")?;
        let (message, source) = message.rsplit_once("\n")?;
        let (message, _) = message.rsplit_once("\n")?;
        let (before, place) = message.strip_suffix(')')?.rsplit_once(" (line ")?;
        let (line, column) = place.split_once(", column ")?;
        let shown = [source.split_once(" | ")?.1, carets.split_once(" | ")?.1];
        Some(Self { before, line: line.parse().ok()?, column: column.parse().ok()?, shown })
    }
}

/// Whether what was typed so far may be run: it ends in a semicolon or a command of the shell, or is blank.
pub(crate) fn is_complete(text: &str) -> bool {
    if is_leaving(text) {
        return true;
    }
    let mut scanner = Scanner::new(text);
    let mut complete = true;
    loop {
        if complete {
            scanner.command();
        }
        match scanner.next() {
            Some(Seen::Text) => complete = false,
            Some(Seen::Nothing) => {}
            Some(Seen::End) => complete = true,
            None => return complete && !matches!(scanner.inside, Inside::BlockComment(_)),
        }
    }
}

/// `exit` or `quit`, which no statement is.
pub(crate) fn is_leaving(text: &str) -> bool {
    let word = text.trim().trim_end_matches(';').trim_end();
    word.eq_ignore_ascii_case("exit") || word.eq_ignore_ascii_case("quit")
}

#[cfg(test)]
mod tests {
    use super::{Item, Statement, is_complete, items};

    fn of_script(text: &str) -> Vec<Statement<'_>> {
        let statement = |item| match item {
            Item::Statement(statement) => statement,
            Item::Command(line) => panic!("{line} is a command"),
        };
        items(text).into_iter().map(statement).collect()
    }

    fn statements(text: &str) -> Vec<&str> {
        of_script(text).into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn lines_between_statements_may_be_commands() {
        let script = "\\timing on\n  .mode csv  \nSELECT 1\n  .5;\n-- why\n\\d t; u\nSELECT '\n\\x'; \\q";
        let found: Vec<_> = items(script)
            .into_iter()
            .map(|item| match item {
                Item::Statement(statement) => (statement.text, statement.lines),
                Item::Command(line) => (line, usize::MAX),
            })
            .collect();
        let command = usize::MAX;
        let expected = [
            ("\\timing on", command),
            (".mode csv", command),
            ("SELECT 1\n  .5", 2),
            ("\\d t; u", command),
            ("SELECT '\n\\x'", 6),
            ("\\q", command),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn places_are_those_in_the_script() {
        let script = "SELECT 'ä'; SELECT nme\nFROM t;\n\n  SELECT 2";
        let found = of_script(script);
        let places: Vec<_> = found.iter().map(|Statement { lines, columns, .. }| (*lines, *columns)).collect();
        assert_eq!(places, [(0, 0), (0, 12), (3, 2)]);
        let message = "unknown column 'nme' (line 1, column 8)\n  |\n1 | SELECT nme\n  |        ^^^";
        let moved = "unknown column 'nme' (line 1, column 20 of a.sql)\n  |\n1 | SELECT nme\n  |        ^^^";
        assert_eq!(found[1].relocate(message, Some("a.sql")), moved);
        let later = "unknown column 'nme' (line 4, column 10)\n  |\n4 | SELECT nme\n  |        ^^^";
        assert_eq!(found[2].relocate(message, None), later);
        assert_eq!(found[0].relocate("no", None), "no");
        assert_eq!(found[2].relocate("no", Some("a.sql")), "no (the statement at line 4 of a.sql)");
    }

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
        for complete in ["", "  ", "SELECT 1;", "SELECT 1; -- done", "\\d t", "SELECT ';' ;", ".tables", "SELECT 1; \\x", "exit", " QUIT;"]
        {
            assert!(is_complete(complete), "{complete}");
        }
        for open in ["SELECT 1", "SELECT\n\\d", "SELECT .5", "exit 1", "SELECT ';", "SELECT 1; SELECT 2", "/* ;", "SELECT 1 -- ;"] {
            assert!(!is_complete(open), "{open}");
        }
    }
}

//! The tree as plain text, and just enough reading of Rust for the rules: what is code, and which
//! paths it names. Not a parser; what it cannot see, `rustc` and clippy do.

use std::fs;
use std::path::Path;

/// One file of the tree.
pub(crate) struct File {
    /// Relative to the crate's root, with `/`.
    pub(crate) path: String,
    /// Its content; bytes that are not UTF-8 are replaced.
    pub(crate) text: String,
    /// Whether the executable bit is set.
    pub(crate) executable: bool,
}

impl File {
    /// A file that exists only in a rule's own test.
    pub(crate) fn sample(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into(), executable: false }
    }

    /// The file's name without its folders.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// The folder the file lies in; empty at the top.
    pub(crate) fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The module path within the library, such as `["rpc", "frame"]`, or nothing for other files.
    pub(crate) fn module(&self) -> Option<Vec<&str>> {
        let inner = self.path.strip_prefix("src/")?.strip_suffix(".rs")?;
        let inner = inner.strip_suffix("/mod").unwrap_or(inner);
        Some(inner.split('/').collect())
    }

    /// The lines before the block of unit tests; none in a file that holds nothing but tests. What the
    /// attribute keeps for tests in the middle of a file, such as `mod tests;` or an `impl`, ends nothing.
    pub(crate) fn shipped(&self) -> &str {
        let tests_only = self.path.contains("/tests/") || self.path.ends_with("/tests.rs");
        if self.path.starts_with("src/") && tests_only {
            return "";
        }
        let begins_block = |at: &usize| {
            let (before, from_here) = self.text.split_at(*at);
            let next = from_here.lines().nth(1).unwrap_or_default();
            (before.is_empty() || before.ends_with('\n'))
                && next.starts_with("mod ")
                && next.contains('{')
        };
        let mut marks = self.text.match_indices("#[cfg(test)]").map(|(at, _)| at);
        let end = marks.find(begins_block).unwrap_or(self.text.len());
        &self.text[..end]
    }
}

/// Reads every file that belongs to the project: all but what `.gitignore` names.
pub(crate) fn tree() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignored = fs::read_to_string(root.join(".gitignore")).expect(".gitignore is readable");
    let ignored: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('/')).collect();
    let mut files = Vec::new();
    walk(root, "", &ignored, &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn walk(root: &Path, folder: &str, ignored: &[&str], files: &mut Vec<File>) {
    for entry in fs::read_dir(root.join(folder)).expect("the tree is readable") {
        let entry = entry.expect("the tree is readable");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let kind = entry.file_type().expect("the tree is readable");
        let generated = name.ends_with(".profraw") || ignored.contains(&path.as_str());
        if name == ".git" || generated {
            continue;
        }
        if kind.is_dir() {
            walk(root, &path, ignored, files);
        } else if kind.is_file() {
            let bytes = fs::read(entry.path()).expect("the tree is readable");
            let text = String::from_utf8_lossy(&bytes).into_owned();
            files.push(File { path, text, executable: is_executable(&entry) });
        }
    }
}

fn is_executable(entry: &fs::DirEntry) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    entry.metadata().is_ok_and(|data| data.permissions().mode() & 0o111 != 0)
}

/// The text with comments and the insides of string and character literals blanked out; line breaks
/// stay, so that line numbers do.
pub(crate) fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => find(&chars, at, |c| c == '\n'),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment_end(&chars, at),
            'r' if !after_word(&chars, at) => raw_string_end(&chars, at).unwrap_or(at),
            '"' => quoted_end(&chars, at, '"'),
            '\'' => char_literal_end(&chars, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

fn find(chars: &[char], from: usize, wanted: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|i| wanted(chars[*i])).unwrap_or(chars.len())
}

fn after_word(chars: &[char], at: usize) -> bool {
    at > 0 && is_word(chars[at - 1]) && chars[at - 1] != 'b'
}

fn block_comment_end(chars: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0, from);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

fn raw_string_end(chars: &[char], from: usize) -> Option<usize> {
    let quote = find(chars, from + 1, |c| c != '#');
    if chars.get(quote) != Some(&'"') {
        return None;
    }
    let hashes = quote - from - 1;
    let closes = |i: usize| {
        chars[i] == '"' && chars[i + 1..].iter().take_while(|c| **c == '#').count() >= hashes
    };
    let close = (quote + 1..chars.len()).find(|i| closes(*i))?;
    Some(close + 1 + hashes)
}

fn quoted_end(chars: &[char], from: usize, quote: char) -> usize {
    let mut at = from + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// A character literal, told apart from a lifetime by its closing quote.
fn char_literal_end(chars: &[char], from: usize) -> Option<usize> {
    match (chars.get(from + 1)?, chars.get(from + 2)) {
        ('\\', _) => Some(quoted_end(chars, from, '\'')),
        (_, Some('\'')) => Some(from + 3),
        _ => None,
    }
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether a word stands in the code, not as a part of a longer one.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Every path below `root` (such as `crate` or `std`) that the code names, groups in braces
/// unfolded: `crate::{a::b, c}` gives `a::b` and `c`.
pub(crate) fn paths_below(code: &str, root: &str) -> Vec<String> {
    let start = format!("{root}::");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&start) {
        let before = code[..at].trim_end_matches("r#").chars().next_back();
        if before.is_some_and(|c| is_word(c) || c == ':') {
            continue;
        }
        unfold(&code[at + start.len()..], "", &mut found);
    }
    found
}

/// Reads one use-tree and returns the rest behind it.
fn unfold<'a>(text: &'a str, prefix: &str, found: &mut Vec<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = unfold(rest, prefix, found).trim_start();
            match rest.strip_prefix(',') {
                Some(more) if !more.trim_start().starts_with('}') => rest = more,
                Some(more) => return &more.trim_start()[1..],
                None => return rest.strip_prefix('}').unwrap_or(rest),
            }
        }
    }
    let end = text.find(|c| !is_word(c) && c != '*').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let path = if prefix.is_empty() { word.into() } else { format!("{prefix}::{word}") };
    match rest.strip_prefix("::") {
        Some(deeper) if !deeper.starts_with('<') => unfold(deeper, &path, found),
        _ => {
            found.push(path);
            let alias = rest.trim_start().strip_prefix("as ");
            alias.map_or(rest, |a| a.trim_start().trim_start_matches(is_word))
        }
    }
}

/// The paths, from the library's root, that a module reaches by climbing with `super::`.
pub(crate) fn paths_above(code: &str, module: &[&str]) -> Vec<String> {
    let climb = "super::".repeat(module.len());
    paths_below(code, climb.trim_end_matches("::"))
}

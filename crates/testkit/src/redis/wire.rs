//! As much of Redis's protocol as an operator's commands need: an array of words out, one answer back as text.

use std::io::{self, BufRead as _, BufReader, Read, Write};

/// An array's parts are a line each; nothing at all is an empty text; an error is its text.
pub(super) fn ask<S: Read + Write>(stream: &mut S, words: &[&str]) -> io::Result<String> {
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command += &format!("${}\r\n{word}\r\n", word.len());
    }
    stream.write_all(command.as_bytes())?;
    // Nothing comes unasked: what is buffered is this answer.
    read(&mut BufReader::new(stream))
}

fn read(stream: &mut BufReader<impl Read>) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let line = line.trim_end();
    let (kind, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::UnexpectedEof)?;
    let length = || rest.parse::<i64>().map_err(io::Error::other);
    match kind {
        "$" => {
            let Ok(length) = usize::try_from(length()?) else { return Ok(String::new()) };
            let mut text = vec![0; length + 2];
            stream.read_exact(&mut text)?;
            text.truncate(length);
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        "*" => {
            let parts: io::Result<Vec<String>> = (0..length()?).map(|_| read(stream)).collect();
            Ok(parts?.join("\n"))
        }
        _ => Ok(rest.to_owned()),
    }
}

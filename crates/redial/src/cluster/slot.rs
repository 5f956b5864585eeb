//! Which slot a key is in, and which of a command's words is its key.

use redis::{Arg, Cmd};

const SLOTS: u16 = 16_384;
/// CRC-16/XMODEM, which Redis divides keys by.
const POLYNOMIAL: u16 = 0x1021;

/// Of its tag: what stands between the first `{` and the next `}`, if that is anything.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// None: any node will do.
pub(super) fn of_command(cmd: &Cmd) -> Option<u16> {
    let mut words = cmd.args_iter().map(|arg| match arg {
        Arg::Simple(word) => word,
        _ => b"0".as_slice(),
    });
    let name = words.next()?.to_ascii_uppercase();
    match name.as_slice() {
        // The first key, if there are any, comes after the script and their number.
        b"EVAL" | b"EVALSHA" | b"EVAL_RO" | b"EVALSHA_RO" | b"FCALL" | b"FCALL_RO" => {
            let keys = words.nth(1)?;
            if keys == b"0" { None } else { words.next().map(slot) }
        }
        b"PING" | b"INFO" | b"CONFIG" | b"SCRIPT" | b"TIME" | b"CLUSTER" | b"ACL" | b"WAIT" | b"WAITAOF"
        | b"PUBLISH" | b"ASKING" | b"CLIENT" | b"LATENCY" | b"SLOWLOG" | b"COMMAND" | b"ROLE" | b"DBSIZE" => None,
        b"OBJECT" | b"MEMORY" | b"XINFO" => words.nth(1).map(slot),
        _ => words.next().map(slot),
    }
}

/// Scripts are kept by each node.
pub(super) fn is_for_all(cmd: &Cmd) -> bool {
    matches!(cmd.args_iter().next(), Some(Arg::Simple(name)) if name.eq_ignore_ascii_case(b"SCRIPT"))
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ POLYNOMIAL }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_where_redis_has_it() {
        // As CLUSTER KEYSLOT answers.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"tp:{foo}:s"), slot(b"foo"));
        assert_eq!(slot(b"{}foo"), crc16(b"{}foo") % SLOTS);
        assert_eq!(slot(b"{foo}{bar}"), slot(b"foo"));
        assert_eq!(slot(b"{foo"), crc16(b"{foo") % SLOTS);
    }

    #[test]
    fn a_command_goes_where_its_key_is() {
        assert_eq!(of_command(redis::cmd("HGET").arg("foo").arg("a")), Some(12_182));
        assert_eq!(of_command(redis::cmd("evalsha").arg("hash").arg(1).arg("foo").arg("bar")), Some(12_182));
        assert_eq!(of_command(redis::cmd("EVAL").arg("text").arg(0).arg("foo")), None);
        assert_eq!(of_command(redis::cmd("INFO").arg("server")), None);
    }
}
